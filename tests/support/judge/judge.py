"""The judge as a server: in an event loop that is there, in a thread of its own, or as a process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Self

from tests.support import wire
from tests.support.judge.exchange import OVER, Exchange
from tests.support.judge.faults import KINDS, Quiet, Schedule, Strike
from tests.support.judge.hashes import Hashes
from tests.support.judge.log import Log
from tests.support.judge.operations import Bucket
from tests.support.judge.profiles import PROFILES
from tests.support.judge.replies import Asked
from tests.support.judge.shelf import Part, Shelf, Stored, joined_etag
from tests.support.judge.signature import Key, Verifier
from tests.support.running import ROOT
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY, Server

TRAP_SECONDS = 2.0  # that a connection to the trap has to say what it wants
DEAF = 0.4  # seconds in which nobody listens


@dataclass(slots=True)
class Judge:
    """One bucket behind a port of its own. Open and shut it in the event loop that serves it; see `JudgeThread` otherwise.

    `keep` is the largest body, in bytes, that is kept and can be read back. `clock` is the server's time. `latency` is how
    many seconds each request takes before it is looked at, `capacity` how many parts a second are taken; above it, 503.
    """

    profile: str = "aws"
    schedule: Schedule = field(default_factory=Quiet)
    keep: int = 0
    clock: Callable[[], float] = time.time
    latency: float = 0.0
    capacity: float | None = None
    keys: Mapping[str, Key] = field(default_factory=lambda: {ACCESS_KEY: Key(SECRET_KEY)})
    log: Log = field(default_factory=Log)
    trapped: int = 0  # requests to where redirects lead: nobody should come
    bucket: str = "bucket"
    port: int = 0
    _bucket: Bucket = field(init=False)
    _listening: socket.socket | None = None
    _trap: socket.socket | None = None
    _trap_url: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _allowance: float = 0.0  # parts that may come at once, at the time of `_counted`
    _counted: float = 0.0

    def __post_init__(self) -> None:
        verifier = Verifier(self.keys, REGION)
        self._bucket = Bucket(self.bucket, PROFILES[self.profile], verifier, self.clock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """Credentials and endpoint in the variables that every S3 client reads."""
        access, key = next(iter(self.keys.items()))
        return {
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }

    @property
    def shelf(self) -> Shelf:
        """What the bucket holds."""
        return self._bucket.shelf

    def put(self, key: str, data: bytes, part: int | None = None) -> None:
        """An object that was there before; with `part`, made of parts of that size. Its bytes are not kept."""
        pieces = [data[at : at + part] for at in range(0, len(data), part)] if part else [data]
        parts = tuple(Part.of(n, Hashes.of(piece, keep=False), self.clock()) for n, piece in enumerate(pieces, 1))
        etag = joined_etag(parts) if part else parts[0].etag
        self.shelf.objects[key] = Stored(parts, etag, {}, self.clock())

    async def open(self) -> Self:
        """Listen."""
        self._trap = self._listen(_bound(0), self._caught)
        self._trap_url = f"http://127.0.0.1:{self._trap.getsockname()[1]}"
        self._listening = self._listen(_bound(self.port), self._served)
        self.port = self._listening.getsockname()[1]
        return self

    async def shut(self) -> None:
        """Stop, and cut all connections."""
        for listener in (self._listening, self._trap):
            self._close(listener)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # sockets are closed some turns of the loop later

    @staticmethod
    def _listen(listener: socket.socket, taken: Callable[[socket.socket], None]) -> socket.socket:
        """Not asyncio's own server: connections that arrive while it is closed are lost, and never closed themselves."""
        listener.listen(128)
        listener.setblocking(False)

        def accept() -> None:
            with contextlib.suppress(OSError):  # gone already
                taken(listener.accept()[0])

        asyncio.get_running_loop().add_reader(listener, accept)
        return listener

    @staticmethod
    def _close(listener: socket.socket | None) -> None:
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    async def _deafen(self) -> None:
        """Refuse connections for a moment. Those that are open stay."""
        if self._listening is not None:
            self._close(self._listening)
            self._listening = None
            kept = _bound(self.port)  # where nobody listens, connections are refused; but nobody else may get the port meanwhile
            self._start(self._listen_again(kept)).add_done_callback(lambda task: kept.close() if task.cancelled() else None)

    async def _listen_again(self, kept: socket.socket) -> None:
        await asyncio.sleep(DEAF)
        self._listening = self._listen(kept, self._served)

    def _caught(self, connection: socket.socket) -> None:
        self._start(self._look(connection)).add_done_callback(lambda _: connection.close())

    async def _look(self, connection: socket.socket) -> None:
        """Only a request for this bucket counts: other tests look for servers of theirs on ports that were free before."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(TRAP_SECONDS):
                head = await asyncio.get_running_loop().sock_recv(connection, 1 << 16)
            self.trapped += f"/{self.bucket}".encode() in head

    def _served(self, connection: socket.socket) -> None:
        # Closed here and not in the task: one that is cancelled before its first step does nothing at all.
        self._start(self._serve(connection)).add_done_callback(lambda _: connection.close())

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=wire.LIMIT)
        try:
            with contextlib.suppress(*OVER):
                while (head := await wire.read_head(reader)) is not None and await self._exchange(reader, writer, head):
                    pass
            writer.close()
            with contextlib.suppress(*OVER):
                await writer.wait_closed()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: wire.Head) -> bool:
        asked = Asked.of(head)
        entry = self.log.begin(asked, time.monotonic())
        if self.latency:
            await asyncio.sleep(self.latency)
        strike = self.schedule.decide(entry.op, entry.key, entry.part, entry.attempt)
        if entry.op == "part" and self._too_much():
            strike = Strike(KINDS["throttle-503"], entry.number)
        if strike and strike.kind.befalls(entry.op):
            self.log.struck(entry, strike.kind.name)
        else:
            strike = None
        exchange = Exchange(self._bucket, reader, writer, head, asked, entry, strike, self.keep, self._trap_url, self._deafen)
        try:
            return await exchange.run()
        finally:
            entry.ended = time.monotonic()

    def _too_much(self) -> bool:
        """Whether one more part is above the capacity. A second's worth of them may come at once."""
        if self.capacity is None:
            return False
        now = time.monotonic()
        self._allowance = min(self.capacity, self._allowance + (now - self._counted) * self.capacity)
        self._counted = now
        if self._allowance < 1:
            return True
        self._allowance -= 1
        return False


class JudgeThread(Judge):
    """A judge in a thread of its own. Use it as a context manager."""

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(ready)), name="judge", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _main(self, ready: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        await self.open()
        ready.set()
        await self._end.wait()
        await self.shut()


class JudgeServer(Server):
    """A judge as a process: `python -m tests.support.judge`."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self.options = options

    directory = ROOT

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.judge", "--port", str(self.port), *self.options]


def _bound(port: int) -> socket.socket:
    """A socket on loopback that does not listen yet; on any free port for 0."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
    except BaseException:
        bound.close()
        raise
    return bound

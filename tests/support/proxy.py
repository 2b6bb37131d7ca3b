"""A recording reverse proxy in front of a real S3 server, with faults on cue.

It passes requests on byte by byte, the signed Host header included, and never holds a whole body, so what is proved
through it holds without it. Every request is recorded: tests count what was sent, not what the client says it sent.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from tests.support import wire
from tests.support.far import hold_off
from tests.support.faults import Fault, classify
from tests.support.relay import Exchange, Link, Request, Streams
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY, Endpoint
from tests.support.wire import CutError, Head

A_MOMENT = 0.02  # seconds in which a connection that was accepted last becomes a task, which can be ended


@dataclass(slots=True)
class RecordingProxy:
    """Use as a context manager. `rate` limits the bodies of all requests together, in bytes per second. With `far`, the
    first connections take a second.
    """

    upstream: Endpoint | str
    rate: float | None = None
    far: bool = False
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connected: list[float] = field(default_factory=list)  # when clients were, by `time.monotonic`
    port: int = 0
    _seen: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    _budget_at: float = 0.0
    _thread: threading.Thread | None = None
    _end: Callable[[], object] = lambda: None

    # What tests use, from their own thread.

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bucket(self) -> str:
        return "bucket" if isinstance(self.upstream, str) else self.upstream.bucket

    @property
    def env(self) -> dict[str, str]:
        credentials = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
        }
        known = credentials if isinstance(self.upstream, str) else self.upstream.env
        return {**known, "AWS_ENDPOINT_URL_S3": self.endpoint}

    def count(self, op: str) -> int:
        """How many requests of an operation were begun."""
        return sum(request.op == op for request in list(self.requests))

    def parts_sent(self) -> Counter[int]:
        """Part number -> requests begun."""
        return Counter(request.part for request in list(self.requests) if request.part is not None)

    def completed_parts(self) -> Counter[int]:
        """Part number -> requests whose whole 2xx reply was passed back."""
        return Counter(r.part for r in list(self.requests) if r.part is not None and r.succeeded)

    def forget(self) -> None:
        """Start counting anew, occurrences of faults included."""
        self.requests.clear()
        self._seen.clear()

    def start(self) -> Self:
        ready: list[OSError | None] = []
        listening = threading.Event()

        def tell(error: OSError | None = None) -> None:
            ready.append(error)
            listening.set()

        def run() -> None:
            try:
                asyncio.run(self._main(tell))
            except OSError as error:
                tell(error)

        self._thread = threading.Thread(target=run, name="proxy", daemon=True)
        self._thread.start()
        listening.wait()
        if ready[0] is not None:
            raise ready[0]
        return self

    def close(self) -> None:
        """Cut all connections and stop. The records stay."""
        if self._thread is not None:
            self._end()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Everything below runs in the proxy's own thread.

    async def _main(self, listening: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        self._end = lambda: loop.call_soon_threadsafe(stop.set)
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connected.append(time.monotonic())
            task = asyncio.ensure_future(self._serve(Link((reader, writer), self._connect, self._pace)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        listener = self._listener()
        if self.far:
            listening()
            await hold_off(listener)
        server = await asyncio.start_server(accept, sock=listener, limit=wire.LIMIT)
        if not self.far:
            listening()
        await stop.wait()
        server.close()
        await asyncio.sleep(A_MOMENT)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _listener(self) -> socket.socket:
        """The same port at every start, so that a proxy can go away and come back."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.rate is not None:
            # Else the kernel takes megabytes at once, and the client is ahead of the rate by that much.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wire.BLOCK)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        return listener

    async def _serve(self, link: Link) -> None:
        try:
            while (head := await wire.read_head(link.client[0])) is not None:
                request = self._record(head)
                keep = await Exchange(link, head, request).run()
                request.ended = time.monotonic()
                if not keep:
                    break
        except (CutError, ConnectionError):
            pass  # either side went away; the record says how far the request came
        finally:
            await link.close()

    def _record(self, head: Head) -> Request:
        method, target = head.words[:2]
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        request = Request(classify(method, target), method, parts.path, query, head.headers, time.monotonic())
        for part in {None, request.part}:
            self._seen[request.op, part] += 1
        request.fault = next((f.action for f in list(self.faults) if self._strikes(f, request)), None)
        self.requests.append(request)
        return request

    def _strikes(self, fault: Fault, request: Request) -> bool:
        fits = fault.op == request.op and fault.part in (None, request.part)
        return fits and fault.covers(self._seen[fault.op, fault.part])

    async def _pace(self, count: int) -> None:
        if self.rate is None:
            return
        self._budget_at = max(self._budget_at, time.monotonic()) + count / self.rate
        await asyncio.sleep(self._budget_at - time.monotonic())

    async def _connect(self) -> Streams:
        url = self.upstream if isinstance(self.upstream, str) else self.upstream.endpoint
        parts = urlsplit(url)
        return await asyncio.open_connection(parts.hostname, parts.port, limit=wire.LIMIT)

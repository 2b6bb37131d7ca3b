"""Parts for the embedded store, by signed addresses: what a presigned URL is at an S3 store.

A token names one part of one upload, its length and checksum, the lease it was made under and when it ends; its
signature is an HMAC under a secret of this service. The bytes pass from the event loop to the thread that writes them
through a channel that holds little: a slow disk slows the client down, not the memory up.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from sqlalchemy import select

from jettyctl.core.model import KIB, Receipt, Upload
from jettyctl.errors import Interrupted, JettyError
from jettyctl.files.crc import crc64
from jettyctl.server.control import failures
from jettyctl.server.control.database import Database
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.keylocks import LOOK_SECONDS, WAIT_SECONDS, busy
from jettyctl.server.control.leases import UNFINISHED, gone, stale
from jettyctl.server.control.objects import refused
from jettyctl.server.control.tables import session_states, upload_sessions
from jettyctl.storage.local import LocalStore

WRITERS = 64  # parts received at the same time
ROOM = 512 * KIB  # bytes between the network and the disk, for each part
SILENCE_SECONDS = 60.0  # a client that sends nothing for so long has gone
SLOWEST = 1024  # bytes a second, over as long a time of waiting for them: who sends fewer holds a writer for nothing
_CLOSE = {"Connection": "close"}  # the rest of the body is not waited for
_FORBIDDEN = "The address is not valid (any more). Ask for a new one."


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a token allows. `crc64` in 16 hex digits; `until` in seconds since the epoch."""

    session: str
    upload: str
    part: int
    length: int
    crc64: str
    fence: int
    until: int


class Tickets:
    """Makes tokens, and reads those that it made."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, ticket: Ticket) -> str:
        said = _text(json.dumps([*asdict(ticket).values()], separators=(",", ":")).encode())
        return f"{said}.{_text(self._signature(said))}"

    def read(self, token: str) -> Ticket:
        """Raises ApiError 403 for a token that is not ours, or over."""
        said, _, signature = token.partition(".")
        try:
            given = _bytes(signature)
        except (binascii.Error, ValueError):
            given = b""
        if not hmac.compare_digest(given, self._signature(said)):
            raise failures.forbidden(_FORBIDDEN)
        ticket = Ticket(*json.loads(_bytes(said)))
        if ticket.until <= time.time():
            raise failures.forbidden(_FORBIDDEN)
        return ticket

    def _signature(self, said: str) -> bytes:
        return hmac.digest(self._secret, b"jettyctl part 1\0" + said.encode("utf-8", "surrogatepass"), hashlib.sha256)


class Channel:
    """A request's body, on its way from the event loop to one thread, which sees it as a `storage.base.Body`."""

    def __init__(self, length: int, crc: int) -> None:
        self.length = length
        self.crc64 = crc
        self._loop = asyncio.get_running_loop()
        self._space = asyncio.Event()
        self._pieces: deque[bytes] = deque()
        self._waiting = 0  # bytes
        self._ended = False
        self._failure: JettyError | None = None
        self._changed = threading.Condition()

    async def send(self, data: bytes) -> None:
        """Pass bytes on, once there is room. Returns at once when the reader has given up."""
        while self._waiting >= ROOM and not self._ended:
            self._space.clear()
            await self._space.wait()
        with self._changed:
            if not self._ended:
                self._pieces.append(data)
                self._waiting += len(data)
                self._changed.notify()

    def end(self, failure: JettyError | None = None, *, at_once: bool = False) -> None:
        """There are no more bytes: that was all, or `failure`. From any thread.

        Only the first call counts, unless the reader is to end `at_once`, whatever it still has to read.
        """
        with self._changed:
            if not self._ended or at_once:
                self._ended, self._failure = True, failure
                self._changed.notify()
        self._loop.call_soon_threadsafe(self._space.set)

    def digest(self, algorithm: str) -> bytes:
        raise NotImplementedError(f"the embedded store asks for no {algorithm}")

    def halted(self) -> bool:
        return self._failure is not None

    def slices(self) -> Iterator[bytes]:
        """The bytes, once. The last of them comes only if length and checksum of all were right."""
        held, total, found = b"", 0, 0
        while data := self._next():
            total, found = total + len(data), crc64(data, found)
            if total > self.length:
                raise BadDigest("more bytes than were announced")
            if held:
                yield held
            held = data
        if total != self.length or found != self.crc64:
            raise BadDigest("the bytes are not those that were announced")
        if held:
            yield held

    def _next(self) -> bytes:
        """The next piece; b"" at the end."""
        with self._changed:
            while not self._pieces and not self._ended:
                self._changed.wait()
            if self._failure:
                raise self._failure
            if not self._pieces:
                return b""
            data = self._pieces.popleft()
            full, self._waiting = self._waiting >= ROOM, self._waiting - len(data)
        if full:
            self._loop.call_soon_threadsafe(self._space.set)
        return data


class BadDigest(JettyError):
    """Bytes that are not those of the token."""


class Blobs:
    """Receives parts for a LocalStore."""

    def __init__(self, database: Database, store: LocalStore, secret: bytes) -> None:
        self.tickets = Tickets(secret)
        self._database = database
        self._store = store
        self._threads = ThreadPoolExecutor(WRITERS, "blob")
        self._free = asyncio.Semaphore(WRITERS)
        self._writing: dict[tuple[str, int], tuple[Channel, asyncio.Event]] = {}

    async def receive(self, token: str, length: int | None, pieces: AsyncIterator[bytes]) -> Receipt:
        """Store the part that a token is for. Raises ApiError 400 `bad digest`, 403, 409, 410, 503."""
        ticket = self.tickets.read(token)
        if length != ticket.length:
            raise bad_digest()
        upload = await self._upload_of(ticket)
        if self._free.locked():
            raise ApiError(503, "busy", "Too many parts at a time. Try again.", headers={"Retry-After": "1"})
        async with self._free:
            await self._displace(upload, ticket.part)
            channel, done = Channel(ticket.length, int(ticket.crc64, 16)), asyncio.Event()
            self._writing[upload.upload_id, ticket.part] = channel, done
            try:
                async with self._alone(upload, ticket.part):
                    return await self._store_part(upload, ticket.part, channel, pieces)
            finally:
                done.set()
                if self._writing[upload.upload_id, ticket.part][0] is channel:
                    del self._writing[upload.upload_id, ticket.part]

    async def _displace(self, upload: Upload, part: int) -> None:
        """End an older request for the same part: two that write at the same place could leave a mixture."""
        while found := self._writing.get((upload.upload_id, part)):
            channel, done = found
            channel.end(Interrupted("the same part is sent again"), at_once=True)
            await done.wait()

    @asynccontextmanager
    async def _alone(self, upload: Upload, part: int) -> AsyncIterator[None]:
        """Be the one who writes a part also among several processes, of which one that is killed is in nobody's way."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (right := self._right(upload, part)) is None:
            if time.monotonic() >= deadline:
                raise busy()
            await asyncio.sleep(LOOK_SECONDS)
        try:
            yield
        finally:
            os.close(right)

    def _right(self, upload: Upload, part: int) -> int | None:
        try:
            return self._store.own_part(upload, part)
        except JettyError as error:
            raise refused(error) from error

    async def _upload_of(self, ticket: Ticket) -> Upload:
        s, u = session_states.c, upload_sessions.c
        query = select(s.storage_key, s.upload_id, s.fence, s.lease_host, u.status).join_from(
            session_states, upload_sessions, u.id == s.session_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query.where(s.session_id == ticket.session))).first()
        if row is None or row.upload_id != ticket.upload or row.status not in UNFINISHED:
            raise gone()
        if row.fence != ticket.fence:
            raise stale(row.lease_host)
        return Upload(row.storage_key, row.upload_id, 0.0)

    async def _store_part(self, upload: Upload, part: int, channel: Channel, pieces: AsyncIterator[bytes]) -> Receipt:
        loop = asyncio.get_running_loop()
        storing: asyncio.Future[Receipt] = loop.run_in_executor(self._threads, self._put, upload, part, channel)
        pouring = asyncio.create_task(_pour(pieces, channel))
        try:
            await asyncio.wait((pouring, storing), return_when=asyncio.FIRST_COMPLETED)
            if pouring.done():
                pouring.result()
            return await asyncio.shield(storing)
        except BadDigest:
            raise bad_digest() from None
        except Interrupted:
            raise ApiError(503, "displaced", "The same part came by another request.", headers=_CLOSE) from None
        except JettyError as error:
            raise refused(error) from error
        finally:  # also when the client went away, or the service ends: the thread must not wait for more
            pouring.cancel()
            channel.end(Interrupted("the client went away"))
            await asyncio.gather(storing, pouring, return_exceptions=True)

    def _put(self, upload: Upload, part: int, channel: Channel) -> Receipt:
        try:
            return self._store.put_part(upload, part, channel)
        finally:
            channel.end()  # who still sends need not wait for room any more

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


async def _pour(pieces: AsyncIterator[bytes], channel: Channel) -> None:
    """The whole body into the channel. Raises ApiError 408, and whatever a client that goes away makes `pieces` raise."""
    waited, moved = 0.0, 0
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                data = await anext(pieces, None)
        except TimeoutError:
            raise _too_slow() from None
        if data is None:
            channel.end()
            return
        waited, moved = waited + time.monotonic() - began, moved + len(data)
        if waited >= SILENCE_SECONDS:
            if moved < SLOWEST * waited:
                raise _too_slow()
            waited, moved = 0.0, 0
        if data:
            await channel.send(data)


def _too_slow() -> ApiError:
    return ApiError(408, "too slow", "The bytes did not arrive in time.", headers=_CLOSE)


def secret_of(store: LocalStore) -> bytes:
    """What tokens for this store are signed with: made once, kept beside the objects, the same for all processes."""
    path = os.path.join(store.root, "part-secret")
    os.makedirs(store.root, mode=0o700, exist_ok=True)
    made = f"{path}.{secrets.token_hex(8)}"
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(secrets.token_bytes(32))
    try:
        os.link(made, path)  # of several processes that start together, one is first
    except FileExistsError:
        pass
    finally:
        os.unlink(made)
    with open(path, "rb") as file:
        return file.read()


def bad_digest() -> ApiError:
    """Other bytes than the token is for."""
    return ApiError(400, "bad digest", "Length or checksum are not those that the address was made for.")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


"""One request on its way through the proxy: passed on, or struck by its fault."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.support import wire
from tests.support.faults import Action, Answer, Delay, DropReply, Reset, Stall, Trickle
from tests.support.wire import CutError, Head

LINGER = 2.0  # how long the rest of a body is taken after an early reply, so that the client can read the reply

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Request:
    """One request as the proxy saw it. Times are `time.monotonic()`."""

    op: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    fault: Action | None = None
    body_bytes: int = 0  # received, chunk framing included
    body_complete: bool = False
    status: int | None = None  # of the reply, also of one that was not passed back
    answered: bool = False  # the whole reply was handed to the client's connection while that was open
    ended: float | None = None

    @property
    def part(self) -> int | None:
        return int(self.query["partNumber"]) if self.op == "part" else None

    @property
    def upload_id(self) -> str | None:
        return self.query.get("uploadId")

    @property
    def succeeded(self) -> bool:
        return self.answered and self.status is not None and 200 <= self.status < 300


@dataclass(slots=True)
class Link:
    """A connection of a client, and the one to the server that serves it."""

    client: Streams
    connect: Callable[[], Awaitable[Streams]]
    pace: Callable[[int], Awaitable[None]]
    server: Streams | None = None

    def reset(self) -> None:
        """RST to the client; the server's side is cut as well."""
        raw = self.client[1].get_extra_info("socket")
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client[1].transport.abort()
        self.hang_up()

    def hang_up(self) -> None:
        """Give up the server's side."""
        if self.server is not None:
            self.server[1].transport.abort()
            self.server = None

    async def fresh_server(self) -> Streams:
        if self.server is None or self.server[0].at_eof():
            self.hang_up()
            self.server = await self.connect()
        return self.server

    async def close(self) -> None:
        self.hang_up()
        self.client[1].close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self.client[1].wait_closed()


@dataclass(frozen=True, slots=True)
class Exchange:
    """Carries out one request."""

    link: Link
    head: Head
    request: Request

    async def run(self) -> bool:
        """Whether the client's connection can carry another request. Raises CutError, ConnectionError."""
        match self.request.fault:
            case Reset(after=None):
                self.link.reset()
                return False
            case Answer() as answer:
                return await self._answer(answer)
            case Stall(read=read):
                if read:
                    await self._discard()
                await asyncio.Event().wait()  # ends when the proxy does
            case Delay(seconds=seconds):
                await asyncio.sleep(seconds)
        return await self._forward()

    async def _discard(self) -> None:
        if self.head.headers.get("expect", "").lower() == "100-continue":
            self.link.client[1].write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for _ in self._body():
            pass

    async def _answer(self, answer: Answer) -> bool:
        await self._discard()
        writer = self.link.client[1]
        writer.write(wire.reply(answer.code, answer.content, dict(answer.headers), self.request.method))
        await writer.drain()
        self.request.status, self.request.answered = answer.code, True
        return self.head.keeps_alive

    async def _body(self) -> AsyncIterator[bytes]:
        """The request's body, no faster than the rate, counted."""
        async for block in wire.body(self.link.client[0], wire.request_length(self.head)):
            await self.link.pace(len(block))
            self.request.body_bytes += len(block)
            yield block
        self.request.body_complete = True

    async def _forward(self) -> bool:
        reader, writer = await self.link.fresh_server()
        writer.write(self.head.raw)
        sending = asyncio.ensure_future(self._send(writer))
        try:
            keep = await _unless_failed(sending, self._reply(reader))
            if sending.done():
                return keep and self.head.keeps_alive
            # The server answered early. Closing while the client still sends would destroy the reply on its way.
            self.link.client[1].write_eof()
            await asyncio.wait({sending}, timeout=LINGER)
            return False
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """Pass the body on. A server that stops reading may still have answered: the rest is then dropped."""
        cut = self.request.fault.after if isinstance(self.request.fault, Reset) else None
        try:
            async for block in self._body():
                with contextlib.suppress(ConnectionError):
                    writer.write(block)
                    await writer.drain()
                if cut is not None and self.request.body_bytes >= cut:
                    self.link.reset()
                    raise CutError
        except CutError:
            self.link.hang_up()
            raise

    async def _reply(self, reader: asyncio.StreamReader) -> bool:
        """Pass the reply back, the interim ones (100 Continue) first. Whether the server keeps the connection."""
        while True:
            head = await wire.read_head(reader)
            if head is None:
                raise CutError
            length = wire.reply_length(head, self.request.method)
            await self._deliver(head.raw)
            async for block in wire.body(reader, length):
                await self._deliver(block)
            if head.status >= 200:
                break
        dropped = isinstance(self.request.fault, DropReply)
        self.request.status = head.status
        self.request.answered = not dropped and not self.link.client[0].at_eof()
        return self.request.answered and head.keeps_alive and length != wire.UNTIL_CLOSE

    async def _deliver(self, block: bytes) -> None:
        writer = self.link.client[1]
        match self.request.fault:
            case DropReply():
                return
            case Trickle(interval=interval):
                for position in range(len(block)):
                    writer.write(block[position : position + 1])
                    await writer.drain()
                    await asyncio.sleep(interval)
            case _:
                writer.write(block)
                await writer.drain()


async def _unless_failed(sending: asyncio.Task[None], work: Coroutine[Any, Any, bool]) -> bool:
    """The result of `work`; given up as soon as `sending` fails, because then no reply comes."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, sending}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and not task.done():
            sending.result()
        return await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

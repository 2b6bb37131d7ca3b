"""One connection, plain or TLS, as two coroutines over one reusable buffer.

There is one block of memory for each connection and none in a queue: the socket is read only when somebody waits for
bytes, and `send` returns when the transport has let go of them. So a slow origin slows its client, and the memory of a
part is a block, whatever its size.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast

from jettyctl.server.edge.heads import malformed, too_large

BLOCK = 256 << 10

_BARE_LF = re.compile(rb"(?<!\r)\n")
_END = b"\r\n\r\n"


class Channel(asyncio.BufferedProtocol):
    """Views from `receive` are valid until the next call of it. At most one task receives, and one sends."""

    def __init__(self, connected: Callable[[Channel], None] | None = None, size: int = BLOCK) -> None:
        self._connected = connected
        self._memory = memoryview(bytearray(size))
        self._start = self._stop = 0  # of what was read and not received yet
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = False
        self._ended = False
        self._lost = False
        self.peer = "-"

    # For those who use it.

    @property
    def quiet(self) -> bool:
        """Whether the connection is open and nothing came that nobody asked for."""
        return not self._ended and self._start == self._stop

    async def ready(self) -> bool:
        """Wait until there is something to receive; False at the end of the stream."""
        if self._start == self._stop and not self._ended:
            self._transport.resume_reading()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._start < self._stop

    async def receive(self, most: int = BLOCK) -> memoryview:
        """The bytes that come next, at most so many; empty at the end of the stream."""
        if self._start == self._stop:
            await self.ready()
        begin, self._start = self._start, min(self._start + most, self._stop)
        return self._memory[begin : self._start]

    async def head(self, most: int) -> bytes:
        """Everything up to the first empty line; empty at the end of the stream. Raises Refused for what is no head."""
        found = bytearray()
        while view := await self.receive(most + len(_END) - len(found)):
            searched = max(0, len(found) - len(_END))
            found += view
            end = found.find(_END, searched)
            if _BARE_LF.search(found, searched, end if end >= 0 else len(found)):
                raise malformed("A line ends with a bare LF.")
            if end >= 0:
                self._start -= len(found) - end - len(_END)  # the body's first bytes
                return bytes(found[: end + len(_END)])
            if len(found) >= most + len(_END):
                raise too_large()
        return b""

    async def send(self, data: bytes | memoryview) -> None:
        """Write; returns when the memory may be used again. Raises ConnectionError."""
        if not self._lost:
            self._transport.write(data)
        if self._full and not self._lost:
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None
        if self._lost:
            raise ConnectionResetError

    def watch(self) -> None:
        """Notice from now on when the other side closes an idle connection."""
        if self.quiet:
            self._transport.resume_reading()

    def finish(self) -> None:
        """Say that nothing more will be sent, where that can be said."""
        if not self._lost and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """End the connection after what was sent."""
        self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self._transport.abort()

    # For asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else "-"
        self._encrypted = transport.get_extra_info("ssl_object") is not None
        # Full is what holds a single byte: asyncio's TLS pauses from the limit on, its plain transport above it.
        self._transport.set_write_buffer_limits(high=1 if self._encrypted else 0, low=0)
        if self._connected is not None:
            self._connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._memory

    def buffer_updated(self, nbytes: int) -> None:
        self._start, self._stop = 0, nbytes
        self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reader)
        return not self._encrypted  # a client may half-close; TLS has no such thing

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = self._lost = True
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._writer)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)

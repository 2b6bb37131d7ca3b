"""HTTP/1.1 as bytes: what the proxy must understand to pass a message on without changing it.

The request's signature covers header values as the client wrote them, so heads are kept raw and written out verbatim;
they are parsed only to learn where the body ends.
"""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator
from dataclasses import dataclass

BLOCK = 64 << 10
LIMIT = 256 << 10  # longest head or chunk-size line

CHUNKED = -1  # body lengths that are not a number of bytes
UNTIL_CLOSE = -2


class CutError(Exception):
    """The peer went away in the middle of a message."""


@dataclass(frozen=True, slots=True)
class Head:
    """Start line and headers of one message. `headers` has lower-case names; of a repeated header, the last."""

    raw: bytes
    words: tuple[str, ...]
    headers: dict[str, str]

    @property
    def status(self) -> int:
        """Of a reply."""
        return int(self.words[1])

    @property
    def keeps_alive(self) -> bool:
        connection = self.headers.get("connection", "").lower()
        version = self.words[2] if len(self.words) > 2 and self.words[2].startswith("HTTP/") else self.words[0]
        return connection == "keep-alive" if version == "HTTP/1.0" else connection != "close"


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next message's head; None if the peer closed in between two messages."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise CutError from error
    except ConnectionError:
        return None
    start, *lines = raw[:-4].decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Head(raw, tuple(start.split(" ", 2)), {name.strip().lower(): value.strip() for name, _, value in pairs})


def request_length(head: Head) -> int:
    """How long a request's body is."""
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        return CHUNKED
    return int(head.headers.get("content-length", "0"))


def reply_length(head: Head, method: str) -> int:
    """How long a reply's body is; it depends on what was asked."""
    if method == "HEAD" or head.status in (204, 304) or head.status < 200:
        return 0
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        return CHUNKED
    return int(head.headers.get("content-length", UNTIL_CLOSE))


async def body(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    """The body's bytes as they are on the wire, chunk framing included. Raises CutError if they end too early."""
    try:
        async for block in _chunked(reader) if length == CHUNKED else _plain(reader, length):
            yield block
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise CutError from error


async def _plain(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    left = length
    while left:
        block = await reader.read(BLOCK if left < 0 else min(BLOCK, left))
        if not block:
            if length == UNTIL_CLOSE:
                return
            raise CutError
        left -= len(block) if left > 0 else 0
        yield block


async def _chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        async for block in _plain(reader, size + 2):
            yield block
    while line != b"\r\n":  # trailers, up to the empty line
        line = await reader.readuntil(b"\r\n")
        yield line


def reply(code: int, content: bytes, headers: dict[str, str], method: str) -> bytes:
    """A whole reply. To HEAD, the length is stated and the content left out."""
    reason = http.client.responses.get(code, "Unnamed")
    lines = [f"HTTP/1.1 {code} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if method == "HEAD" else content)

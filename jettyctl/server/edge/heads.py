"""The head of a request, by the narrowest grammar that S3 clients need.

Smuggling lives where two servers read the same bytes differently. Whatever could be read in two ways is therefore no
request at all here: bare LF and CR, folded lines, spaces around names, names that some servers rewrite (underscores),
repeated framing headers. What passes is written anew for the origin, never copied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from jettyctl.server.edge.replies import Refused

MAX_HEAD = 16 << 10  # bytes, all of it
MAX_TARGET = 8 << 10  # bytes of path and query: a key of 1024 escaped bytes, and a long session token
MAX_HEADERS = 100

_START = re.compile(rb"([A-Za-z]{1,32}) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])")
_FIELD = re.compile(rb"([A-Za-z0-9-]+):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\x20-\x7e\t\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*")
_PATH = re.compile(r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_PERSISTENCE = {b"close", b"keep-alive"}


@dataclass(frozen=True, slots=True)
class Head:
    """What a client asks. `headers` are in their order, with the names as they were written."""

    method: str
    path: str
    query: str | None
    headers: tuple[tuple[bytes, bytes], ...]

    @property
    def target(self) -> str:
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def values(self, name: bytes) -> list[bytes]:
        """The values of a header; `name` is in lower case."""
        return [value for key, value in self.headers if key.lower() == name]

    def single(self, name: bytes) -> bytes | None:
        """The value of a header that must not be repeated."""
        values = self.values(name)
        if len(values) > 1:
            raise malformed("A header is repeated that must not be.")
        return values[0] if values else None

    @property
    def length(self) -> int | None:
        """The length of the body; None if the client states none. Raises Refused for all other framing."""
        text = self.single(b"content-length")
        if self.values(b"transfer-encoding"):
            if text is not None:
                raise malformed("Both Content-Length and Transfer-Encoding.")
            raise Refused(411, "EdgeLengthRequired", "Only bodies with a Content-Length are carried.")
        if text is not None and not _LENGTH.fullmatch(text):
            raise malformed("Content-Length is not a number.")
        return None if text is None else int(text)

    @property
    def closes(self) -> bool:
        """Whether the client wants the connection to end. Raises Refused for every other wish about it."""
        wishes = {wish.strip().lower() for value in self.values(b"connection") for wish in value.split(b",")} - {b""}
        if wishes - _PERSISTENCE or self.values(b"upgrade"):
            raise malformed("Connection may say close or keep-alive, and nothing is upgraded.")
        return b"close" in wishes


def malformed(message: str) -> Refused:
    """A request that is none, or not surely one."""
    return Refused(400, "EdgeBadRequest", message)


def parse(raw: bytes) -> Head:
    """The head in these bytes, which end with the empty line. Raises Refused."""
    start, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    match = _START.fullmatch(start)
    if not match:
        raise malformed("The request line is not one.")
    method, target, version = match.groups()
    if version != b"1.1":
        raise Refused(505, "EdgeVersion", "Only version 1.1 of HTTP is spoken here.")
    path, query = _target(target.decode("ascii"))
    return Head(method.decode("ascii"), path, query, tuple(_field(line) for line in _few(lines)))


def _target(target: str) -> tuple[str, str | None]:
    if len(target) > MAX_TARGET:
        raise Refused(414, "EdgeTargetTooLong", f"Path and query are longer than {MAX_TARGET} bytes.")
    path, mark, query = target.partition("?")
    if not _PATH.fullmatch(path):
        raise malformed("The target is not an absolute path of URL characters.")
    return path, query if mark else None


def _few(lines: list[bytes]) -> list[bytes]:
    if len(lines) > MAX_HEADERS:
        raise too_large()
    return lines


def too_large() -> Refused:
    """A head beyond the limits."""
    return Refused(431, "EdgeHeadTooLarge", f"A head may have {MAX_HEAD} bytes and {MAX_HEADERS} headers.")


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = _FIELD.fullmatch(line)
    if not match:
        raise malformed("A header line is not one.")
    return match[1], match[2]

"""Replies to clients, and the one exception that is a reply: Refused.

An error's body looks like a store's. Codes that begin with `Edge` are the edge's own; BadDigest and InvalidDigest mean
here what they mean at a store. No text of a request is ever repeated in a reply.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass

Headers = tuple[tuple[bytes, bytes], ...]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. `headers` are end-to-end headers without Content-Length."""

    status: int
    body: bytes = b""
    headers: Headers = ()
    reason: bytes = b""

    def encode(self, *, close: bool) -> bytes:
        """The bytes for the client; `close` says that the connection ends after them."""
        reason = self.reason or http.client.responses.get(self.status, "").encode()
        lines = [b"HTTP/1.1 %d %s" % (self.status, reason), *(b"%s: %s" % pair for pair in self.headers)]
        bodiless = self.status in (204, 304)
        if not bodiless:
            lines.append(b"Content-Length: %d" % len(self.body))
        if close:
            lines.append(b"Connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if bodiless else self.body)


class Refused(Exception):
    """The edge does not carry the request, or could not carry it to its end."""

    def __init__(self, status: int, code: str, message: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(code)
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
        self.code = code
        self.reply = Reply(status, body.encode(), ((b"Content-Type", b"application/xml"), *headers))


class OriginLost(Refused):
    """The origin went away, or sent what is no reply."""

    def __init__(self, message: str) -> None:
        super().__init__(502, "EdgeOriginLost", message)


class ClientGone(Exception):
    """The client went away in the middle of its request: there is nobody to answer."""


def json_reply(content: dict[str, object]) -> Reply:
    """A JSON document that nobody may keep."""
    headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
    return Reply(200, json.dumps(content).encode() + b"\n", headers)

"""Edges that break their promises, and a slow way to the store that edges are worth using for.

An edge is never trusted, so what proves an upload is an edge that lies. These take whole parts and then do one wrong
thing; an edge that is merely killed, frozen or slow is a real one behind a `RecordingProxy`.
"""

from __future__ import annotations

import contextvars
import hashlib
import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.support.proxy import RecordingProxy
from tests.support.relay import Request
from tests.support.wire import Head

_HOP_BY_HOP = ("connection", "accept-encoding")
_unpaced: contextvars.ContextVar[bool] = contextvars.ContextVar("unpaced", default=False)


def by_edge(request: Request) -> bool:
    """Whether the store was reached by way of an edge: those requests are presigned."""
    return "X-Amz-Signature" in request.query


@dataclass(slots=True)
class SlowDirect(RecordingProxy):
    """A store whose direct route has a `rate`, while what edges send reaches it at full speed."""

    def _record(self, head: Head) -> Request:
        request = super(SlowDirect, self)._record(head)
        _unpaced.set(by_edge(request))
        return request

    async def _pace(self, count: int) -> None:
        if not _unpaced.get():
            await super(SlowDirect, self)._pace(count)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: EvilServer

    def do_GET(self) -> None:
        self.reply(200, b'{"status": "ok", "version": "0", "load": 1, "active": 0}')

    def do_PUT(self) -> None:
        if self.path.startswith("/probe"):
            self.take()
            self.reply(204)
        elif self.server.turn() <= self.server.honest:
            forward(self, self.take())
        else:
            self.server.evil(self)

    def take(self, most: int | None = None) -> bytes:
        """The request's body, or its beginning."""
        length = int(self.headers["Content-Length"])
        return self.rfile.read(length if most is None else min(most, length))

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing is logged."""


Evil = Callable[[_Handler], None]


def send_on(edge: _Handler, body: bytes) -> tuple[int, bytes, str]:
    """The request to the store, with this body: status, content and ETag of the reply."""
    connection = http.client.HTTPConnection(edge.headers["Host"], timeout=30)
    try:
        headers = {name: value for name, value in edge.headers.items() if name.lower() not in _HOP_BY_HOP}
        connection.request("PUT", edge.path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read(), reply.headers.get("ETag", "")
    finally:
        connection.close()


def forward(edge: _Handler, body: bytes) -> None:
    """What an edge is for: the request goes to the store, and the store's reply back."""
    status, content, etag = send_on(edge, body)
    edge.reply(status, content, ETag=etag)


def etag_of(body: bytes) -> str:
    """What a store that got these bytes would answer."""
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def changed(body: bytes) -> bytes:
    """The same with one bit flipped in its middle."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def lie(edge: _Handler) -> None:
    """The right ETag, and nothing is stored."""
    edge.reply(200, ETag=etag_of(edge.take()))


def corrupt(edge: _Handler) -> None:
    """A byte changes on the way, and the store's reply is passed on as it is."""
    forward(edge, changed(edge.take()))


def corrupt_and_lie(edge: _Handler) -> None:
    """A byte changes on the way, and the reply is the one that the right bytes would have had."""
    body = edge.take()
    send_on(edge, changed(body))
    edge.reply(200, ETag=etag_of(body))


def hang_up(edge: _Handler) -> None:
    """The connection ends in the middle of the body."""
    edge.take(most=1 << 20)
    edge.close_connection = True


def answer(status: int, body: bytes = b"", **headers: str) -> Evil:
    """Take the part and answer this."""

    def evil(edge: _Handler) -> None:
        edge.take()
        edge.reply(status, body, **headers)

    return evil


class EvilServer(ThreadingHTTPServer):
    """What all connections share."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, evil: Evil, honest: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.evil, self.honest = evil, honest
        self.parts = 0
        self._lock = threading.Lock()

    def turn(self) -> int:
        """The number of the part that comes now, from 1."""
        with self._lock:
            self.parts += 1
            return self.parts

    def handle_error(self, *args: object) -> None:
        """A client that went away is no news."""


class EvilEdge:
    """An edge that does `evil` with every part after the first `honest` ones. Use it as a context manager."""

    def __init__(self, evil: Evil, honest: int = 0) -> None:
        self._server = EvilServer(evil, honest)

    @property
    def parts(self) -> int:
        """How many parts it was sent."""
        return self._server.parts

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

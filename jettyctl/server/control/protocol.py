"""HTTP on a connection, as uvicorn speaks it, with limits that it lacks: how large a request's head is, and how slow."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
HEAD_SECONDS = 30.0  # for the whole head, from the connection's begin or the first byte


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections that send an endless head, or none."""

    _timer: asyncio.TimerHandle | None = None
    _in_head = False
    _received = 0
    _last = False  # what comes now is no request any more

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._last:
            return
        self._received = self._received + len(data) if self._in_head else 0
        super().data_received(data)
        if not self._in_head:
            return
        if self._received > HEAD_BYTES:
            self.send_400_response("The head of the request is too large.")
        elif self._timer is None:
            self._start_timer()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        if self.parser.should_upgrade():  # to nothing that is spoken here: it is answered as it is, without its body, ...
            self.cycle.keep_alive = False
            self._last = True  # ... which the parser would take for the next request

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

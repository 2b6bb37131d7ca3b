"""Redirects and odd addresses: whoever asks an edge or a control plane is sent nowhere else, and no key goes there."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Self

import pytest

from jettyctl.control.api import ControlApi
from jettyctl.control.keys import ApiKey
from jettyctl.errors import JettyError
from jettyctl.net.tls import tls_context
from jettyctl.server.control.monitor import look

REDIRECTS = (301, 302, 303, 307, 308)


class Listener:
    """A port that answers every request in one way, and remembers what it was asked."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}") -> None:
        self.asked: list[bytes] = []
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65536))
                connection.sendall(self._answer)


def redirect(status: int, where: str) -> bytes:
    return f"HTTP/1.1 {status} X\r\nLocation: {where}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def test_an_edge_sends_the_monitor_nowhere(tmp_path: Path) -> None:
    """A redirect of an edge's /health is no answer, and is not followed; nothing but http and https is asked."""
    tls = tls_context(True, None)
    with Listener() as other:
        for status in REDIRECTS:
            with Listener(redirect(status, f"{other.url}/health")) as edge:
                assert asyncio.run(look(edge.url, tls)) is None
                assert len(edge.asked) == 1
                assert b"authorization" not in edge.asked[0].lower()
        secret = tmp_path / "health"
        secret.write_text('{"load": 1}')
        bad = [
            f"file://{tmp_path}",
            f"ftp://{other.url[7:]}",
            f"gopher://{other.url[7:]}",
            f"http://user:word@{other.url[7:]}",
            f"{other.url}?x=",
            f"{other.url}#x",
            f"unix://{tmp_path}",
            f" {other.url}",
            "http://",
            "//127.0.0.1",
        ]
        assert [asyncio.run(look(url, tls)) for url in bad] == [None] * len(bad)
        assert other.asked == []


@pytest.mark.parametrize("status", REDIRECTS)
def test_a_key_goes_to_no_other_host(status: int) -> None:
    """A control plane that sends its clients elsewhere is told so; the key is sent there by no kind of request."""
    with Listener() as other, Listener(redirect(status, f"{other.url}/api/jetty/service")) as plane:
        api = ControlApi(plane.url, ApiKey("jty_canary-canary"))
        for call in (lambda: api.get("/service"), lambda: api.post("/uploads", {}), lambda: api.delete("/uploads/x")):
            with pytest.raises(JettyError) as caught:
                call()
            assert "canary" not in f"{caught.value!r} {caught.value.message} {caught.value.hint}"
        api.close()
        assert len(plane.asked) == 3
        assert other.asked == []

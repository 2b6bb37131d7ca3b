"""One connection to an edge that is probed: its making is timed, and nothing on it outlives the deadline."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from urllib.parse import urlsplit

CONNECT = 1.3  # seconds; a first packet that was lost is sent again after one
FIRST_TRY = 0.8  # seconds for an address while there are others to try
ANSWER_LIMIT = 64 << 10  # bytes of an answer that are read


class Connection(http.client.HTTPConnection):
    """Connects when it has to, also again. Its methods raise OSError and http.client's exceptions."""

    def __init__(self, url: str, tls: ssl.SSLContext | None, deadline: float) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self.default_port = 443 if secure else 80
        super().__init__(parts.hostname or "", parts.port or self.default_port)
        self._tls = tls if secure else None
        self._deadline = deadline
        self.connect_ms: float | None = None
        self.tls_ms: float | None = None

    def connect(self) -> None:
        begin = time.monotonic()
        self.sock = _reach(self.host, self.port, self._deadline)
        self.connect_ms = 1000 * (time.monotonic() - begin)
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                self._shake_hands(self._tls)
        except OSError:
            self.close()
            raise

    def _shake_hands(self, tls: ssl.SSLContext) -> None:
        begin = time.monotonic()
        # The handshake comes after the assignment, so that `cut` can end it.
        self.sock = tls.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock.settimeout(left(self._deadline))
        self.sock.do_handshake()
        self.tls_ms = 1000 * (time.monotonic() - begin)

    def ready(self, until: float) -> socket.socket:
        """The socket, made if there is none, whose operations end in time."""
        if self.sock is None:
            self.connect()
        sock: socket.socket = self.sock
        sock.settimeout(left(until))
        return sock

    def finish(self, response: http.client.HTTPResponse) -> bytes:
        """The answer's body. One that is longer than anybody needs costs the connection."""
        with response:
            body = response.read(ANSWER_LIMIT)
            whole = response.isclosed()
        if not whole:
            self.close()
        if response.length and len(body) < ANSWER_LIMIT:
            raise http.client.IncompleteRead(body, response.length)
        return body

    def cut(self) -> None:
        """End whatever another thread waits for on this connection."""
        sock = self.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _reach(host: str, port: int, deadline: float) -> socket.socket:
    """A TCP connection to the first address that takes one. Raises OSError."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = TimeoutError()
    for number, (family, kind, protocol, _, address) in enumerate(entries, 1):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(min(left(deadline), FIRST_TRY if number < len(entries) else CONNECT))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def left(until: float) -> float:
    """Seconds that are left, more than 0. Raises TimeoutError."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left

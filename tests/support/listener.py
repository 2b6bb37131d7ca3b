"""A TCP server that answers as a test wants, and clients' requests to it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

from jettyctl.net.http import HttpClient, Reply
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.credentials import Keys, StaticKeys
from jettyctl.storage.s3.sign import Signer
from tests.support.bodies import body_of, noise

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BODY = noise(4 << 20)
SECRETS = Keys("AKIACANARYCANARY0000", "canary-secret-key", "canary-session-token")
Handler = Callable[[socket.socket, "Listener"], None]


class Listener:
    """A TCP server: `handler` gets each connection in a thread of its own. `requests` are heads, in order of arrival."""

    def __init__(self, handler: Handler, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self._handler = handler
        self._context = context
        self._socket = socket.create_server((host, 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://{host}:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def head(self, connection: socket.socket) -> bytes:
        """The next request's head; the first bytes of its body may be lost. b"" at the end of the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            try:
                more = connection.recv(4096)
            except OSError:
                more = b""
            if not more:
                return b""
            data += more
        self.requests.append(data)
        return data

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.settimeout(10)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if self._context is None:
                self._handler(connection, self)
            else:
                with self._context.wrap_socket(connection, server_side=True) as secure:
                    self._handler(secure, self)


def says(*pieces: bytes) -> Handler:
    """A server that answers every request with the same bytes."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        while listener.head(connection):
            for piece in pieces:
                connection.sendall(piece)

    return handler


def get(client: HttpClient, url: str, timeout: float | None = None) -> Reply:
    """A GET of one path, to whatever host the URL names."""
    return client.request("GET", url + "/x", [("host", url.partition("://")[2])], timeout=timeout)


def put(client: HttpClient, url: str, data: bytes = BODY) -> Reply:
    """A PUT of these bytes."""
    headers = [("host", url.partition("://")[2]), ("content-length", str(len(data)))]
    return client.request("PUT", url + "/x", headers, body_of(data).slices())


def store_at(url: str) -> S3Store:
    """A store behind this URL, with keys that no error may show."""
    return S3Store(S3Config("bucket", "us-east-1", url, checksum="none"), Signer(StaticKeys(SECRETS), "us-east-1"))

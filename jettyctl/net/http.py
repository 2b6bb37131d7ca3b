"""HTTP for stores and the control plane: blocking requests from many threads over httpcore, the transport that httpx is made of.

The network backend is ours, because the socket is where an uploader lives: slices go out without being copied, a
connection that moves too little is ended, a black-holed address family costs less than a second, and an interrupt
ends all calls in flight at once. Redirects are never followed. No foreign exception leaves this file.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore

from jettyctl.errors import Interrupted, NetworkError, ServerFault, Stalled, UntrustedServer, UsageError
from jettyctl.net.pool import Connections
from jettyctl.net.proxy import PROXY_HINT, proxy_for
from jettyctl.net.tls import tls_context

CONNECT_TIMEOUT = 10.0  # seconds
FIRST_TRY = 0.8  # seconds for an address while there are others to try
IDLE_TIMEOUT = 30.0  # seconds without a byte in either direction
COMPLETE_TIMEOUT = 300.0  # seconds without a byte while a store assembles an object
KEEP_ALIVE = 20.0  # seconds that an idle connection is kept
UNSENT = 256 * 1024  # bytes that wait in a socket's send buffer, beside those that are on the way
MIN_RATE = 1024.0  # bytes a second, over a window as long as a stall may take to be found
RATE_WINDOW = 60.0  # seconds
REPLY_LIMIT = 8 << 20  # bytes of a reply that is held in memory

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection may take, in seconds, and the least it must move over a window, in bytes a second."""

    connect: float = CONNECT_TIMEOUT
    first_try: float = FIRST_TRY
    idle: float = IDLE_TIMEOUT
    min_rate: float = MIN_RATE
    window: float = RATE_WINDOW


class HttpClient:
    """Connections to one endpoint, shared by all threads."""

    def __init__(
        self, endpoint: str, *, verify: bool = True, ca_file: str | None = None, patience: Patience | None = None
    ) -> None:
        self._patience = patience or Patience()
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{endpoint!r} is not an endpoint",
                hint="Write it like https://s3.example.com or http://127.0.0.1:9000.",
            )
        self._https = parts.scheme == "https"
        self._backend = _Backend(self._patience)
        proxy = proxy_for(parts.scheme, parts.hostname, parts.port)
        context = tls_context(verify, ca_file) if self._https else None
        self._pool: Connections | httpcore.ConnectionPool = Connections(context, KEEP_ALIVE, self._backend)
        if proxy:
            self._pool = httpcore.ConnectionPool(
                ssl_context=context,
                proxy=proxy,
                max_connections=None,  # the engine's slots are the limit
                max_keepalive_connections=None,
                keepalive_expiry=KEEP_ALIVE,
                network_backend=self._backend,
            )

    def request(
        self,
        method: str,
        url: str,
        headers: Headers,
        content: bytes | Iterator[bytes] | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """One request and its whole reply. `content` that is not bytes is read once, slice by slice.

        `timeout` is the longest silence before and in the reply; None is the client's idle patience.
        Raises NetworkError (Stalled, UntrustedServer, ServerFault), Interrupted, and whatever `content` raises.
        """
        with self._stream(method, url, headers, content, timeout) as response:
            body = b"".join(_limited(response.iter_stream()))
            return Reply(response.status, _lower(response.headers), body)

    @contextlib.contextmanager
    def download(self, url: str, headers: Headers) -> Iterator[tuple[Reply, Iterator[bytes]]]:
        """A GET whose body is read piece by piece; for a failure the body is in the reply instead."""
        with self._stream("GET", url, headers, None, None) as response:
            failed = response.status >= 300
            body = b"".join(_limited(response.iter_stream())) if failed else b""
            yield Reply(response.status, _lower(response.headers), body), iter(()) if failed else response.iter_stream()

    def cancel(self, thread: int) -> None:
        """End the request that a thread has in flight, with NetworkError."""
        self._backend.cancel(thread)

    def interrupt(self) -> None:
        """End all requests in flight; later ones raise Interrupted."""
        self._backend.interrupt()

    def close(self) -> None:
        self._pool.close()

    @contextlib.contextmanager
    def _stream(
        self, method: str, url: str, headers: Headers, content: bytes | Iterator[bytes] | None, timeout: float | None
    ) -> Iterator[httpcore.Response]:
        patience = self._patience
        silence = patience.idle if timeout is None else timeout
        extensions = {"timeout": {"connect": patience.connect, "read": silence, "write": patience.idle, "pool": None}}
        with self._translated():
            if self._backend.interrupted:
                raise Interrupted("stopped on request")
            with self._pool.stream(method, url, headers=_encode(headers), content=content, extensions=extensions) as response:
                yield response

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpcore.ReadTimeout, httpcore.WriteTimeout) as error:
            raise self._unless_interrupted(Stalled(str(error) or "the connection moved nothing for too long")) from None
        except (httpcore.NetworkError, httpcore.TimeoutException) as error:
            raise self._unless_interrupted(NetworkError(str(error) or "the connection failed")) from None
        except httpcore.LocalProtocolError as error:
            if str(error).startswith("Illegal header"):  # its text goes on with the value, which may be a secret
                hint = "Look for line breaks in the credentials, and in what the options say of the object."
                raise UsageError("a header cannot be sent: HTTP has no place for one of its characters", hint=hint) from None
            raise self._unless_interrupted(_broken(error)) from None
        except httpcore.ProtocolError as error:
            raise self._unless_interrupted(_broken(error)) from None
        except httpcore.ProxyError as error:
            raise self._unless_interrupted(NetworkError(f"the proxy refused: {error}", hint=PROXY_HINT)) from None
        except OSError as error:
            raise self._unless_interrupted(NetworkError(f"the connection failed: {error.strerror or error}")) from None

    def _unless_interrupted(self, error: NetworkError) -> NetworkError | Interrupted:
        return Interrupted("stopped on request") if self._backend.interrupted else error


def _broken(error: Exception) -> ServerFault:
    what = str(error).partition(":")[0]  # after the colon: what the server sent, which may echo what we sent
    return ServerFault(f"the reply is not HTTP, or was cut off: {what}")


class _Backend(httpcore.NetworkBackend):
    """Opens sockets, remembers them for `interrupt`, and remembers which address of a host answered."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._open: set[_Connection] = set()
        self._answered: dict[tuple[str, int], Any] = {}
        self._lock = threading.Lock()
        self.interrupted = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Try the address that answered last, then each of the host's for a short while, then each for the whole time."""
        addresses = self._addresses(host, port)
        whole = timeout or self.patience.connect
        failure: OSError = OSError(f"{host} has no address")
        for patience in (min(self.patience.first_try, whole), whole) if len(addresses) > 1 else (whole,):
            for entry in addresses:
                try:
                    connection = self._connect(entry, patience)
                except OSError as error:
                    failure = error
                else:
                    self._answered[host, port] = entry[4]
                    return connection
        reason = "timed out" if isinstance(failure, TimeoutError) else failure.strerror or failure
        raise httpcore.ConnectError(f"cannot connect to {host}:{port}: {reason}")

    def track(self, connection: _Connection) -> _Connection:
        """Remember an open connection."""
        with self._lock:
            self._open.add(connection)
        if self.interrupted:
            connection.shut_down()
        return connection

    def forget(self, connection: _Connection) -> None:
        """A connection was closed, or its socket handed on."""
        with self._lock:
            self._open.discard(connection)

    def cancel(self, thread: int) -> None:
        """Cut the connection that a thread used last."""
        with self._lock:
            connections = [connection for connection in self._open if connection.user == thread]
        for connection in connections:
            connection.shut_down()

    def interrupt(self) -> None:
        self.interrupted = True
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.shut_down()

    def _connect(self, entry: Any, timeout: float) -> _Connection:  # noqa: ANN401 - getaddrinfo's tuple
        """Connect to one address. The socket is remembered before, so that an interrupt ends the attempt too."""
        family, kind, protocol, _, address = entry
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # what is taken is soon on its way: goodput is not a full send buffer
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.settimeout(timeout)
        connection = self.track(_Connection(sock, self))
        try:
            if self.interrupted:
                raise Interrupted("stopped on request")
            sock.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection

    def _addresses(self, host: str, port: int) -> list[Any]:
        try:
            found = self._lookup(host, port)
        except (OSError, UnicodeError) as error:  # the latter: a label of a name that is too long
            raise httpcore.ConnectError(f"cannot look up {host}: {getattr(error, 'strerror', None) or error}") from None
        answered = self._answered.get((host, port))
        return sorted(found, key=lambda entry: entry[4] != answered)

    def _lookup(self, host: str, port: int) -> list[Any]:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class _Connection(httpcore.NetworkStream):
    """One socket. A call fails when nothing moves for `timeout`, or less than the minimum rate over a window."""

    def __init__(self, sock: socket.socket, backend: _Backend) -> None:
        self._sock = sock
        self.user = 0  # the thread that read or wrote last
        self._backend = backend
        self._patience = backend.patience
        self._sending = _Window(self._patience.min_rate)
        self._receiving = _Window(self._patience.min_rate)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._sock.settimeout(timeout)
        self.user = threading.get_ident()
        self._sending.restart()
        self._receiving.begin(max(self._patience.window, timeout or 0))
        try:
            data = self._sock.recv(max_bytes)
        except TimeoutError:
            raise httpcore.ReadTimeout(f"no answer for {timeout:g} s") from None
        except OSError as error:
            raise httpcore.ReadError(f"the connection was cut: {error.strerror or error}") from None
        if self._receiving.too_slow(len(data)):
            raise httpcore.ReadTimeout(f"the answer comes at less than {self._patience.min_rate:.0f} bytes/s")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._sock.settimeout(timeout)
        self.user = threading.get_ident()
        self._receiving.restart()
        view = memoryview(buffer)
        while view:
            self._sending.begin(self._patience.window)
            try:
                sent = self._sock.send(view)
            except TimeoutError:
                if self._readable():  # an answer before the end of the body: WriteError makes httpcore read it
                    raise httpcore.WriteError("the server takes no more") from None
                raise httpcore.WriteTimeout(f"no byte was taken for {timeout:g} s") from None
            except OSError as error:
                raise httpcore.WriteError(f"the connection was cut: {error.strerror or error}") from None
            view = view[sent:]
            if self._sending.too_slow(sent):
                raise httpcore.WriteTimeout(f"the connection takes less than {self._patience.min_rate:.0f} bytes/s")

    def close(self) -> None:
        self._backend.forget(self)
        self._sock.close()

    def shut_down(self) -> None:
        """Wake up the thread that reads or writes."""
        with contextlib.suppress(OSError):
            # Not SSLSocket's own shutdown: it drops the encryption first, and a sender may still be at work.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        self._sock.settimeout(timeout)
        self._backend.forget(self)
        secure = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname, do_handshake_on_connect=False)
        connection = self._backend.track(_Connection(secure, self._backend))
        try:
            secure.do_handshake()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise UntrustedServer(
                f"the certificate of {server_hostname} does not verify: {error.verify_message}",
                hint="Give the authority that signed it with --ca-file.",
            ) from None
        except OSError as error:
            connection.close()
            raise httpcore.ConnectError(f"no TLS with {server_hostname}: {error.strerror or error}") from None
        return connection

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's interface
        if info == "is_readable":  # an idle connection with something to read was closed by the server
            return self._readable()
        if info == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
        return None

    def _readable(self) -> bool:
        waiting = select.poll()
        waiting.register(self._sock, select.POLLIN)
        return bool(waiting.poll(0))


class _Window:
    """Bytes and time spent in calls of one direction. Only time inside calls counts: a rate limit is no stall."""

    def __init__(self, min_rate: float) -> None:
        self._min_rate = min_rate
        self._length = RATE_WINDOW
        self.restart()

    def restart(self) -> None:
        self._bytes = 0
        self._seconds = 0.0

    def begin(self, length: float) -> None:
        self._length = length
        self._entered = time.monotonic()

    def too_slow(self, moved: int) -> bool:
        """Account a call that ended; True when a full window moved less than the minimum rate."""
        self._seconds += time.monotonic() - self._entered
        self._bytes += moved
        if self._seconds < self._length:
            return False
        slow = self._bytes < self._min_rate * self._seconds
        self.restart()
        return slow


def _limited(pieces: Iterable[bytes]) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > REPLY_LIMIT:
            raise ServerFault(f"the reply is larger than {REPLY_LIMIT} bytes")
        yield piece


def _encode(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("utf-8")) for name, value in headers]


def _lower(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("ascii").lower(): value.decode("latin-1") for name, value in headers}

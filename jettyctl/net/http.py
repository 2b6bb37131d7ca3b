"""HTTP for stores and the control plane: blocking requests from many threads. Redirects are never followed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from jettyctl.errors import Interrupted, NetworkError, ServerFault, UsageError
from jettyctl.net.exchange import Exchange, Headers, head_of
from jettyctl.net.pool import Connections, Origin
from jettyctl.net.proxy import PROXY_HINT, Proxy, proxy_for
from jettyctl.net.sockets import Connection, Patience, Sockets
from jettyctl.net.tls import tls_context_soon

COMPLETE_TIMEOUT = 300.0  # seconds without a byte while a store assembles an object
KEEP_ALIVE = 20.0  # seconds that an idle connection is kept
REPLY_LIMIT = 8 << 20  # bytes of a reply that is held in memory
PORTS = {"http": 80, "https": 443}

__all__ = ["COMPLETE_TIMEOUT", "REPLY_LIMIT", "Headers", "HttpClient", "Patience", "Reply"]


class Reply(NamedTuple):
    """A whole answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Connections to one endpoint, shared by all threads. Raises UsageError for an endpoint or a proxy that is none."""

    def __init__(
        self, endpoint: str, *, verify: bool = True, ca_file: str | None = None, patience: Patience | None = None
    ) -> None:
        self._patience = patience or Patience()
        self._origin = scheme, host, port = _origin_of(endpoint)
        self._proxy = proxy_for(scheme, host, port)
        secure = "https" in (scheme, self._proxy and self._proxy.scheme)
        self._context = tls_context_soon(verify, ca_file) if secure else None
        self._sockets = Sockets(self._patience)
        self._connections = Connections(self._connect, KEEP_ALIVE)

    def request(
        self,
        method: str,
        url: str,
        headers: Headers,
        content: bytes | Iterator[bytes] | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """One request and its whole reply. `content` that is not bytes is read once, slice by slice; `headers` say its length.
        They need not say that of bytes, nor the host.

        `timeout` is the longest silence before and in the reply; None is the client's idle patience.
        Raises NetworkError (Stalled, UntrustedServer, ServerFault), Interrupted, and whatever `content` raises.
        """
        with self._exchange(method, url, headers, content, timeout) as exchange:
            return Reply(exchange.status, exchange.headers, b"".join(_limited(exchange.body())))

    @contextlib.contextmanager
    def download(self, url: str, headers: Headers) -> Iterator[tuple[Reply, Iterator[bytes]]]:
        """A GET whose body is read piece by piece; for a failure the body is in the reply instead."""
        with self._exchange("GET", url, headers, None, None) as exchange:
            failed = exchange.status >= 300
            body = b"".join(_limited(exchange.body())) if failed else b""
            yield Reply(exchange.status, exchange.headers, body), iter(()) if failed else exchange.body()

    def round_trip(self) -> float | None:
        """Seconds that connecting took, at best."""
        return self._sockets.quickest

    def farther_than(self, seconds: float) -> bool:
        """Whether connecting takes longer than that. A connection must have been asked for: it is what is waited for."""
        return self._sockets.slower_than(seconds)

    def open_ahead(self, count: int) -> None:
        """Open connections to the endpoint before they are needed."""
        self._connections.open_ahead(self._origin, count)

    def cancel(self, thread: int) -> None:
        """End the request that a thread has in flight, with NetworkError."""
        self._sockets.cancel(thread)

    def interrupt(self) -> None:
        """End all requests in flight; later ones raise Interrupted."""
        self._sockets.interrupt()

    def close(self) -> None:
        self._connections.close()

    @contextlib.contextmanager
    def _exchange(
        self, method: str, url: str, headers: Headers, content: bytes | Iterator[bytes] | None, timeout: float | None
    ) -> Iterator[Exchange]:
        origin, target = _split(url)
        if self._proxy and origin[0] == "http":
            target, headers = url, headers + self._proxy.headers
        head = head_of(method, target, _completed(headers, origin, content))
        silence = self._patience.idle if timeout is None else timeout
        try:
            if self._sockets.interrupted:
                raise Interrupted("stopped on request")
            connection = self._connections.take(origin)
            exchange = Exchange(connection, method, silence, self._patience.idle)
            with _closed_on_failure(connection):
                exchange.send(head, content)
                yield exchange
            if exchange.reusable:
                self._connections.give(origin, connection)
            else:
                connection.close()
        except NetworkError:
            if self._sockets.interrupted:
                raise Interrupted("stopped on request") from None
            raise

    def _connect(self, origin: Origin) -> Connection:
        scheme, host, port = origin
        if self._proxy is None:
            connection = self._sockets.connect(host, port)
        else:
            connection = self._sockets.connect(self._proxy.host, self._proxy.port)
            if self._proxy.scheme == "https":
                connection = self._secured(connection, self._proxy.host)
            if scheme == "https":
                self._tunnel(connection, self._proxy, f"{_bracketed(host)}:{port}")
        return self._secured(connection, host) if scheme == "https" else connection

    def _secured(self, connection: Connection, host: str) -> Connection:
        assert self._context is not None
        with _closed_on_failure(connection):
            context = self._context.result()
        return connection.secured(context, host)

    def _tunnel(self, connection: Connection, proxy: Proxy, place: str) -> None:
        exchange = Exchange(connection, "CONNECT", self._patience.idle, self._patience.idle)
        with _closed_on_failure(connection):
            exchange.send(head_of("CONNECT", place, [("host", place), *proxy.headers]), None)
            if not 200 <= exchange.status < 300:
                raise NetworkError(f"the proxy refused: {exchange.status}", hint=PROXY_HINT)


@contextlib.contextmanager
def _closed_on_failure(connection: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _split(url: str) -> tuple[Origin, str]:
    """The origin, and path and query exactly as they were signed."""
    start = url.find("/", url.find("://") + 3)
    return (_origin_of(url), "/") if start < 0 else (_origin_of(url[:start]), url[start:])


@functools.lru_cache(maxsize=64)
def _origin_of(url: str) -> Origin:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        parts, port = urlsplit(""), 0
    if not parts.hostname:
        hint = "Write it like https://s3.example.com or http://127.0.0.1:9000."
        raise UsageError(f"{url!r} is not an endpoint", hint=hint)
    return parts.scheme, parts.hostname, port


def _completed(headers: Headers, origin: Origin, content: object) -> Headers:
    """The headers with those that every request has."""
    if isinstance(content, bytes) and not _given("content-length", headers):
        headers = [("content-length", str(len(content))), *headers]
    if not _given("host", headers):
        scheme, host, port = origin
        headers = [("host", _bracketed(host) + (f":{port}" if port != PORTS[scheme] else "")), *headers]
    return headers


def _given(name: str, headers: Headers) -> bool:
    return any(given.lower() == name for given, _ in headers)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _limited(pieces: Iterable[bytes]) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > REPLY_LIMIT:
            raise ServerFault(f"the reply is larger than {REPLY_LIMIT} bytes")
        yield piece

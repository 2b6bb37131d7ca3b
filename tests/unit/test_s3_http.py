"""The HTTP client against servers that misbehave, over real sockets."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from jettyctl.core.model import ObjectOptions
from jettyctl.errors import (
    AccessError,
    Interrupted,
    JettyError,
    NetworkError,
    ServerFault,
    SourceChanged,
    Stalled,
    StoreError,
    UntrustedServer,
    UsageError,
)
from jettyctl.net.http import REPLY_LIMIT, HttpClient, Patience, Reply
from jettyctl.net.sockets import Sockets
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.credentials import Keys, StaticKeys
from jettyctl.storage.s3.sign import Signer
from tests.support.bodies import body_of, changed_body, noise

SHORT = Patience(connect=2.0, first_try=0.3, idle=0.4, min_rate=1024.0, window=0.6)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BODY = noise(4 << 20)
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


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    """`listen(handler)` starts a server that ends with the test."""
    open_: list[Listener] = []

    def start(handler: Handler, **options: object) -> Listener:
        open_.append(Listener(handler, **options))
        return open_[-1]

    yield start
    for listener in open_:
        listener.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., HttpClient]]:
    """`connect(url)` is a client with short patience that is closed with the test."""
    clients: list[HttpClient] = []

    def start(url: str, **options: object) -> HttpClient:
        clients.append(HttpClient(url, **{"patience": SHORT, **options}))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


def says(*pieces: bytes) -> Handler:
    """A server that answers every request with the same bytes."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        while listener.head(connection):
            for piece in pieces:
                connection.sendall(piece)

    return handler


def silent(connection: socket.socket, listener: Listener) -> None:
    listener.head(connection)
    listener.over.wait(10)


def get(client: HttpClient, url: str, **options: object) -> Reply:
    return client.request("GET", url + "/x", [("host", url.partition("://")[2])], **options)


def put(client: HttpClient, url: str, data: bytes = BODY) -> Reply:
    headers = [("host", url.partition("://")[2]), ("content-length", str(len(data)))]
    return client.request("PUT", url + "/x", headers, body_of(data).slices())


def seconds(call: Callable[[], object], expected: type[JettyError]) -> float:
    began = time.monotonic()
    with pytest.raises(expected):
        call()
    return time.monotonic() - began


def test_silent_server(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A server that never answers is given up after the idle time, and again after the time of one request."""
    server = listen(silent)
    client = connect(server.url)
    assert 0.3 < seconds(lambda: get(client, server.url), Stalled) < 1.5
    assert 0.7 < seconds(lambda: get(client, server.url, timeout=0.8), Stalled) < 2.0


def test_server_that_takes_nothing(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A server that stops reading the body is given up after the idle time."""
    server = listen(silent)
    client = connect(server.url)
    assert 0.3 < seconds(lambda: put(client, server.url, noise(32 << 20)), Stalled) < 3


def test_trickling_reply(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A reply that comes byte by byte ends by the minimum rate, though the connection is never idle."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        listener.head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not listener.over.wait(0.05):
            connection.sendall(b"x")

    server = listen(handler)
    client = connect(server.url)
    assert 0.5 < seconds(lambda: get(client, server.url), Stalled) < 3


@pytest.mark.slow
def test_trickling_taker(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A server that takes the body in crumbs ends by the minimum rate."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while not listener.over.wait(0.02):
            connection.recv(3000)

    server = listen(handler)
    client = connect(server.url, patience=Patience(idle=2.0, min_rate=50e6, window=0.5))
    assert seconds(lambda: put(client, server.url, noise(64 << 20)), Stalled) < 6


def test_a_slow_source_is_no_stall(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """Time that the body takes to come (a rate limit, a pipe) is not the connection's fault."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        data = listener.head(connection).partition(b"\r\n\r\n")[2]
        while len(data) < 5:
            data += connection.recv(10)
        connection.sendall(OK)

    def slow() -> Iterator[bytes]:
        for _ in range(5):
            time.sleep(0.25)
            yield b"x"

    server = listen(handler)
    client = connect(server.url)
    reply = client.request("PUT", server.url + "/x", [("host", "h"), ("content-length", "5")], slow())
    assert reply.status == 200


def test_reset(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A reset is a network error at once, and may be tried again."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        listener.head(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    server = listen(handler)
    client = connect(server.url)
    with pytest.raises(NetworkError) as raised:
        put(client, server.url)
    assert raised.value.retryable
    assert not isinstance(raised.value, Stalled)


def test_nobody_listens(connect: Callable[..., HttpClient]) -> None:
    """A refused connection names host and port, and may be tried again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        client = connect(url)
        with pytest.raises(NetworkError, match=f"{taken.getsockname()[1]}: Connection refused"):
            get(client, url)


def test_unknown_host(connect: Callable[..., HttpClient]) -> None:
    """A name that cannot be looked up is a network error that names it."""
    client = connect("http://no-such-host.invalid")
    with pytest.raises(NetworkError, match=r"no-such-host\.invalid"):
        get(client, "http://no-such-host.invalid")


@pytest.mark.parametrize("linger", [True, False])
def test_early_refusal(listen: Callable[..., Listener], connect: Callable[..., HttpClient], linger: bool) -> None:
    """A reply sent before the body was read is what is reported, also when the server hangs up right after it."""
    refusal = b"<Error><Code>AccessDenied</Code></Error>"

    def handler(connection: socket.socket, listener: Listener) -> None:
        listener.head(connection)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(refusal) + refusal)
        if linger:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass

    server = listen(handler)
    reply = put(connect(server.url), server.url, noise(32 << 20))
    assert (reply.status, reply.body) == (403, refusal)


def test_early_refusal_without_end(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A server that refuses and then neither reads nor hangs up: its refusal is reported, not a stall."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        listener.head(connection)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        listener.over.wait(10)

    server = listen(handler)
    assert put(connect(server.url), server.url, noise(32 << 20)).status == 403


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_reply_too_large(listen: Callable[..., Listener], connect: Callable[..., HttpClient], framing: str) -> None:
    """A reply of more than 8 MiB is refused, however its end is told."""
    block = b"x" * (1 << 20)

    def handler(connection: socket.socket, listener: Listener) -> None:
        listener.head(connection)
        told = {"length": b"Content-Length: %d" % (REPLY_LIMIT + 1), "chunked": b"Transfer-Encoding: chunked"}
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + told.get(framing, b"Connection: close") + b"\r\n\r\n")
        for _ in range(9):
            connection.sendall(b"100000\r\n" + block + b"\r\n" if framing == "chunked" else block)

    server = listen(handler)
    client = connect(server.url)
    with pytest.raises(ServerFault, match="larger than"):
        get(client, server.url)


def test_compressed_reply_is_not_inflated(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A reply that claims to be compressed is handed on as it came: no decompression bomb."""
    bomb = gzip.compress(bytes(20 << 20))
    server = listen(says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb), bomb))
    assert get(connect(server.url), server.url).body == bomb


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(listen: Callable[..., Listener], connect: Callable[..., HttpClient], code: int) -> None:
    """No redirect is followed: nothing is sent to the address that a reply names."""
    other = listen(says(OK))
    server = listen(says(b"HTTP/1.1 %d Moved\r\nLocation: %s/y\r\nContent-Length: 0\r\n\r\n" % (code, other.url.encode())))
    assert get(connect(server.url), server.url).status == code
    store = store_at(server.url)
    with pytest.raises(StoreError, match="served elsewhere"):
        store.put("key", body_of(b"x"), ObjectOptions())
    store.close()
    assert other.connections == 0


@pytest.mark.parametrize(
    "reply",
    [b"SSH-2.0-OpenSSH_9.9\r\n\r\n", b"\xff\xfe\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", b""],
    ids=["ssh", "binary", "cut", "empty"],
)
def test_no_http(listen: Callable[..., Listener], connect: Callable[..., HttpClient], reply: bytes) -> None:
    """What is not a whole HTTP reply is a server's fault, which may be tried again."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        listener.head(connection)
        connection.sendall(reply)

    server = listen(handler)
    client = connect(server.url)
    with pytest.raises(ServerFault) as raised:
        get(client, server.url)
    assert raised.value.retryable


def test_errors_of_the_body_pass(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """An error of the source ends the request as what it is, and the server never has a whole body."""
    taken: list[int] = []

    def handler(connection: socket.socket, listener: Listener) -> None:
        listener.head(connection)
        while data := connection.recv(1 << 16):
            taken.append(len(data))

    server = listen(handler)
    client = connect(server.url)
    headers = [("host", "h"), ("content-length", str(len(BODY)))]
    with pytest.raises(SourceChanged):
        client.request("PUT", server.url + "/x", headers, changed_body(BODY, BODY[:-1] + b"?").slices())
    server.close()
    assert sum(taken) < len(BODY)


def test_connections_are_used_again(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """Requests one after the other share one connection; one that the server closed is replaced."""
    server = listen(says(OK))
    client = connect(server.url)
    for _ in range(5):
        assert get(client, server.url).body == b"ok"
    assert server.connections == 1

    def once(connection: socket.socket, listener: Listener) -> None:
        listener.head(connection)
        connection.sendall(OK)

    closing = listen(once)
    client = connect(closing.url)
    for _ in range(3):
        assert get(client, closing.url).body == b"ok"
        time.sleep(0.1)  # until the server's end is seen
    assert closing.connections == 3


def test_interrupt_wakes_a_reader(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """An interrupt ends a request that waits for its answer at once, and refuses later ones."""
    server = listen(silent)
    client = connect(server.url, patience=Patience())
    assert interrupted_after(client, lambda: get(client, server.url)) < 1
    with pytest.raises(Interrupted):
        get(client, server.url)


def test_interrupt_wakes_a_writer(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """An interrupt ends a request whose body is not taken."""
    server = listen(silent)
    client = connect(server.url, patience=Patience())
    assert interrupted_after(client, lambda: put(client, server.url, noise(32 << 20))) < 1


def test_interrupt_wakes_a_handshake(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """An interrupt ends a TLS handshake that the server does not answer."""
    server = listen(silent)
    url = server.url.replace("http:", "https:")
    client = connect(url, patience=Patience())
    assert interrupted_after(client, lambda: get(client, url)) < 1


def test_interrupt_wakes_a_connect(connect: Callable[..., HttpClient]) -> None:
    """An interrupt ends an attempt to connect to an address that does not answer."""
    with black_hole() as port:
        url = f"http://127.0.0.1:{port}"
        client = connect(url, patience=Patience())
        assert interrupted_after(client, lambda: get(client, url)) < 1


def interrupted_after(client: HttpClient, call: Callable[[], object]) -> float:
    """How long after `interrupt` the call ended, with Interrupted."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except JettyError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.4)
    assert thread.is_alive()
    began = time.monotonic()
    client.interrupt()
    thread.join(8)
    assert [type(failure) for failure in failures] == [Interrupted]
    return time.monotonic() - began


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port of loopback that answers no connection attempt: its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()[1]


class Resolver(Sockets):
    """A backend whose host has the addresses that a test wants, in that order until one has answered."""

    ports: tuple[int, ...] = ()

    def _lookup(self, host: str, port: int) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in self.ports]


def test_a_dead_address_costs_little(listen: Callable[..., Listener]) -> None:
    """With a first address that does not answer, the second is tried within a second, and goes first from then on."""
    server = listen(says(OK))
    with black_hole() as dead:
        backend = Resolver(Patience())
        backend.ports = (dead, server.port)
        times = []
        for _ in range(2):
            began = time.monotonic()
            backend.connect("host", 80).close()
            times.append(time.monotonic() - began)
    assert 0.5 < times[0] < 1.3
    assert times[1] < 0.3


def test_only_dead_addresses() -> None:
    """Where no address answers, the time to connect bounds the attempt on each."""
    with black_hole() as dead:
        backend = Resolver(Patience(connect=0.5))
        backend.ports = (dead, dead)
        began = time.monotonic()
        with pytest.raises(NetworkError, match="timed out"):
            backend.connect("host", 80)
        assert time.monotonic() - began < 2.5


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    """An authority made for this run, and its certificate in a file."""
    ca, path = trustme.CA(), tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, str(path)


def tls(ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


def test_unknown_authority(
    listen: Callable[..., Listener], connect: Callable[..., HttpClient], authority: tuple[trustme.CA, str]
) -> None:
    """A certificate of an unknown authority is refused at once and for good; no request is sent."""
    server = listen(says(OK), context=tls(authority[0], "127.0.0.1"))
    client = connect(server.url)
    began = time.monotonic()
    with pytest.raises(UntrustedServer) as raised:
        get(client, server.url)
    assert time.monotonic() - began < 1
    assert not raised.value.retryable
    assert "--ca-file" in raised.value.hint
    assert server.requests == []


def test_ca_file(listen: Callable[..., Listener], connect: Callable[..., HttpClient], authority: tuple[trustme.CA, str]) -> None:
    """An authority that the user names is trusted, and bodies arrive whole."""
    ca, path = authority
    taken: list[bytes] = []

    def handler(connection: socket.socket, listener: Listener) -> None:
        data = listener.head(connection).partition(b"\r\n\r\n")[2]
        while len(data) < len(BODY):
            data += connection.recv(1 << 16)
        taken.append(data)
        connection.sendall(OK)

    server = listen(handler, context=tls(ca, "127.0.0.1"))
    assert put(connect(server.url, ca_file=path), server.url).body == b"ok"
    assert taken == [BODY]


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_is_none(connect: Callable[..., HttpClient], tmp_path: Path, content: str | None) -> None:
    """It is refused before anybody waits for a connection."""
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(UsageError, match="cannot read the certificates"):
        connect("https://127.0.0.1:9", ca_file=str(path))


def test_wrong_host(
    listen: Callable[..., Listener], connect: Callable[..., HttpClient], authority: tuple[trustme.CA, str]
) -> None:
    """A valid certificate of another host is refused; with verification switched off it is accepted."""
    ca, path = authority
    server = listen(says(OK), context=tls(ca, "other.example"))
    client = connect(server.url, ca_file=path)
    with pytest.raises(UntrustedServer):
        get(client, server.url)
    assert get(connect(server.url, verify=False), server.url).body == b"ok"


def test_old_protocols(
    listen: Callable[..., Listener], connect: Callable[..., HttpClient], authority: tuple[trustme.CA, str]
) -> None:
    """A server that knows nothing newer than TLS 1.1 is not spoken to."""
    ca, path = authority
    context = tls(ca, "127.0.0.1")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    server = listen(says(OK), context=context)
    client = connect(server.url, ca_file=path)
    with pytest.raises(NetworkError):
        get(client, server.url)
    assert server.requests == []


def test_plain_server_behind_https(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A server that does not speak TLS is a network error, never spoken to in plain text."""
    server = listen(says(OK))
    url = server.url.replace("http:", "https:")
    client = connect(url)
    with pytest.raises(NetworkError):
        get(client, url)
    assert not any(request.startswith(b"GET") for request in server.requests)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_unusable_ca_file(tmp_path: Path, content: str | None) -> None:
    """A certificate file that is missing or holds none is the user's to correct."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match="certificates"):
        HttpClient("https://127.0.0.1", ca_file=str(path))


def relay(connection: socket.socket, listener: Listener) -> None:
    """A proxy: CONNECT makes a tunnel, anything else is answered by the proxy itself."""
    head = listener.head(connection)
    if not head.startswith(b"CONNECT "):
        connection.sendall(OK)
        return
    host, _, port = head.split()[1].decode().rpartition(":")
    with socket.create_connection((host, int(port))) as upstream:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=pump, args=(upstream, connection))
        back.start()
        pump(connection, upstream)
        back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_forward_proxy(listen: Callable[..., Listener], connect: Callable[..., HttpClient], variable: str) -> None:
    """A plain endpoint is reached through the proxy of the environment, with user and password as they were written."""
    proxy = listen(relay)
    os.environ[variable] = f"http://us%40er:p%3Ass@127.0.0.1:{proxy.port}"
    assert get(connect("http://store.invalid"), "http://store.invalid").body == b"ok"
    assert proxy.requests[0].startswith(b"GET http://store.invalid/x HTTP/1.1")
    assert base64.b64encode(b"us@er:p:ss") in proxy.requests[0]


def test_tunnel_proxy(
    listen: Callable[..., Listener], connect: Callable[..., HttpClient], authority: tuple[trustme.CA, str]
) -> None:
    """A TLS endpoint is reached through a tunnel, and its certificate is verified in there."""
    ca, path = authority
    server, proxy = listen(says(OK), context=tls(ca, "127.0.0.1")), listen(relay)
    os.environ["HTTPS_PROXY"] = f"http://127.0.0.1:{proxy.port}"
    assert get(connect(server.url, ca_file=path), server.url).body == b"ok"
    assert proxy.requests[0].startswith(b"CONNECT 127.0.0.1:")
    client = connect(server.url)
    with pytest.raises(UntrustedServer):
        get(client, server.url)


@pytest.mark.parametrize("pattern", ["127.0.0.1", "*", "127.0.0.1:{port}", "example.com,127.0.0.1"])
def test_no_proxy(listen: Callable[..., Listener], connect: Callable[..., HttpClient], pattern: str) -> None:
    """NO_PROXY is obeyed, with and without a port."""
    server, proxy = listen(says(OK)), listen(relay)
    os.environ.update(HTTP_PROXY=f"http://127.0.0.1:{proxy.port}", NO_PROXY=pattern.format(port=server.port))
    assert get(connect(server.url), server.url).body == b"ok"
    assert (proxy.connections, server.connections) == (0, 1)


def test_proxy_that_refuses(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A proxy's refusal is told as such, without the password."""
    proxy = listen(says(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"))
    os.environ["HTTPS_PROXY"] = f"http://user:canary@127.0.0.1:{proxy.port}"
    client = connect("https://store.invalid")
    with pytest.raises(NetworkError, match="proxy refused: 407") as raised:
        get(client, "https://store.invalid")
    assert "PROXY" in raised.value.hint
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "http://127.0.0.1:port", "ftp://x"])
def test_unusable_proxy(url: str) -> None:
    """A proxy that cannot be used is the user's to correct."""
    os.environ["HTTP_PROXY"] = url
    with pytest.raises(UsageError):
        HttpClient("http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:9000", "http://", "http://[::1", "http://h:port", "http://h:99999"])
def test_unusable_endpoint(url: str) -> None:
    """An endpoint that is no URL of a server is the user's to correct."""
    with pytest.raises(UsageError):
        store_at(url)


SECRETS = Keys("AKIACANARYCANARY0000", "canary-secret-key", "canary-session-token")


def store_at(url: str) -> S3Store:
    return S3Store(S3Config("bucket", "us-east-1", url, checksum="none"), Signer(StaticKeys(SECRETS), "us-east-1"))


def echo(connection: socket.socket, listener: Listener) -> None:
    """Send back what came, as a status line."""
    connection.sendall(listener.head(connection))


def hang_up(connection: socket.socket, listener: Listener) -> None:
    """Take the request and go."""
    listener.head(connection)


def echo_header(connection: socket.socket, listener: Listener) -> None:
    """Send back the signature where no header belongs."""
    signature = re.search(rb"Signature=[0-9a-f]+|canary-session-token", listener.head(connection))
    connection.sendall(b"HTTP/1.1 200 OK\r\n " + (signature[0] if signature else b"") + b"\x00\r\n\r\n")


def echo_error(connection: socket.socket, listener: Listener) -> None:
    """S3's own habit: the request that was refused, in the reply."""
    sent = listener.head(connection).replace(b"<", b"(").replace(b"\r\n", b" ")
    body = b"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>" + sent + b"</StringToSign></Error>"
    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(
    "handler", [echo, echo_header, echo_error, hang_up, says(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")]
)
def test_no_secret_in_errors(listen: Callable[..., Listener], handler: Handler) -> None:
    """No error text holds the secret key, the session token or a signature, also when the server sends them back."""
    server = listen(handler)
    store = store_at(server.url)
    with pytest.raises((NetworkError, AccessError)) as raised:
        store.put("key", body_of(b"x"), ObjectOptions())
    store.close()
    head = server.requests[0].decode()
    signature = re.search("Signature=([0-9a-f]{64})", head)
    assert signature
    assert "canary-session-token" in head
    for secret in (signature[1], SECRETS.secret_key, "canary-session-token"):
        assert secret not in f"{raised.value!r} {raised.value} {raised.value.hint}"


@pytest.mark.parametrize("token", ["canary-session-token\r", "canary-session-token\nx: y", "canary\0-session-token"])
def test_a_token_that_no_header_can_carry(listen: Callable[..., Listener], token: str) -> None:
    """A line break that was copied along is said at once, without the token, and nothing is sent."""
    server = listen(hang_up)
    keys = Keys(SECRETS.access_key, SECRETS.secret_key, token)
    store = S3Store(S3Config("bucket", "us-east-1", server.url, checksum="none"), Signer(StaticKeys(keys), "us-east-1"))
    with pytest.raises(UsageError, match="a header cannot be sent") as raised:
        store.put("key", body_of(b"x"), ObjectOptions())
    store.close()
    assert "canary" not in f"{raised.value!r} {raised.value.hint}"


@pytest.mark.parametrize(
    "metadata", [{"a": "x\r\nx-evil: 1"}, {"a\r\nx-evil": "1"}, {"a": "\x00"}, {"ü": "1"}, {"": "\n"}, {"a b": "1"}, {"a": " "}]
)
def test_header_injection(listen: Callable[..., Listener], metadata: dict[str, str]) -> None:
    """Metadata that would break out of its header is refused, and nothing is sent."""
    server = listen(says(OK))
    store = store_at(server.url)
    with pytest.raises(UsageError):
        store.put("key", body_of(b"x"), ObjectOptions(metadata=metadata))
    store.close()
    assert server.requests == []


@pytest.mark.parametrize("name", ["line\r\nx-evil: 1", "q?x=1#f", "sp ace", "%0d%0a", "ü"])
def test_keys_do_not_break_out(listen: Callable[..., Listener], name: str) -> None:
    """A key is one path in the request line, whatever it is made of: no header and no query comes of it."""
    server = listen(says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
    store = store_at(server.url)
    assert store.head(name) is None
    store.close()
    lines = server.requests[0].decode().split("\r\n")
    assert re.fullmatch(r"HEAD /bucket/[A-Za-z0-9%._~/-]+ HTTP/1\.1", lines[0])
    names = {line.partition(":")[0].lower() for line in lines[1:] if line}
    assert names == {
        "host",
        "accept-encoding",
        "user-agent",
        "x-amz-checksum-mode",
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-security-token",
        "authorization",
    }


def test_every_request_is_whole(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A request without a host or a length of its body gets them; those that are given stay as they are, once."""
    server = listen(says(OK))
    client = connect(server.url)
    client.request("POST", server.url + "/x", [], b"")
    client.request("POST", server.url + "/x", [("Host", "h"), ("Content-Length", "0")], b"")
    place = server.url.partition("://")[2].encode()
    assert [sorted(request.lower().split(b"\r\n")[1:3]) for request in server.requests] == [
        [b"content-length: 0", b"host: " + place],
        [b"content-length: 0", b"host: h"],
    ]


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints"])
def test_interim_replies_are_not_the_answer(
    listen: Callable[..., Listener], connect: Callable[..., HttpClient], status: bytes
) -> None:
    """What a server says beforehand is passed over, with its headers, and the connection is used again."""
    server = listen(says(b"HTTP/1.1 " + status + b"\r\nx-early: 1\r\n\r\n" + OK))
    client = connect(server.url)
    for _ in range(2):
        reply = get(client, server.url)
        assert (reply.status, reply.body, "x-early" in reply.headers) == (200, b"ok", False)
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (1 << 20) + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    ],
    ids=["endless-head", "endless-interim", "upgrade", "two-framings", "two-lengths", "bad-chunk"],
)
def test_replies_that_are_not_taken(listen: Callable[..., Listener], connect: Callable[..., HttpClient], answer: bytes) -> None:
    """A reply without an end, or of which it is not clear where it ends, is a server's fault."""
    server = listen(says(answer))
    client = connect(server.url)
    with pytest.raises(ServerFault):
        get(client, server.url)


def test_bytes_after_the_reply_are_nobodys(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A connection on which more came than was asked for is not used again: the next request would get it for its answer."""
    server = listen(says(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    client = connect(server.url)
    assert [get(client, server.url).body for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 3

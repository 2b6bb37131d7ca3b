"""Who is spoken to, over real sockets: certificates are verified, and the environment's proxies are used."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
import trustme

from jettyctl.errors import NetworkError, UntrustedServer, UsageError
from jettyctl.net.http import HttpClient, Patience
from jettyctl.net.sockets import Sockets
from tests.support.listener import BODY, OK, Listener, get, put, says, store_at
from tests.support.threads import settle


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


def test_reset_before_the_handshake(listen: Callable[..., Listener]) -> None:
    """A server that resets the connection before TLS begins is a network error that may be tried again; no socket stays open."""

    def reset(connection: socket.socket, listener: Listener) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    sockets = Sockets(Patience())
    connection = sockets.connect("127.0.0.1", listen(reset).port)
    settle(connection.readable)
    with pytest.raises(NetworkError, match="no TLS with") as raised:
        connection.secured(ssl.create_default_context(), "127.0.0.1")
    assert raised.value.retryable
    assert not sockets._open


def test_authorities_that_cannot_be_read(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """What goes wrong with them is told, and the connection that was opened meanwhile is closed."""
    ends: list[bytes] = []
    server = listen(lambda connection, _: ends.append(connection.recv(1)))
    url = server.url.replace("http:", "https:")
    client = connect(url)
    client._context = Future()
    client._context.set_exception(UsageError("unreadable"))
    with pytest.raises(UsageError, match="unreadable"):
        get(client, url)
    settle(lambda: ends == [b""])


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

"""Replies of servers that misbehave, over real sockets: too early, too long, cut, unclear, or more than was asked for."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Callable

import pytest

from jettyctl.core.model import ObjectOptions
from jettyctl.errors import ServerFault, SourceChanged, StoreError
from jettyctl.net.http import REPLY_LIMIT, HttpClient
from tests.support.bodies import body_of, changed_body, noise
from tests.support.listener import BODY, OK, Listener, get, put, says, store_at


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

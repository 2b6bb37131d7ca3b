"""Connections with TLS over real sockets: those that were opened ahead are used, and a stall is told from what only is slow."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable

import pytest
import trustme

from jettyctl.errors import Stalled
from jettyctl.net.http import HttpClient, Patience
from tests.support.bodies import noise
from tests.support.listener import OK, Listener, get, put, says
from tests.support.threads import settle


@pytest.fixture(scope="module")
def secure() -> ssl.SSLContext:
    """A server's side of TLS 1.3, which sends two tickets behind each handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_opened_ahead(listen: Callable[..., Listener], connect: Callable[..., HttpClient], secure: ssl.SSLContext) -> None:
    """Connections that wait with unread tickets are used, the first time and later."""
    shaken: list[socket.socket] = []

    def handler(connection: socket.socket, listener: Listener) -> None:
        shaken.append(connection)  # the tickets are on their way
        says(OK)(connection, listener)

    server = listen(handler, context=secure)
    client = connect(server.url, verify=False, patience=Patience())
    client.open_ahead(2)
    settle(lambda: len(shaken) == len(client._connections._idle[client._origin]) == 2)
    assert [get(client, server.url).body for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 2


@pytest.mark.parametrize("rest", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_closed_while_idle(
    listen: Callable[..., Listener], connect: Callable[..., HttpClient], secure: ssl.SSLContext, rest: bytes
) -> None:
    """A connection that the server closed meanwhile, also with words that nobody asked for, carries no request."""
    closed: list[bool] = []

    def handler(connection: socket.socket, listener: Listener) -> None:
        listener.head(connection)
        connection.sendall(OK)
        time.sleep(0.02)  # it is idle by now
        connection.sendall(rest)
        connection.close()
        closed.append(True)

    server = listen(handler, context=secure)
    client = connect(server.url, verify=False, patience=Patience())
    for times in (1, 2):
        assert get(client, server.url).body == b"ok"
        settle(lambda: len(closed) == times)  # noqa: B023 - called at once
    assert server.connections == 2


def test_answer_before_the_end(
    listen: Callable[..., Listener], connect: Callable[..., HttpClient], secure: ssl.SSLContext
) -> None:
    """An answer of a server that then takes no more of the body is read whole."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        listener.head(connection)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        listener.over.wait(10)

    server = listen(handler, context=secure)
    reply = put(connect(server.url, verify=False), server.url, noise(8 << 20))
    assert (reply.status, reply.body) == (403, b"no")


def test_server_that_takes_nothing(
    listen: Callable[..., Listener], connect: Callable[..., HttpClient], secure: ssl.SSLContext
) -> None:
    """A stall is found after the idle time: tickets that lie there unread are no answer to wait for."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        listener.over.wait(10)

    server = listen(handler, context=secure)
    client = connect(server.url, verify=False)
    with pytest.raises(Stalled, match="no byte was taken"):
        put(client, server.url, noise(8 << 20))


def test_slow_taker(listen: Callable[..., Listener], connect: Callable[..., HttpClient], secure: ssl.SSLContext) -> None:
    """A connection that carries little, but all the time, is not stalled, though what it is given takes longer than a stall."""
    taken = 0

    def handler(connection: socket.socket, listener: Listener) -> None:
        nonlocal taken
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        taken = len(listener.head(connection).partition(b"\r\n\r\n")[2])
        while taken < len(data) and (more := connection.recv(16 << 10)):
            taken += len(more)
            time.sleep(0.01)
        connection.sendall(OK)

    data = noise(5 << 18)
    server = listen(handler, context=secure)
    client = connect(server.url, verify=False)
    assert client.request("PUT", server.url + "/x", [], data).body == b"ok"
    assert taken == len(data)

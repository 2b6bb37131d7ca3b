"""Connections over real sockets that are silent, slow, cut, refused or interrupted: each ends soon, and as what it is."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jettyctl.errors import Interrupted, JettyError, NetworkError, Stalled
from jettyctl.net.http import HttpClient, Patience
from jettyctl.net.sockets import Sockets
from tests.support.bodies import noise
from tests.support.listener import OK, Listener, get, put, says


def silent(connection: socket.socket, listener: Listener) -> None:
    listener.head(connection)
    listener.over.wait(10)


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

"""Probes of what answers nothing, too little or no HTTP: dead ports, black holes, trickles, and twenty edges at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from jettyctl.core.scoring import Edge
from jettyctl.edges.probe import probe
from tests.support.small_edges import HANG, Behaviour, probed


@pytest.fixture
def black_hole() -> Iterator[Callable[[], str]]:
    """`black_hole()` is the URL of a port that takes connections and never says a word."""
    sockets: list[socket.socket] = []

    def start() -> str:
        sock = socket.create_server(("127.0.0.1", 0), backlog=16)
        sockets.append(sock)
        return f"http://127.0.0.1:{sock.getsockname()[1]}"

    yield start
    for sock in sockets:
        sock.close()


@pytest.fixture
def full_port() -> Iterator[str]:
    """The URL of a port whose queue is full: the first packet of a connection is dropped, as by a firewall."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for sock in waiting:
            sock.close()


def dead_port() -> str:
    """A URL at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def talk() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """`talk(say)` is the URL of a port whose connections are handed to `say`."""
    sockets: list[socket.socket] = []

    def start(say: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    with connection:
                        say(connection)
                except OSError:
                    if listener.fileno() < 0:
                        return

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for sock in sockets:
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def test_a_dead_port() -> None:
    """A refusal is told, without waiting."""
    result = probed(dead_port())
    assert (result.reachable, result.error, result.connect_ms) == (False, "connection refused", None)
    assert (result.metrics.error_rate, result.metrics.bandwidth_mbps) == (100, None)


def test_a_black_hole(black_hole: Callable[[], str]) -> None:
    """Silence ends at the deadline."""
    result = probed(black_hole())
    assert (result.reachable, result.error) == (False, "did not answer in time")


def test_dropped_packets(full_port: str) -> None:
    """Where not even a connection is made, that is all that is known."""
    result = probed(full_port)
    assert (result.reachable, result.error, result.connect_ms) == (False, "did not answer in time", None)


@pytest.mark.slow
def test_a_silent_tls_handshake(black_hole: Callable[[], str]) -> None:
    """Silence before the first byte of TLS ends there, too."""
    result = probed(black_hole().replace("http:", "https:"))
    assert (result.reachable, result.error) == (False, "did not answer in time")
    assert result.connect_ms is not None


@pytest.mark.slow
def test_a_trickle(talk: Callable[[Callable[[socket.socket], None]], str]) -> None:
    """A byte now and then does not keep the probe alive."""

    def trickle(connection: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)

    assert not probed(talk(trickle)).reachable


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "answered what is not HTTP"),
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "answered what is not HTTP"),
    ],
)
def test_other_protocols(talk: Callable[[Callable[[socket.socket], None]], str], reply: bytes, why: str) -> None:
    """What is not HTTP, or is cut off, is no answer."""

    def say(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(reply)

    result = probed(talk(say))
    assert (result.reachable, result.error) == (False, why)


def test_a_burst_into_a_slow_edge(talk: Callable[[Callable[[socket.socket], None]], str]) -> None:
    """A burst that does not end in time counts as far as it came."""

    def slow(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        puts = 0
        while data := connection.recv(1 << 12):
            puts += data.startswith(b"PUT")
            if data.startswith(b"GET"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            elif puts == 1 and len(data) < 1 << 12:
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            elif puts > 1:
                time.sleep(0.05)

    result = probed(talk(slow))
    assert result.reachable
    assert result.metrics.bandwidth_mbps is None or result.metrics.bandwidth_mbps < 100


def test_a_host_without_an_address() -> None:
    """A name that cannot be looked up is an edge that does not answer."""
    result = probed(f"http://{'a' * 64}.invalid")
    assert (result.reachable, result.error) == (False, "its host name cannot be looked up")


@pytest.mark.slow
def test_half_of_twenty_edges_dead(serve: Callable[..., str], black_hole: Callable[[], str]) -> None:
    """Twenty edges, five refused, five black holes: it ends, and each is told for what it is, in order."""
    urls = [serve(Behaviour()) for _ in range(10)] + [dead_port() for _ in range(5)] + [black_hole() for _ in range(5)]
    began = time.monotonic()
    results = probe([Edge(f"e{number:02}", url) for number, url in enumerate(urls)])
    assert time.monotonic() - began < HANG
    assert [result.url for result in results] == urls
    assert [result.reachable for result in results] == [True] * 10 + [False] * 10


def test_more_edges_than_a_batch() -> None:
    """Each batch has its own time; none is left out."""
    edges = [Edge(f"e{number}", dead_port()) for number in range(40)]
    assert [result.edge_id for result in probe(edges)] == [edge.id for edge in edges]
    assert probe([]) == ()

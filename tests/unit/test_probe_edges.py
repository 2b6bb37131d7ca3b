"""Probes of real servers on loopback: good ones, slow ones, liars, dead ports and black holes."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jettyctl.core.scoring import Edge
from jettyctl.edges.probe import BURST, LONG_BURST, SAMPLES, ProbeResult, probe
from jettyctl.errors import UsageError

HANG = 5.0  # seconds; a probe that takes this long hangs


@dataclass
class Behaviour:
    """What a small edge does, and what it saw."""

    health: bytes = b'{"load": 12.5, "active": 3, "version": "1"}'
    health_status: int = 200
    delay: float = 0.0
    failing: int = 0  # health calls that fail, from the first one on
    probe_status: int = 204
    reads_bodies: bool = True
    keep_alive: bool = True
    asked: list[str] = field(default_factory=list)
    received: int = 0


def handler_of(edge: Behaviour) -> type[BaseHTTPRequestHandler]:
    """The handler of one small edge."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if edge.keep_alive else "HTTP/1.0"

        def do_GET(self) -> None:
            edge.asked.append(f"GET {self.path}")
            time.sleep(edge.delay)
            edge.failing -= 1
            self.answer(503 if edge.failing >= 0 else edge.health_status, edge.health)

        def do_PUT(self) -> None:
            edge.asked.append(f"PUT {self.path}")
            length = int(self.headers["Content-Length"])
            while edge.reads_bodies and length:
                read = len(self.rfile.read(min(length, 1 << 16)))
                length -= read
                edge.received += read
            if length:
                self.close_connection = True
            self.answer(edge.probe_status, b"")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Nothing is logged."""

    return Handler


class Server(ThreadingHTTPServer):
    """Quiet about clients that go away."""

    request_queue_size = 64
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """That a probe hangs up is part of the test."""


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """`serve(behaviour)` starts an edge and returns its URL."""
    servers: list[Server] = []

    def start(edge: Behaviour, context: ssl.SSLContext | None = None) -> str:
        server = Server(("127.0.0.1", 0), handler_of(edge))
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


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


def probed(url: str, **options: object) -> ProbeResult:
    """One edge, probed."""
    began = time.monotonic()
    (result,) = probe([Edge("e", url)], **options)  # type: ignore[arg-type]
    assert time.monotonic() - began < HANG
    return result


def test_a_good_edge(serve: Callable[..., str]) -> None:
    """Everything is measured, over one path prefix, and no more than 4 MiB and a bit is sent."""
    edge = Behaviour()
    result = probed(serve(edge) + "/base/")
    assert (result.reachable, result.error, result.active) == (True, "", 3)
    metrics = result.metrics
    assert (metrics.load_percent, metrics.error_rate) == (12.5, 0)
    assert 0 < metrics.latency_ms < 500
    assert metrics.bandwidth_mbps
    assert metrics.bandwidth_mbps > 10
    assert result.connect_ms
    assert result.tls_ms is None
    assert abs(metrics.measured_at - time.time()) < HANG
    assert edge.asked[:SAMPLES] == ["GET /base/health"] * SAMPLES
    assert set(edge.asked[SAMPLES:]) == {"PUT /base/probe"}
    assert edge.received <= BURST + LONG_BURST + (1 << 16)


def test_metered(serve: Callable[..., str]) -> None:
    """No byte is sent on a metered line, and the bandwidth is not known."""
    edge = Behaviour()
    result = probed(serve(edge), metered=True)
    assert result.reachable
    assert result.metrics.bandwidth_mbps is None
    assert edge.asked == ["GET /health"] * SAMPLES


@pytest.mark.parametrize("status", [403, 404, 405, 501])
@pytest.mark.parametrize("reads", [True, False])
def test_an_edge_without_bursts(serve: Callable[..., str], status: int, reads: bool) -> None:
    """A plain reverse proxy refuses the burst, with or without reading it: it answers, and its bandwidth is not known."""
    edge = Behaviour(probe_status=status, reads_bodies=reads)
    result = probed(serve(edge))
    assert (result.reachable, result.error) == (True, "")
    assert result.metrics.bandwidth_mbps is None
    assert edge.received <= 1 << 16


def test_an_edge_that_closes_after_each_answer(serve: Callable[..., str]) -> None:
    """HTTP/1.0 costs connections, and works."""
    result = probed(serve(Behaviour(keep_alive=False)))
    assert (result.reachable, result.error) == (True, "")
    assert result.metrics.bandwidth_mbps


@pytest.mark.parametrize(
    ("health", "load", "active"),
    [
        (b"ok", None, None),
        (b"", None, None),
        (b"[1]", None, None),
        (b'{"load": "high", "active": true}', None, None),
        (b'{"load": -1, "active": -1}', None, None),
        (b'{"load": NaN, "active": Infinity}', None, None),
        (b'{"load": 250, "active": 1e300}', 100.0, None),
        (b'{"load": 1' + b"0" * 400 + b"}", None, None),
        (b"\xff\xfe", None, None),
        (b" " * 200_000 + b"{}", None, None),  # more than is read
        (b"[" * 60_000, None, None),
    ],
)
def test_what_an_edge_says_is_not_trusted(
    serve: Callable[..., str], health: bytes, load: float | None, active: int | None
) -> None:
    """Health that is no JSON, or states nonsense, is an answer that states nothing."""
    result = probed(serve(Behaviour(health=health)), metered=True)
    assert result.reachable
    assert (result.metrics.load_percent, result.active) == (load, active)


@pytest.mark.parametrize("status", [302, 404, 500, 503])
def test_another_answer_is_none(serve: Callable[..., str], status: int) -> None:
    """Only a 2xx is an answer; redirects are not followed."""
    edge = Behaviour(health_status=status)
    result = probed(serve(edge))
    assert (result.reachable, result.metrics.error_rate) == (False, 100)
    assert result.error == f"answered {status} to GET /health"
    assert not any(asked.startswith("PUT") for asked in edge.asked)


def test_an_edge_that_answers_sometimes(serve: Callable[..., str]) -> None:
    """Two failures among five samples are 40 % errors, with the reason."""
    result = probed(serve(Behaviour(failing=2)), metered=True)
    assert (result.reachable, result.metrics.error_rate) == (True, 40)
    assert "503" in result.error


def test_a_slow_edge(serve: Callable[..., str]) -> None:
    """The median tells how slow, and there is still time for a burst."""
    result = probed(serve(Behaviour(delay=0.3)))
    assert result.reachable
    assert 300 <= result.metrics.latency_ms < 600
    assert result.metrics.error_rate == 0
    assert result.metrics.bandwidth_mbps


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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's context for 127.0.0.1, and the file with the authority that signed it."""
    trustme = pytest.importorskip("trustme")
    authority, path = trustme.CA(), tmp_path_factory.mktemp("tls") / "ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


def test_tls(serve: Callable[..., str], certificate: tuple[ssl.SSLContext, str]) -> None:
    """The handshake is timed; a certificate of an unknown authority is no answer, unless the user says so."""
    context, ca_file = certificate
    url = serve(Behaviour(), context)
    known = probed(url, ca_file=ca_file)
    assert (known.reachable, known.error) == (True, "")
    assert known.tls_ms
    assert known.metrics.bandwidth_mbps
    unknown = probed(url)
    assert not unknown.reachable
    assert unknown.error.startswith("its certificate does not verify")
    assert probed(url, verify=False, metered=True).reachable


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    """A file without certificates is the user's to mend."""
    (tmp_path / "ca.pem").write_text(json.dumps({}))
    with pytest.raises(UsageError, match="cannot read the certificates"):
        probe([Edge("e", "https://127.0.0.1:9")], ca_file=str(tmp_path / "ca.pem"))

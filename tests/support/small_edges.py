"""Small edges that answer probes as a test wants, and one probe of one edge."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from jettyctl.core.scoring import Edge
from jettyctl.edges.probe import ProbeResult, probe

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


def probed(url: str, **options: object) -> ProbeResult:
    """One edge, probed."""
    began = time.monotonic()
    (result,) = probe([Edge("e", url)], **options)  # type: ignore[arg-type]
    assert time.monotonic() - began < HANG
    return result

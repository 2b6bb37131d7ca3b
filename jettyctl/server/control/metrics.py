"""What the service counts, for Prometheus. No label names a user, a key or a session.

With several workers the library adds them up in a directory that `serving` makes before this module is imported.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "jetty_requests", "Requests answered.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "jetty_request_seconds", "Time to answer.", ("route", "method"), buckets=_SECONDS, registry=self._registry
        )
        self._chunks = Counter("jetty_chunks", "Chunk states that clients reported.", ("status",), registry=self._registry)
        self._bytes = Counter("jetty_chunk_bytes", "Bytes of chunks reported completed.", registry=self._registry)
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the template of its path."""
        name = (route, method, status)
        if name not in self._children:  # a look-up of labels costs more than the counting
            self._children[name] = (self._requests.labels(route, method, str(status)), self._seconds.labels(route, method))
        requests, histogram = self._children[name]
        requests.inc()
        histogram.observe(seconds)

    def chunk(self, status: str, size: int) -> None:
        """Count a chunk that a client reported."""
        self._chunks.labels(status).inc()
        if status == "completed":
            self._bytes.inc(size)

    def text(self) -> bytes:
        """Everything counted, in Prometheus's text format; of all workers where there are several."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        return generate_latest(everybody)

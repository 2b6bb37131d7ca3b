"""Real probes: does an edge answer, how fast, how loaded is it, how much does it take?

One connection for each edge: TCP, TLS, several `GET /health` on it, then a short burst of `PUT /probe`, whose body the
edge drops. Everything is bounded, by bytes and by one deadline for all edges: a black hole, a trickle or a name that
does not resolve costs the deadline and no more. Redirects are not followed; only a 2xx is an answer.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from jettyctl.core.edge_rules import health_of
from jettyctl.core.scoring import STALE, UNREACHABLE, Edge, EdgeMetrics
from jettyctl.edges.connection import Connection, left
from jettyctl.net.tls import tls_context

SAMPLES = 5
DEADLINE = 2.6  # seconds for all edges of a batch
BATCH = 32  # edges probed at the same time
BURSTS = 4  # at the same time: more would measure our own line, not the ways to the edges
BURST_SECONDS = 1.5
ASKING, BURST, LONG_BURST = 16 << 10, 1 << 20, 3 << 20  # bytes
BLOCK = 64 << 10


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one edge answered. `error` says why it did not, or not always; times are None where it never came so far."""

    edge_id: str
    url: str
    metrics: EdgeMetrics
    connect_ms: float | None
    tls_ms: float | None
    active: int | None
    error: str

    @property
    def reachable(self) -> bool:
        return self.metrics.reachable


def probe(
    edges: Sequence[Edge], *, metered: bool = False, verify: bool = True, ca_file: str | None = None
) -> tuple[ProbeResult, ...]:
    """Probe all edges, in their order, within DEADLINE for each BATCH of them. `metered` leaves the bursts out.

    An edge is never the reason of an exception. Raises UsageError for a `ca_file` that cannot be read.
    """
    tls = tls_context(verify, ca_file) if any(edge.url.startswith("https:") for edge in edges) else None
    results: list[ProbeResult] = []
    for first in range(0, len(edges), BATCH):
        results += _probe_batch(edges[first : first + BATCH], tls, metered)
    return tuple(results)


def _probe_batch(edges: Sequence[Edge], tls: ssl.SSLContext | None, metered: bool) -> list[ProbeResult]:
    deadline = time.monotonic() + DEADLINE
    turns = threading.Semaphore(BURSTS)
    soundings = [_Sounding(edge, tls, deadline, None if metered else turns) for edge in edges]
    # Daemons: a name that does not resolve holds its thread for longer than the program may want to live.
    threads = [threading.Thread(target=sounding.run, name="probe", daemon=True) for sounding in soundings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [sounding.end() for sounding in soundings]


class _Sounding:
    """One edge's probe. `run` works on a thread of its own; `end` may be called at any time and ends it."""

    def __init__(self, edge: Edge, tls: ssl.SSLContext | None, deadline: float, turns: threading.Semaphore | None) -> None:
        self._edge = edge
        self._deadline = deadline
        self._turns = turns
        self._connection = Connection(edge.url, tls, deadline)
        self._path = urlsplit(edge.url).path.rstrip("/")
        self._times: list[float] = []  # ms until the answer to each sample begins
        self._failures = 0
        self._load: float | None = None
        self._active: float | None = None
        self._bandwidth: float | None = None
        self._error = "did not answer in time"

    def run(self) -> None:
        burst_begins = self._deadline - BURST_SECONDS
        for _ in range(SAMPLES):
            if not self._try_sample() or time.monotonic() > burst_begins:
                break
        if self._times and self._turns:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._measure_bandwidth(self._turns)
        self._connection.close()

    def end(self) -> ProbeResult:
        """What is known by now. The cut comes last: what it breaks is not the edge's fault."""
        result = self._result()
        self._connection.cut()
        return result

    def _result(self) -> ProbeResult:
        times, failures = list(self._times), self._failures
        metrics = EdgeMetrics(
            latency_ms=statistics.median(times) if times else STALE.latency_ms,
            load_percent=self._load,
            bandwidth_mbps=self._bandwidth,
            error_rate=100 * failures / (failures + len(times)) if times else UNREACHABLE,
            measured_at=time.time(),
        )
        active = None if self._active is None else int(self._active)
        error = self._error if failures or not times else ""
        return ProbeResult(
            self._edge.id, self._edge.url, metrics, self._connection.connect_ms, self._connection.tls_ms, active, error
        )

    def _try_sample(self) -> bool:
        """One sample. False: there is no point in another one."""
        try:
            self._sample()
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._failures += 1
            self._error = _reason(error)
            came_so_far = self._connection.sock is not None
            self._connection.close()
            return came_so_far and time.monotonic() < self._deadline
        return True

    def _sample(self) -> None:
        self._connection.ready(self._deadline)
        begin = time.monotonic()
        self._connection.request("GET", self._path + "/health", headers={"User-Agent": "jettyctl"})
        response = self._connection.getresponse()
        elapsed = time.monotonic() - begin
        body = self._connection.finish(response)
        if not 200 <= response.status < 300:
            raise http.client.HTTPException(f"answered {response.status} to GET /health")
        self._times.append(1000 * elapsed)
        self._load, self._active = health_of(body)

    def _measure_bandwidth(self, turns: threading.Semaphore) -> None:
        """A small PUT asks whether the edge takes bursts; the rate is that of the last burst, when the line is warm."""
        if not self._put(ASKING, self._deadline) or not turns.acquire(timeout=left(self._deadline)):
            return
        try:
            until = min(time.monotonic() + BURST_SECONDS, self._deadline)
            self._bandwidth = self._put(BURST, until)
            if self._bandwidth and LONG_BURST * 8e-6 / self._bandwidth < until - time.monotonic():
                self._bandwidth = self._put(LONG_BURST, until) or self._bandwidth
        finally:
            turns.release()

    def _put(self, size: int, until: float) -> float | None:
        """Mbit/s of one burst; None if the edge does not want it. A burst that time cuts off counts as far as it came."""
        connection, sent = self._connection, 0
        sock = connection.ready(until)
        block = memoryview(os.urandom(BLOCK))  # random: nothing on the way shall compress it
        begin = time.monotonic()
        connection.putrequest("PUT", self._path + "/probe")
        connection.putheader("User-Agent", "jettyctl")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        try:
            while sent < size:
                sock.settimeout(left(until))
                sock.sendall(block[: size - sent])
                sent += min(BLOCK, size - sent)
            sock.settimeout(left(until))
            response = connection.getresponse()
            connection.finish(response)
        except TimeoutError:
            connection.close()
            return sent * 8e-6 / (time.monotonic() - begin) if sent else None
        return size * 8e-6 / (time.monotonic() - begin) if 200 <= response.status < 300 else None


def _reason(error: Exception) -> str:
    """Why a sample failed, in a few words."""
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "closed the connection without an answer"
    if isinstance(error, UnicodeError):
        return "its host name cannot be looked up"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    said = str(error)
    return said if said.startswith("answered ") else "answered what is not HTTP"

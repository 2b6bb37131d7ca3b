"""What the last probes found, kept across runs with the time of each.

By URL, not by id: an id that was given another address has not answered there.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping

from jettyctl.core.scoring import Edge, EdgeMetrics

LIFETIME = 30 * 86_400.0  # seconds; an edge that nobody probed for so long was probably removed


class EdgeMemory:
    """A JSON file. It is a cache: what cannot be read counts as never probed, what cannot be written is lost."""

    def __init__(self, path: str) -> None:
        self._path = path

    def recall(self, edges: Iterable[Edge]) -> dict[str, EdgeMetrics]:
        """What is known of these edges, by id."""
        known = self._read()
        return {edge.id: known[edge.url] for edge in edges if edge.url in known}

    def learn(self, measured: Mapping[str, EdgeMetrics]) -> None:
        """Results of probes, by URL."""
        oldest = time.time() - LIFETIME
        known = {url: metrics for url, metrics in self._read().items() if metrics.measured_at > oldest} | dict(measured)
        temporary = f"{self._path}.{uuid.uuid4().hex[:8]}.tmp"
        with contextlib.suppress(OSError):
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w", encoding="ascii") as file:
                json.dump({url: _to_json(metrics) for url, metrics in known.items()}, file)
            os.replace(temporary, self._path)

    def _read(self) -> dict[str, EdgeMetrics]:
        try:
            with open(self._path, encoding="ascii") as file:
                content = json.load(file)
        except (OSError, ValueError, RecursionError):
            return {}
        entries = content.items() if isinstance(content, dict) else ()
        return {url: metrics for url, entry in entries if (metrics := _from_json(entry))}


def _to_json(metrics: EdgeMetrics) -> list[float | None]:
    return [metrics.latency_ms, metrics.load_percent, metrics.bandwidth_mbps, metrics.error_rate, metrics.measured_at]


def _from_json(entry: object) -> EdgeMetrics | None:
    if not isinstance(entry, list) or len(entry) != 5:
        return None
    latency, load, bandwidth, errors, measured_at = (float(n) if _is_number(n) else None for n in entry)
    if latency is None or errors is None or measured_at is None:
        return None
    return EdgeMetrics(latency, load, bandwidth, errors, measured_at)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 1e15

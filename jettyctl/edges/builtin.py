"""The selector that needs nobody: the configured edges, ranked by what the last probes found. It works offline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from jettyctl.core import scoring
from jettyctl.core.geo import Location
from jettyctl.core.scoring import Edge, EdgeMetrics, Priority, Selection


class BuiltinSelector:
    """Keeps the promises of `edges.base.Selector`. An edge that is disabled, or did not answer its last probe, is out."""

    def __init__(self, edges: Sequence[Edge], metrics: Mapping[str, EdgeMetrics], clock: Callable[[], float] = time.time) -> None:
        self._edges = [edge for edge in edges if edge.enabled]
        self._metrics = metrics
        self._clock = clock

    def select(self, size: int, priority: Priority, location: Location | None, budget: float | None) -> Selection:
        usable = [edge for edge in self._edges if edge.id not in self._metrics or self._metrics[edge.id].reachable]
        chosen = scoring.select(
            usable, self._metrics, size=size, priority=priority, location=location, budget=budget, now=self._clock()
        )
        return chosen if usable else replace(chosen, message=self._why_none())

    def _why_none(self) -> str:
        if not self._edges:
            return "No edge is enabled: the direct route carries everything. Run `jettyctl edges add ID URL` to use one."
        return (
            f"None of the {len(self._edges)} enabled edges answered its last probe: the direct route carries everything. "
            "Run `jettyctl edges probe` to ask again."
        )

"""Edges for one upload: probe those that nothing fresh is known of, select, and make routes of what answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jettyctl.core.geo import Location
from jettyctl.core.scoring import Edge, Priority, is_stale
from jettyctl.edges.base import OpenedEdge, OpenedEdges
from jettyctl.edges.builtin import BuiltinSelector
from jettyctl.edges.metrics import EdgeMemory
from jettyctl.edges.probe import probe
from jettyctl.storage.base import Route


@dataclass(frozen=True, slots=True)
class EdgeWishes:
    """Which edges the user named, and how they are to be chosen. `budget` is in USD."""

    edges: Sequence[Edge] = ()
    priority: Priority = "balanced"
    location: Location | None = None
    budget: float | None = None


class ProbedEdges:
    """Keeps the promises of `edges.base.EdgeSource`.

    `refusal` says why no edge may be used for this store, or nothing; `make_route` makes the route of an edge.
    """

    def __init__(
        self,
        wishes: EdgeWishes,
        memory: EdgeMemory,
        make_route: Callable[[Edge], Route],
        refusal: Callable[[], str],
        now: Callable[[], float],
        ca_file: str | None,
    ) -> None:
        self._wishes = wishes
        self._memory = memory
        self._make_route = make_route
        self._refusal = refusal
        self._now = now
        self._ca_file = ca_file

    def expects(self, size: int) -> bool:
        return True

    def open(self, size: int) -> OpenedEdges:
        if why := self._refusal():
            return OpenedEdges((), 1.0, why)
        wishes = self._wishes
        known = self._memory.recall(wishes.edges)
        stale = [edge for edge in wishes.edges if edge.enabled and is_stale(known.get(edge.id), self._now())]
        if stale:
            results = probe(stale, metered=True, ca_file=self._ca_file)  # bursts take longer than they would gain here
            self._memory.learn({result.url: result.metrics for result in results})
            known |= {result.edge_id: result.metrics for result in results}
        selection = BuiltinSelector(wishes.edges, known).select(size, wishes.priority, wishes.location, wishes.budget)
        opened = [OpenedEdge(self._make_route(ranked.edge), ranked.weight) for ranked in selection.edges if ranked.answered]
        return OpenedEdges(opened, selection.direct_weight, selection.message)

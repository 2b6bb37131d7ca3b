"""Which edges carry an upload, and how much each: factors, scores, weights, and what the direct route takes.

Pure: metrics and the clock are arguments. The tables are the contract that a control plane answers by, too.

- A factor is 0..1, higher is better. What is missing or old counts as bad (`STALE`), never as good.
- An edge's score is the sum of its factors, each times its weight in the row of the priority.
- An edge's weight is its part in the sum of the five best scores, times what the direct route leaves.
- The direct route takes 0.10 while these five are healthy, and up to 0.70 as their health falls to 0.

Where there is no distance (nobody knows where we are, or where the edge is) the other weights are scaled up to sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from jettyctl.core.geo import Location, distance_km
from jettyctl.core.model import GIB

Priority = Literal["speed", "balanced", "cost"]

BEST = 5  # edges that share an upload
FRESH = 300.0  # seconds that metrics are believed
COST_PER_GIB = 0.10  # USD, for an edge that says nothing else
DIRECT_LEAST, DIRECT_MOST = 0.10, 0.70
UNREACHABLE = 100.0  # percent of errors: nothing was answered


@dataclass(frozen=True, slots=True)
class EdgeMetrics:
    """What was measured of an edge. `measured_at` is seconds since the epoch; None is what the edge did not let us learn."""

    latency_ms: float
    load_percent: float | None
    bandwidth_mbps: float | None
    error_rate: float  # percent
    measured_at: float

    @property
    def reachable(self) -> bool:
        """Whether it answered at all."""
        return self.error_rate < UNREACHABLE


STALE_LOAD, STALE_BANDWIDTH = 90.0, 10.0
STALE = EdgeMetrics(500.0, STALE_LOAD, STALE_BANDWIDTH, 5.0, 0.0)  # what counts where nothing, or nothing new, is known


@dataclass(frozen=True, slots=True)
class Factors:
    """A number in 0..1 for each factor: how good an edge is, or how much it counts. A `distance` of None does not."""

    distance: float | None
    latency: float
    load: float
    bandwidth: float
    errors: float


WEIGHTS: Mapping[Priority, Factors] = MappingProxyType(
    {
        "speed": Factors(distance=0.10, latency=0.40, load=0.15, bandwidth=0.30, errors=0.05),
        "balanced": Factors(distance=0.30, latency=0.30, load=0.20, bandwidth=0.15, errors=0.05),
        "cost": Factors(distance=0.30, latency=0.15, load=0.40, bandwidth=0.10, errors=0.05),
    }
)


@dataclass(frozen=True, slots=True)
class Edge:
    """A place that takes chunks. `cost_per_gib` is in USD, None where only the usual price is known."""

    id: str
    url: str
    city: str = ""
    country: str = ""
    lat: float | None = None
    lng: float | None = None
    cost_per_gib: float | None = None
    enabled: bool = True

    @property
    def location(self) -> Location | None:
        return None if self.lat is None or self.lng is None else Location(self.lat, self.lng)

    def cost(self, size: int) -> float:
        """USD for this many bytes."""
        return size / GIB * (COST_PER_GIB if self.cost_per_gib is None else self.cost_per_gib)


@dataclass(frozen=True, slots=True)
class RankedEdge:
    """An edge with its score and what it is made of. `weight` is its share of an upload's bytes."""

    edge: Edge
    metrics: EdgeMetrics | None
    stale: bool
    distance_km: float | None
    factors: Factors
    score: float
    weight: float = 0.0

    @property
    def answered(self) -> bool:
        """Whether it ever answered a probe. One that did not may be ranked, but is sent nothing."""
        return self.metrics is not None and self.metrics.reachable


@dataclass(frozen=True, slots=True)
class Selection:
    """The best edges, best first, and the direct route's share: all weights sum to 1. `message` is for people, or empty."""

    edges: tuple[RankedEdge, ...]
    direct_weight: float
    message: str = ""


def select(
    edges: Iterable[Edge],
    metrics: Mapping[str, EdgeMetrics],
    *,
    size: int,
    priority: Priority,
    location: Location | None,
    budget: float | None,
    now: float,
) -> Selection:
    """The edges for an upload of `size` bytes. `metrics` goes by edge id, `budget` is in USD."""
    candidates = tuple(edges)
    affordable = [edge for edge in candidates if budget is None or edge.cost(size) <= budget]
    if not candidates:
        return Selection((), 1.0, "There is no edge to use: the direct route carries everything.")
    if not affordable:
        return Selection((), 1.0, f"Every edge costs more than {budget:g} USD: the direct route carries everything.")
    best = rank(affordable, metrics, priority=priority, location=location, now=now)[:BEST]
    direct = direct_share(best)
    return Selection(_weighed(best, 1.0 - direct), direct)


def rank(
    edges: Iterable[Edge],
    metrics: Mapping[str, EdgeMetrics],
    *,
    priority: Priority,
    location: Location | None,
    now: float,
) -> list[RankedEdge]:
    """All edges, best first. Equal scores go by price where cost has priority, then by id."""
    ranked = [_judged(edge, metrics.get(edge.id), priority, location, now) for edge in edges]
    return sorted(ranked, key=lambda one: (-one.score, one.edge.cost(GIB) if priority == "cost" else 0.0, one.edge.id))


def is_stale(metrics: EdgeMetrics | None, now: float) -> bool:
    """Whether metrics are missing or old. Those from the future are no better: a clock was set."""
    return metrics is None or abs(now - metrics.measured_at) > FRESH


def factors_of(metrics: EdgeMetrics, distance: float | None) -> Factors:
    """The factors by the contract's formulas; a single value that is missing counts as if it were stale."""
    load = STALE_LOAD if metrics.load_percent is None else metrics.load_percent
    bandwidth = STALE_BANDWIDTH if metrics.bandwidth_mbps is None else metrics.bandwidth_mbps
    return Factors(
        distance=None if distance is None else _unit(1 - distance / 10_000),
        latency=_unit(1 - metrics.latency_ms / 500),
        load=_unit(1 - load / 100),
        bandwidth=_unit(bandwidth / 1000),
        errors=_unit(1 - metrics.error_rate / 10),
    )


def weights_of(priority: Priority, *, located: bool) -> Factors:
    """How much each factor counts. Without a distance the rest is scaled up to sum to 1."""
    row = WEIGHTS[priority]
    if located:
        return row
    rest = 1.0 - (row.distance or 0.0)
    return Factors(None, row.latency / rest, row.load / rest, row.bandwidth / rest, row.errors / rest)


def score_of(factors: Factors, priority: Priority) -> float:
    """The factors' weighted sum. `fsum` rounds once, so that a better factor cannot make a lower score."""
    weights = weights_of(priority, located=factors.distance is not None)
    return math.fsum(weight * factor for weight, factor in zip(_values(weights), _values(factors), strict=True))


def health(ranked: RankedEdge) -> float:
    """0 (not to be counted on) to 1 (in order): 0 for a stale edge, else the worst of three.

    Errors: falls from 1 at none to 0 at 10 %. Load: 1 up to 80 %, 0 at 100 %. Latency: 1 up to 250 ms, 0 at 500 ms.
    """
    if ranked.stale or ranked.metrics is None:
        return 0.0
    seen = ranked.metrics
    load = STALE_LOAD if seen.load_percent is None else seen.load_percent
    return min(_unit(1 - seen.error_rate / 10), _unit((100 - load) / 20), _unit((500 - seen.latency_ms) / 250))


def direct_share(best: Sequence[RankedEdge]) -> float:
    """What the direct route takes beside these edges: by their mean health, linearly."""
    if not best:
        return 1.0
    ill = 1.0 - math.fsum(map(health, best)) / len(best)
    return DIRECT_LEAST + (DIRECT_MOST - DIRECT_LEAST) * ill


def _judged(edge: Edge, metrics: EdgeMetrics | None, priority: Priority, location: Location | None, now: float) -> RankedEdge:
    stale = is_stale(metrics, now)
    there = edge.location
    distance = distance_km(location, there) if location and there else None
    factors = factors_of(STALE if stale or metrics is None else metrics, distance)
    return RankedEdge(edge, metrics, stale, distance, factors, score_of(factors, priority))


def _weighed(best: Sequence[RankedEdge], share: float) -> tuple[RankedEdge, ...]:
    total = math.fsum(one.score for one in best)
    if not total:  # nothing speaks for any of them, so nothing tells them apart
        return tuple(replace(one, weight=share / len(best)) for one in best)
    return tuple(replace(one, weight=share * one.score / total) for one in best)


def _values(factors: Factors) -> tuple[float, ...]:
    return (factors.distance or 0.0, factors.latency, factors.load, factors.bandwidth, factors.errors)


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))

"""Scores against values computed by hand, and what must hold for all edges."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jettyctl.core.geo import Location
from jettyctl.core.model import GIB
from jettyctl.core.scoring import (
    BEST,
    FRESH,
    STALE,
    WEIGHTS,
    Edge,
    EdgeMetrics,
    Factors,
    Priority,
    Selection,
    direct_share,
    factors_of,
    health,
    is_stale,
    rank,
    score_of,
    select,
    weights_of,
)

NOW = 1_700_000_000.0
HERE = Location(0.0, 0.0)
GOOD = EdgeMetrics(latency_ms=50, load_percent=20, bandwidth_mbps=400, error_rate=1, measured_at=NOW)
PRIORITIES = st.sampled_from(get_args(Priority))
UNIT = st.floats(0, 1)
FACTORS = st.builds(Factors, st.none() | UNIT, UNIT, UNIT, UNIT, UNIT)
METRICS = st.builds(
    EdgeMetrics,
    latency_ms=st.floats(0, 5000),
    load_percent=st.none() | st.floats(0, 100),
    bandwidth_mbps=st.none() | st.floats(0, 10_000),
    error_rate=st.floats(0, 100),
    measured_at=st.floats(NOW - 2 * FRESH, NOW),
)
PLACES = st.none() | st.builds(Location, st.floats(-90, 90), st.floats(-180, 180))


def edge(edge_id: str, place: Location | None = None, *, cost_per_gib: float | None = None) -> Edge:
    """An edge that only needs an id."""
    lat, lng = (None, None) if place is None else (place.lat, place.lng)
    return Edge(edge_id, f"http://{edge_id}.example", lat=lat, lng=lng, cost_per_gib=cost_per_gib)


def chosen(edges: list[Edge], metrics: dict[str, EdgeMetrics], **asked: Any) -> Selection:  # noqa: ANN401 - any argument
    """A selection for 1 GiB, unless something else is asked."""
    return select(edges, metrics, **{"size": GIB, "priority": "balanced", "location": HERE, "budget": None, "now": NOW, **asked})


@st.composite
def measured_edges(draw: st.DrawFn, least: int = 0) -> tuple[list[Edge], dict[str, EdgeMetrics]]:
    """Edges anywhere or nowhere, most of them measured."""
    edges = [edge(f"e{number:02}", draw(PLACES)) for number in range(draw(st.integers(least, 9)))]
    found = {one.id: draw(st.none() | METRICS) for one in edges}
    return edges, {edge_id: metrics for edge_id, metrics in found.items() if metrics}


@pytest.mark.parametrize("priority", get_args(Priority))
def test_weights_sum_to_one(priority: Priority) -> None:
    """Each row of the table is a whole, with and without a distance."""
    assert sum(astuple(WEIGHTS[priority])) == pytest.approx(1, abs=1e-12)
    without = weights_of(priority, located=False)
    assert without.distance is None
    assert sum(astuple(without)[1:]) == pytest.approx(1, abs=1e-12)


def test_factors_by_hand() -> None:
    """2500 km, 50 ms, 20 %, 400 Mbit/s and 1 % errors are 0.75, 0.9, 0.8, 0.4 and 0.9."""
    assert astuple(factors_of(GOOD, 2500)) == pytest.approx((0.75, 0.9, 0.8, 0.4, 0.9))


def test_factors_stay_in_bounds() -> None:
    """The worst and the best values are clamped; a value that the edge did not tell counts as stale."""
    assert astuple(factors_of(EdgeMetrics(900, 130, 0, 50, NOW), 19_000)) == (0, 0, 0, 0, 0)
    assert astuple(factors_of(EdgeMetrics(0, 0, 4000, 0, NOW), 0)) == (1, 1, 1, 1, 1)
    untold = factors_of(replace(GOOD, load_percent=None, bandwidth_mbps=None), None)
    assert untold.load == pytest.approx(0.1)
    assert (untold.bandwidth, untold.distance) == (0.01, None)


@pytest.mark.parametrize(
    ("priority", "score", "without_distance"),
    [
        # .1*.75 + .4*.9 + .15*.8 + .3*.4 + .05*.9 = .075 + .36 + .12 + .12 + .045
        ("speed", 0.72, 0.645 / 0.9),
        # .3*.75 + .3*.9 + .2*.8 + .15*.4 + .05*.9 = .225 + .27 + .16 + .06 + .045
        ("balanced", 0.76, 0.535 / 0.7),
        # .3*.75 + .15*.9 + .4*.8 + .1*.4 + .05*.9 = .225 + .135 + .32 + .04 + .045
        ("cost", 0.765, 0.54 / 0.7),
    ],
)
def test_scores_by_hand(priority: Priority, score: float, without_distance: float) -> None:
    """One edge by each row of the table, with its distance and without."""
    assert score_of(factors_of(GOOD, 2500), priority) == pytest.approx(score)
    assert score_of(factors_of(GOOD, None), priority) == pytest.approx(without_distance)


def test_a_stale_edge_by_hand() -> None:
    """500 ms, 90 %, 10 Mbit/s and 5 % at no distance: .3*1 + .3*0 + .2*.1 + .15*.01 + .05*.5 = 0.3465."""
    (only,) = rank([edge("a", HERE)], {}, priority="balanced", location=HERE, now=NOW)
    assert only.stale
    assert only.score == pytest.approx(0.3465)
    assert not only.answered


@pytest.mark.parametrize(("age", "stale"), [(0, False), (FRESH, False), (FRESH + 0.001, True), (-FRESH - 1, True)])
def test_metrics_are_believed_for_five_minutes(age: float, stale: bool) -> None:
    """Metrics that are older, or from a clock far ahead, are stale; none at all are."""
    assert is_stale(replace(GOOD, measured_at=NOW - age), NOW) is stale
    assert is_stale(None, NOW)


def test_old_metrics_count_as_none() -> None:
    """An edge that was good six minutes ago is ranked as one that nobody ever measured."""
    old = {"a": replace(GOOD, measured_at=NOW - 360)}
    first, second = chosen([edge("a", HERE), edge("b", HERE)], old).edges
    assert (first.edge.id, first.score, first.factors) == ("a", second.score, second.factors)
    assert (first.answered, second.answered) == (True, False)


def test_weights_by_hand() -> None:
    """Scores of 0.76 and 0.3465 share 0.9 minus what the stale one costs: direct takes 0.1 + 0.6 / 2."""
    there = Location(0.0, 22.4830)  # 2500 km along the equator
    selection = chosen([edge("far", there), edge("near", HERE)], {"far": replace(GOOD, error_rate=1)})
    far, near = selection.edges
    assert far.edge.id == "far"
    assert far.score == pytest.approx(0.76, abs=1e-5)
    # far's health is 0.9 (1 % errors), near's 0: mean 0.45, direct 0.1 + 0.6 * 0.55 = 0.43
    assert selection.direct_weight == pytest.approx(0.43)
    assert far.weight == pytest.approx(0.57 * 0.76 / (0.76 + 0.3465), abs=1e-5)
    assert near.weight == pytest.approx(0.57 * 0.3465 / (0.76 + 0.3465), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"error_rate": 0}, 1.0),
        ({"error_rate": 0, "load_percent": 80}, 1.0),
        ({"error_rate": 0, "load_percent": 90}, 0.5),
        ({"error_rate": 0, "load_percent": 100}, 0.0),
        ({"error_rate": 0, "latency_ms": 250}, 1.0),
        ({"error_rate": 0, "latency_ms": 375}, 0.5),
        ({"error_rate": 0, "latency_ms": 800}, 0.0),
        ({"error_rate": 2}, 0.8),
        ({"error_rate": 20}, 0.0),
        ({"error_rate": 2, "load_percent": 94}, 0.3),
        ({"error_rate": 0, "load_percent": None}, 0.5),
        ({"error_rate": 0, "measured_at": 0.0}, 0.0),
    ],
)
def test_health_by_hand(changes: dict[str, float], expected: float) -> None:
    """The worst of errors, load and latency decides, and a stale edge has none; direct grows from 0.10 to 0.70."""
    (only,) = rank([edge("a")], {"a": replace(GOOD, **changes)}, priority="speed", location=None, now=NOW)
    assert health(only) == pytest.approx(expected)
    assert direct_share([only]) == pytest.approx(0.7 - 0.6 * expected)


def test_no_edges() -> None:
    """Without edges the direct route has it all, and the message says so."""
    selection = chosen([], {})
    assert (selection.edges, selection.direct_weight) == ((), 1.0)
    assert "direct route carries everything" in selection.message


def test_the_budget() -> None:
    """An edge that costs more is left out, one that costs just as much is not; the usual price is 0.10 USD for a GiB."""
    edges = [edge("cheap", cost_per_gib=0.01), edge("free", cost_per_gib=0.0), edge("usual")]
    assert {one.edge.id for one in chosen(edges, {}, budget=0.1).edges} == {"cheap", "free", "usual"}
    assert {one.edge.id for one in chosen(edges, {}, budget=0.0999).edges} == {"cheap", "free"}
    assert {one.edge.id for one in chosen(edges, {}, size=2 * GIB, budget=0.1).edges} == {"cheap", "free"}
    assert {one.edge.id for one in chosen(edges, {}, budget=0).edges} == {"free"}
    nothing = chosen(edges[2:], {}, budget=0.05)
    assert (nothing.edges, nothing.direct_weight) == ((), 1.0)
    assert "0.05 USD" in nothing.message


def test_equal_scores_go_by_id_and_by_price_where_that_matters() -> None:
    """The order never depends on the order of the configuration."""
    edges = [edge("c", cost_per_gib=0.02), edge("b"), edge("a")]
    assert [one.edge.id for one in chosen(edges, {}).edges] == ["a", "b", "c"]
    assert [one.edge.id for one in chosen(edges, {}, priority="cost").edges] == ["c", "a", "b"]


@given(measured_edges(), PRIORITIES, PLACES)
def test_what_holds_for_every_selection(
    found: tuple[list[Edge], dict[str, EdgeMetrics]], priority: Priority, location: Location | None
) -> None:
    """At most five, best first, no score or weight below 0, all weights sum to 1, and direct within its bounds."""
    edges, metrics = found
    selection = chosen(edges, metrics, priority=priority, location=location)
    scores = [one.score for one in selection.edges]
    weights = [one.weight for one in selection.edges]
    assert len(scores) == min(BEST, len(edges))
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 + 1e-9 for score in scores)
    assert all(weight >= 0 for weight in weights)
    assert sum(weights) + selection.direct_weight == pytest.approx(1, abs=1e-9)
    assert 0.1 - 1e-9 <= selection.direct_weight <= (0.7 + 1e-9 if edges else 1)


@given(measured_edges(least=2), PRIORITIES, PLACES)
def test_the_order_of_the_edges_does_not_matter(
    found: tuple[list[Edge], dict[str, EdgeMetrics]], priority: Priority, location: Location | None
) -> None:
    """The same edges in another order are selected alike."""
    edges, metrics = found
    asked = {"priority": priority, "location": location}
    assert chosen(edges, metrics, **asked) == chosen(edges[::-1], metrics, **asked)


@given(FACTORS, st.tuples(UNIT, UNIT, UNIT, UNIT, UNIT), PRIORITIES)
def test_better_in_any_factor_is_never_a_lower_score(factors: Factors, gains: tuple[float, ...], priority: Priority) -> None:
    """Each factor may only rise, by however little: the score does not fall."""
    up: list[Any] = [None if now is None else max(now, gain) for now, gain in zip(astuple(factors), gains, strict=True)]
    assert score_of(Factors(*up), priority) >= score_of(factors, priority)


@given(measured_edges(least=2), st.data(), PRIORITIES)
def test_better_in_any_factor_never_ranks_lower(
    found: tuple[list[Edge], dict[str, EdgeMetrics]], data: st.DataObject, priority: Priority
) -> None:
    """An edge whose latency, load, bandwidth or errors improve keeps its place among the same others, or rises."""
    edges, metrics = found
    one = data.draw(st.sampled_from(edges))
    before = metrics.get(one.id, STALE)
    seen = STALE if is_stale(before, NOW) else before
    better = EdgeMetrics(
        latency_ms=seen.latency_ms * data.draw(UNIT),
        load_percent=(90.0 if seen.load_percent is None else seen.load_percent) * data.draw(UNIT),
        bandwidth_mbps=(10.0 if seen.bandwidth_mbps is None else seen.bandwidth_mbps) + data.draw(st.floats(0, 1000)),
        error_rate=seen.error_rate * data.draw(UNIT),
        measured_at=NOW,
    )

    def place(known: dict[str, EdgeMetrics]) -> int:
        ranked = rank(edges, known, priority=priority, location=HERE, now=NOW)
        return [ranked_edge.edge.id for ranked_edge in ranked].index(one.id)

    assert place({**metrics, one.id: better}) <= place(metrics)

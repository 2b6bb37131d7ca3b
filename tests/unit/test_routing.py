"""The decisions of the end of a transfer, without a transfer: a wrong one costs minutes, and no object would show it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jettyctl.core.routing import FROZEN, MARGIN, PATIENCE, Flight, Speed, hedge, seconds_left, worth_giving

NOW = 1000.0
MB = 1_000_000

rates = st.floats(0, 1e9)
lanes = st.sampled_from(["", "a", "b", "c"])


def flight(index: int = 0, lane: str = "slow", sent: int = MB, spent: float = 1.0, still: float = 0.0) -> Flight:
    """A request for 10 MB that began `spent` seconds ago, and moved last `still` seconds ago."""
    return Flight(index, lane, 10 * MB, sent, NOW - spent, NOW - still)


@st.composite
def flights(draw: st.DrawFn) -> Flight:
    """Any request that can be in flight now."""
    length = draw(st.integers(1, 1 << 30))
    spent = draw(st.floats(0, 500))
    still = draw(st.floats(0, spent))
    return Flight(draw(st.integers(0, 9)), draw(lanes), length, draw(st.integers(0, length)), NOW - spent, NOW - still)


speeds = st.builds(Speed, lane=lanes, rate=rates, free=st.booleans())


@pytest.mark.parametrize(
    ("request_in_flight", "expected"),
    [
        (flight(sent=MB, spent=1), 9.0),
        (flight(sent=5 * MB, spent=2), 2.0),
        (flight(sent=10 * MB, spent=2), 0.0),  # only the answer is missing
        (flight(sent=10 * MB, spent=9, still=FROZEN + 0.1), math.inf),  # and does not come
        (flight(sent=9 * MB, spent=9, still=FROZEN + 0.1), math.inf),
        (flight(sent=9 * MB, spent=9, still=FROZEN), 1.0),
        (flight(sent=0, spent=0), 0.0),  # begun this moment: nothing is known
        (flight(sent=0, spent=FROZEN - 1, still=FROZEN - 1), 0.0),
        (flight(sent=0, spent=FROZEN + 1, still=FROZEN + 1), math.inf),
    ],
)
def test_what_is_left_goes_on_as_it_went(request_in_flight: Flight, expected: float) -> None:
    """The rest takes as long in proportion as the beginning did, and a request that moves nothing never ends."""
    assert seconds_left(request_in_flight, NOW) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("lane_speeds", "expected"),
    [
        ([Speed("fast", 10 * MB, True)], (0, "fast")),
        ([Speed("fast", 10 * MB, False)], None),  # it has no slot now
        ([Speed("fast", 10 * MB, False), Speed("middling", 5 * MB, True)], None),  # the fastest is worth waiting for
        ([Speed("fast", 10 * MB, True), Speed("middling", 5 * MB, True)], (0, "fast")),
        ([Speed("slow", 99 * MB, True)], None),  # the route that has it
        ([Speed("fast", 0.0, True)], None),  # nothing is known of it
        ([Speed("slower", 1.1 * MB, True)], None),  # 9 s are left, and it would take 9.1 s
        ([], None),
    ],
)
def test_who_takes_over_from_a_slow_route(lane_speeds: list[Speed], expected: tuple[int, str] | None) -> None:
    """A chunk with nine seconds to go is sent again by the fastest other route, if that has a slot and is sooner."""
    assert hedge([flight(sent=MB, spent=1)], lane_speeds, NOW) == expected


def test_the_one_that_would_end_last_is_sent_again_first() -> None:
    """Of two slow requests and a frozen one, the frozen one goes first; without it, the slower one."""
    slow, slower = flight(1, sent=5 * MB, spent=5), flight(2, sent=MB, spent=5)
    frozen = flight(3, sent=9 * MB, spent=9, still=FROZEN + 1)
    fast = [Speed("fast", 100 * MB, True)]
    assert hedge([slow, frozen, slower], fast, NOW) == (3, "fast")
    assert hedge([slow, slower], fast, NOW) == (2, "fast")


def test_a_margin_keeps_equal_routes_from_doing_each_others_work() -> None:
    """A second try must be expected to end MARGIN times sooner and PATIENCE more, so the limit itself is no reason."""
    late = flight(sent=5 * MB, spent=5)  # 5 s to go
    limit = MARGIN * 10 * MB / (5 - PATIENCE)
    assert hedge([late], [Speed("other", limit * 0.999, True)], NOW) is None
    assert hedge([late], [Speed("other", limit * 1.001, True)], NOW) == (0, "other")


@given(st.lists(flights(), max_size=6), st.lists(speeds, max_size=4, unique_by=lambda speed: speed.lane))
def test_a_second_try_is_always_by_a_known_free_faster_other_route(running: list[Flight], routes: list[Speed]) -> None:
    """Whatever runs: the choice is in flight on another route, and the new one is known, free, and sooner there."""
    choice = hedge(running, routes, NOW)
    if choice is None:
        return
    index, lane = choice
    (speed,) = (route for route in routes if route.lane == lane)
    assert speed.free
    assert speed.rate > 0
    found = [one for one in running if one.index == index and one.lane != lane]
    assert any(one.length / speed.rate < seconds_left(one, NOW) for one in found)


@given(flights(), st.floats(1, 1e9), st.lists(speeds, max_size=3))
def test_a_frozen_request_is_sent_again_if_the_fastest_route_is_free(one: Flight, rate: float, others: list[Speed]) -> None:
    """However far it came, a request that stands still is taken over by a free route that no other is faster than."""
    frozen = Flight(one.index, "frozen", one.length, one.sent, one.started - 2 * FROZEN, NOW - FROZEN - 0.001)
    slower = [Speed(other.lane, min(other.rate, rate / 2), other.free) for other in others]
    assert hedge([frozen], [*slower, Speed("fast", rate, True)], NOW) == (one.index, "fast")


@pytest.mark.parametrize(
    ("rate", "others", "together", "left", "expected"),
    [
        (10 * MB, [10 * MB], 10 * MB, 10 * MB, True),  # as good as the other
        (1 * MB, [10 * MB], 10 * MB, 10 * MB, False),  # 10 s for the last chunk, which the other does in 1 s
        (1 * MB, [10 * MB], 10 * MB, 200 * MB, True),  # the others need 20 s for all that is left
        (1 * MB, [1 * MB, 1 * MB], 2 * MB, 10 * MB, True),  # the best of the others is no faster
        (0.0, [10 * MB], 10 * MB, 10 * MB, True),  # nothing is known of it
        (1 * MB, [], 0.0, 10 * MB, True),  # there is nobody else
        (1 * MB, [0.0], 0.0, 10 * MB, True),  # of whom anything is known
    ],
)
def test_a_slow_route_gets_no_chunk_that_would_hold_up_the_others(
    rate: float, others: list[float], together: float, left: int, expected: bool
) -> None:
    """A chunk of 10 MB goes to a route that would end it before the others ended all that is left."""
    assert worth_giving(rate, others, together, 10 * MB, left) is expected


@given(st.floats(1, 1e9), st.floats(1, 1e9), st.lists(rates, max_size=5), rates, st.integers(1, 1 << 30), st.integers(0, 1 << 40))
def test_a_faster_route_never_gets_less(
    one: float, another: float, others: list[float], together: float, length: int, more: int
) -> None:
    """What is worth giving to a route is worth giving to a faster one, and still is when there is more to do."""
    slow, fast = sorted((one, another))
    if worth_giving(slow, others, together, length, length + more):
        assert worth_giving(fast, others, together, length, length + more)
        assert worth_giving(slow, others, together, length, length + 2 * more)

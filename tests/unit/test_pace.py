"""The pacer against simulated links: pure functions from connections in flight to bytes a second."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jettyctl.core.pace import PERIOD, START, Pacer

MBIT = 125_000
Link = Callable[[int], float]


def drive(pacer: Pacer, link: Link, seconds: float, start: float = 0.0, moved: float = 0.0) -> list[int]:
    """Run the pacer on a link that is always saturated; the limits it chose, one for each period."""
    limits = []
    for period in range(round(seconds / PERIOD)):
        limits.append(pacer.tick(start + period * PERIOD, int(moved), saturated=True))
        moved += link(pacer.limit) * PERIOD
    return limits


def capped(each: float, total: float) -> Link:
    """Every connection gets `each`, until the link's `total` is shared."""
    return lambda connections: min(connections * each, total)


def crowded(best: int, loss: float) -> Link:
    """Each connection beyond the `best` number takes `loss` off everything."""
    return lambda connections: min(connections, best) * MBIT / (1 + loss * max(0, connections - best))


def test_reaches_what_a_long_fat_link_needs() -> None:
    """18 Mbit/s for each connection and 320 in all: at least 17 connections within 3 s, and they stay."""
    pacer = Pacer(24)
    limits = drive(pacer, capped(18 * MBIT, 320 * MBIT), 60)
    assert limits[int(3 / PERIOD)] >= 17
    assert sum(limit >= 17 for limit in limits) > 0.9 * len(limits)


@pytest.mark.parametrize("ceiling", [24, 32, 64, 128])
def test_reaches_the_ceiling_where_all_help(ceiling: int) -> None:
    """Where every connection adds goodput the ceiling is reached."""
    assert max(drive(Pacer(ceiling), capped(MBIT, 1e12), 30)) == ceiling


@pytest.mark.parametrize("ceiling", [1, 8, 16])
def test_small_ceiling_is_kept(ceiling: int) -> None:
    """Few threads, each limited by its own connection: nearly all of the time all of them work."""
    limits = drive(Pacer(ceiling), capped(MBIT, 1e12), 120)
    assert sum(limits) > 0.97 * ceiling * len(limits)


def test_stops_where_more_do_not_help() -> None:
    """A link that 16 connections fill is left at 16, with a rare look above."""
    limits = drive(Pacer(64), capped(20 * MBIT, 320 * MBIT), 120)
    assert sum(limit == START for limit in limits) > 0.85 * len(limits)


@pytest.mark.parametrize("ceiling", [16, 24, 64])
@pytest.mark.parametrize(("best", "loss"), [(4, 0.1), (4, 0.05), (8, 0.1), (1, 0.2)])
def test_leaves_a_crowd(ceiling: int, best: int, loss: float) -> None:
    """Where more connections reduce goodput it goes down, and gets most of what the best number would."""
    link = crowded(best, loss)
    limits = drive(Pacer(ceiling), link, 300)[-120:]
    assert sum(limits) / len(limits) < START
    assert sum(link(limit) for limit in limits) / len(limits) > 0.8 * link(best)


@settings(deadline=None)
@given(st.lists(st.floats(-0.04, 0.04), min_size=240, max_size=240))
def test_noise_does_not_lead_astray(noise: list[float]) -> None:
    """With 4 % of noise a link that needs 18 connections still gets 16 or more nearly all of the time."""
    draws = iter(noise)
    link = capped(18 * MBIT, 320 * MBIT)
    limits = drive(Pacer(24), lambda connections: link(connections) * (1 + next(draws)), 120)
    assert sum(limit >= 16 for limit in limits) > 0.85 * len(limits)


def test_throttled_halves() -> None:
    """The store's word halves the limit at once, but one burst of refusals is one word."""
    pacer = Pacer(16)
    for _ in range(16):
        pacer.throttled()
    assert pacer.limit == 8
    pacer.tick(1.0, 0, saturated=True)
    pacer.throttled()
    assert pacer.limit == 4


def test_throttled_never_below_one() -> None:
    """However often the store refuses, one request may go."""
    pacer = Pacer(16)
    for period in range(20):
        pacer.tick(period * PERIOD, 0, saturated=True)
        pacer.throttled()
    assert pacer.limit == 1


def test_recovers_after_a_throttle() -> None:
    """After a rest the limit grows again, in small steps."""
    pacer = Pacer(16)
    pacer.throttled()
    limits = drive(pacer, capped(MBIT, 1e12), 30)
    assert limits[:4] == [8] * 4
    assert limits[-1] == 16
    assert max(after - before for before, after in pairwise(limits)) <= 4


def test_notices_that_the_link_has_become_better() -> None:
    """A link that was full at 16 connections and then doubles is used within a minute."""
    pacer = Pacer(32)
    drive(pacer, capped(20 * MBIT, 320 * MBIT), 30)
    assert max(drive(pacer, capped(20 * MBIT, 640 * MBIT), 60, start=1000.0)) == 32


def test_no_growth_when_unsaturated() -> None:
    """Where there is too little to send nothing is learnt, and nothing changes."""
    pacer = Pacer(64)
    for period in range(200):
        assert pacer.tick(period * PERIOD, period * period * MBIT, saturated=False) == START


def test_a_clock_that_stands_still_is_no_division_by_zero() -> None:
    """Two ticks at one moment, or one in the past, decide nothing."""
    pacer = Pacer(64)
    assert [pacer.tick(moment, 1000, saturated=True) for moment in (5.0, 5.0, 4.0, 4.0)] == [START] * 4


def test_raised_ceiling() -> None:
    """A bigger file lifts a limit that only the ceiling held down, not one that the store asked for."""
    held, asked = Pacer(4), Pacer(16)
    asked.throttled()
    held.raise_ceiling(32)
    asked.raise_ceiling(32)
    held.raise_ceiling(2)
    assert (held.limit, held.ceiling, asked.limit, asked.ceiling) == (START, 32, 8, 32)


STEPS = st.one_of(
    st.tuples(st.just("tick"), st.integers(0, 1 << 40), st.booleans()),
    st.tuples(st.just("throttled"), st.just(0), st.just(False)),
    st.tuples(st.just("ceiling"), st.integers(0, 300), st.just(False)),
)


@given(st.integers(0, 200), st.lists(STEPS, max_size=120))
def test_never_leaves_its_bounds(ceiling: int, steps: list[tuple[str, int, bool]]) -> None:
    """Whatever happens, the limit is between 1 and the ceiling."""
    pacer, now, moved = Pacer(ceiling), 0.0, 0
    for kind, value, saturated in steps:
        if kind == "tick":
            now, moved = now + PERIOD, moved + value
            assert pacer.tick(now, moved, saturated) == pacer.limit
        elif kind == "throttled":
            pacer.throttled()
        else:
            pacer.raise_ceiling(value)
        assert 1 <= pacer.limit <= pacer.ceiling

"""Waiting before trying again, and the budget that ends it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jettyctl.core.backoff import MAX_RETRY_AFTER, RetryBudget, RetryPolicy, delay

POLICY = RetryPolicy(base=0.25, cap=20.0)
DRAWS = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("failures", "ceiling"), [(1, 0.25), (2, 0.5), (3, 1.0), (7, 16.0), (8, 20.0), (9, 20.0), (100_000, 20.0)]
)
def test_ceiling_doubles_up_to_the_cap(failures: int, ceiling: float) -> None:
    """The longest wait doubles with each failure, up to the cap, for any number of failures."""
    assert delay(POLICY, failures, 0.5) == ceiling / 2


@given(st.integers(1, 1 << 70), DRAWS, st.none() | st.floats(-1e12, 1e12))
def test_wait_is_bounded(failures: int, draw: float, retry_after: float | None) -> None:
    """No wait is negative, none is longer than the cap and the longest Retry-After that is obeyed."""
    assert 0 <= delay(POLICY, failures, draw, retry_after) <= POLICY.cap + MAX_RETRY_AFTER


@given(st.integers(1, 50), DRAWS, st.floats(0, MAX_RETRY_AFTER))
def test_retry_after_is_a_floor(failures: int, draw: float, retry_after: float) -> None:
    """The store's wish is a floor, and jitter on top of it spreads the clients that heard it together."""
    assert delay(POLICY, failures, draw, retry_after) == retry_after + delay(POLICY, failures, draw)


def test_jitter_is_full() -> None:
    """The draw decides between no wait at all and the ceiling."""
    assert delay(POLICY, 4, 0.0) == 0
    assert delay(POLICY, 4, 0.999) == pytest.approx(1.998)


def test_budget_is_spent() -> None:
    """When nothing succeeds the retries end, and stay ended."""
    budget = RetryBudget(tokens=12, cost=5, refund=1)
    assert [budget.take() for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize(("at_once", "retries"), [(1, 100), (16, 100), (32, 200), (192, 1200)])
def test_many_requests_at_a_time_outlive_the_same_moment(at_once: int, retries: int) -> None:
    """A full bucket has more than six retries for each of the requests that fail together, however many they are."""
    budget = RetryBudget()
    assert sum(budget.take(at_once) for _ in range(10_000)) == pytest.approx(retries, abs=1)


def test_budget_is_earned_back() -> None:
    """Successes pay for later retries, at the price of several for one."""
    budget = RetryBudget(tokens=5, cost=5, refund=1)
    assert budget.take()
    for _ in range(4):
        budget.succeed()
        assert not budget.take()
    budget.succeed()
    assert budget.take()


def test_budget_does_not_pile_up() -> None:
    """A million successes buy no more retries than the bucket holds."""
    budget = RetryBudget(tokens=10, cost=5, refund=1)
    for _ in range(1000):
        budget.succeed()
    assert [budget.take() for _ in range(3)] == [True, True, False]


@given(st.lists(st.booleans(), max_size=400))
def test_budget_bounds_the_retries(outcomes: list[bool]) -> None:
    """Retries never exceed the initial tokens plus what the successes earned."""
    budget = RetryBudget(tokens=50, cost=5, refund=1)
    retries = successes = 0
    for succeeded in outcomes:
        if succeeded:
            budget.succeed()
            successes += 1
        else:
            retries += budget.take()
    assert retries <= (50 + successes) / 5

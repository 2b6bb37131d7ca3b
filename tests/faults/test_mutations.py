"""A share of the races between an upload and whoever changes its file."""

from __future__ import annotations

import pytest

from tests.faults.mutations import MUTATIONS, Plan, races


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_source_that_changes() -> None:
    """Each way of changing a file twice while it is sent: never a mixture, and the same command sends it as it is then."""
    seen = races(range(2 * len(MUTATIONS)))
    assert [problem for race in seen for problem in race.wrong] == []
    assert sum(race.struck for race in seen) > len(MUTATIONS)


def test_the_plan_of_a_seed() -> None:
    """A seed stands for one mutation at one moment, in every run; all mutations and both kinds of file occur."""
    plans = [Plan(seed) for seed in range(100)]
    assert [str(plan) for plan in plans] == [str(Plan(seed)) for seed in range(100)]
    assert {plan.mutation for plan in plans} == set(MUTATIONS)
    assert {plan.small for plan in plans} == {True, False}

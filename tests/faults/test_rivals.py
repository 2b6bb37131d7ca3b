"""A share of the races for one session."""

from __future__ import annotations

import pytest

from tests.faults.rivals import KINDS, races


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_one_owner() -> None:
    """Whether a session's owner sleeps, wakes up or dies: the object is made once, and who is refused writes nothing."""
    seen = races(range(16, 16 + len(KINDS)))
    assert [(race.name, problem) for race in seen for problem in race.wrong] == []
    assert any(race.struck for race in seen)

"""A share of the proofs as tests. All of them: `python -m tests.faults --report`."""

from __future__ import annotations

import pytest

from tests.faults import matrix, seeded
from tests.faults.figures import Figure, table
from tests.support.judge import KINDS


@pytest.mark.timeout(240)
def test_quick_kinds() -> None:
    """Each kind of fault that takes no patience, once where an upload sends and ends: no invariant is broken."""
    quick = [kind.name for kind in KINDS.values() if not kind.slow]
    seen = matrix.run(matrix.places(quick, ("part", "complete"), (1,)))
    assert [problem for item in seen for problem in item.wrong] == []
    assert len(seen) > 40


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_storms() -> None:
    """A few seeds of storms, those first that failed before: no invariant is broken."""
    assert [problem for item in seeded.storms(10, rarely=0) for problem in item.wrong] == []


def test_report_shows_what_fell_short() -> None:
    """The table has a row for each figure, and names those that are not reached with the reasons below."""
    shown = table([Figure("Good", "1", "1", ok=True), Figure("Bad", "2", "1", ok=False, notes=("seed 7: it broke",))])
    assert "| Good   | 1    | 1   | ok     |" in shown
    assert "| Bad    | 2    | 1   | FAILED |" in shown
    assert shown.endswith("Bad: seed 7: it broke")

"""A share of the kills: one early and one late call of each kind, and a few at random moments."""

from __future__ import annotations

import pytest

from tests.faults import kills, tracing


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_calls() -> None:
    """Killed at some of its system calls, an upload resumes, and neither the store nor the journal has lost anything."""
    if reason := tracing.why_not():
        pytest.skip(reason)
    found = kills.some((2, 9), ("pwrite64", "fdatasync", "sendto", "recvfrom"))
    assert [problem for harm in found for problem in harm.wrong] == []
    assert sum(harm.kills for harm in found) >= 6


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_random_moments() -> None:
    """The same at random moments, with resumes that are killed as well."""
    found = kills.storm(4)
    assert [problem for harm in found for problem in harm.wrong] == []

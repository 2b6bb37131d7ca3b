"""A share of what the journal is put through: fewer power cuts, rotten bits, failing calls and steps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults import journal, journal_model, journal_trouble, tracing


@pytest.fixture
def strace() -> None:
    """Skips where nothing can be traced."""
    if reason := tracing.why_not():
        pytest.skip(reason)


def test_power_cuts(strace: None) -> None:
    """Whatever a disk keeps of the writes that were not synced, the journal holds all that was acknowledged, and no more."""
    assert journal.images(150) == []


def test_rotten_bits() -> None:
    """A flipped bit makes a row absent, never another one."""
    assert journal.flips(150) == []


@pytest.mark.slow
def test_failing_calls(strace: None, tmp_path: Path) -> None:
    """A write, sync or cut that fails is an error of its transaction, and the next one works; an upload ends in one line."""
    lab = journal_trouble.Lab(str(tmp_path)).prepare()
    assert asyncio.run(journal_trouble.failed_calls(lab, writer=(3, 9), upload=(7,))) == []


def test_other_versions(tmp_path: Path) -> None:
    """An older file is taken over with its rows; a newer one is refused and stays as it is."""
    assert journal_trouble.schemas(str(tmp_path)) == []


@pytest.mark.slow
def test_bad_disks(tmp_path: Path) -> None:
    """An upload whose journal is on a full or read-only disk says so, and is done once there is space."""
    lab = journal_trouble.Lab(str(tmp_path)).prepare()
    if (found := asyncio.run(journal_trouble.bad_disks(lab))) is None:
        pytest.skip("nothing can be mounted")
    assert found == []


def test_steps() -> None:
    """What is done to a journal and to a dictionary, by two openers and with crashes and damage between, agrees."""
    with journal.workplace() as directory:
        steps, wrong = journal_model.walked(directory, 600)
    assert wrong == []
    assert steps >= 600

"""A share of the small boxes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults import boxes


@pytest.mark.slow
@pytest.mark.parametrize("box", [("files", boxes.FILES), ("memory", boxes.MEMORY)], ids=["files", "memory"])
def test_little_room(tmp_path: Path, box: tuple[str, str]) -> None:
    """Many threads are no reason to fail where there are few descriptors, or little address space."""
    seen = asyncio.run(boxes.boxed(str(tmp_path), [box], ("64",)))
    assert [problem for item in seen for problem in item.wrong] == []


@pytest.mark.slow
def test_a_clock_that_jumps(tmp_path: Path) -> None:
    """An hour forth or back in the middle of an upload costs one refused request or a few, and nothing else."""
    if boxes.compiler() is None:
        pytest.skip("there is no C compiler")
    found = asyncio.run(boxes.jumped(str(tmp_path), (0, 1, 7)))
    assert [problem for _, item in found for problem in item.wrong] == []

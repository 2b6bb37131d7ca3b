"""Uploads of 10,000 parts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults import scale


@pytest.mark.slow
def test_ten_thousand_parts(tmp_path: Path) -> None:
    """Killed near its end, an upload of 10,000 parts sends what the store does not list, and completes with all of them."""
    figure = asyncio.run(scale._killed(str(tmp_path)))
    assert figure.ok, (figure.got, figure.notes)

"""A share of the hostile names, and the scan itself."""

from __future__ import annotations

import pytest

from tests.faults.names import BY_HAND, hostile, raw, raw_on_terminal, round_trip


def test_hostile_names_round_trip() -> None:
    """Names of any bytes come back as they were, each with its own file's bytes."""
    assert round_trip(hostile(450)) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_name_steers_a_terminal() -> None:
    """Neither progress, results nor errors print a name's control bytes or direction marks."""
    printed, size = raw_on_terminal(hostile(len(BY_HAND) + 60))
    assert printed == []
    assert size > 10_000


RAW_NAMES = [b"\x1b[777m", b"\x1b]52;c;x\x07", b"\x9b777A", "\u202e".encode(), b"\x7f", b"\nRAW-LINE", b"\xff"]


@pytest.mark.parametrize("name", RAW_NAMES)
def test_the_scan_sees_what_is_raw(name: bytes) -> None:
    """Output with a raw name in it is found, that of a display alone is not."""
    display = b"\x1b[?25l\x1b[1;38;5;2mfile\x1b[0m \xe2\x9c\x93\r\n\x1b[2K\x1b[1A\x1b[?25h"
    assert list(raw(display)) == []
    assert list(raw(display + name)) != []

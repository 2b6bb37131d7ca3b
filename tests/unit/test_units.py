"""Sizes, rates, ages and durations: what people write, and what they read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jettyctl.core.units import format_duration, format_rate, format_size, parse_age, parse_rate, parse_size
from jettyctl.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096b", 4096),
        ("16MiB", 16 << 20),
        ("16mib", 16 << 20),
        ("16Mi", 16 << 20),
        ("16M", 16_000_000),
        ("16 MB", 16_000_000),
        (" 1.5GB ", 1_500_000_000),
        ("1.001k", 1001),
        ("2TiB", 2 << 40),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    """Decimal and binary units are told apart, and no digit is lost to a float."""
    assert parse_size(text) == size


def test_parse_size_of_absurd_length() -> None:
    """A number beyond all floats is still a number."""
    assert parse_size("9" * 5000) > 1 << 4096


@given(st.integers(0, 10**18), st.sampled_from([("", 1), ("K", 1000), ("Ki", 1024), ("MiB", 1 << 20), ("tb", 10**12)]))
def test_parse_size_is_exact(number: int, unit: tuple[str, int]) -> None:
    """A whole number of any unit is exactly that many bytes, below the exabytes that nobody has."""
    if number * unit[1] < 10**27:
        assert parse_size(f"{number}{unit[0]}") == number * unit[1]


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10MB", 10e6), ("10MB/s", 10e6), ("80Mbit/s", 10e6), ("80 Mbit", 10e6), ("500Kibit", 64_000), ("1", 1)],
)
def test_parse_rate(text: str, rate: float) -> None:
    """Rates come in bytes or in bits, with or without `/s`."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("12H", 43_200), ("7d", 604_800), ("0.5w", 302_400)])
def test_parse_age(text: str, seconds: float) -> None:
    """Ages have one unit."""
    assert parse_age(text) == seconds


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((parse_size, text) for text in ("", "MiB", "-1", "1e3", "0x10", "1 2", "16XB", "1.", ".5", "nan", "inf", "16MiB/s")),
        *((parse_rate, text) for text in ("", "0", "bit", "/s", "-1MB", "fast", "0.9")),
        *((parse_age, text) for text in ("", "7", "d", "-1d", "1d2h", "7 days")),
    ],
)
def test_nonsense_is_refused(parse: Callable[[str], float], text: str) -> None:
    """What is not a quantity is a UsageError that shows how to write one."""
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.hint


@given(st.text())
def test_any_text_is_a_quantity_or_a_usage_error(text: str) -> None:
    """No text makes a parser fail in any other way."""
    for parse in (parse_size, parse_rate, parse_age):
        try:
            assert parse(text) >= 0
        except UsageError:
            continue


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (312, "312 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (int(61.2 * (1 << 30)), "61.2 GiB"),
        (3 << 50, "3072.0 TiB"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    """Sizes are shown in powers of 1024."""
    assert format_size(size) == text


def test_format_rate() -> None:
    """A rate is a size a second."""
    assert format_rate(112.4 * (1 << 20)) == "112.4 MiB/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.84, "0.8 s"), (42.2, "42 s"), (59.6, "1:00"), (187, "3:07"), (3600, "1:00:00"), (7391, "2:03:11")],
)
def test_format_duration(seconds: float, text: str) -> None:
    """Durations are shown as a clock once they are longer than a minute."""
    assert format_duration(seconds) == text

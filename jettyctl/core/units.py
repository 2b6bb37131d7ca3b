"""Sizes, rates, ages and durations as people write and read them."""

from __future__ import annotations

import re

from jettyctl.errors import UsageError

_UNITS = {
    "": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "t": 1000**4,
    "ki": 1 << 10,
    "mi": 1 << 20,
    "gi": 1 << 30,
    "ti": 1 << 40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_size(text: str) -> int:
    """Bytes from `16MiB`, `16M`, `1.5GB`, `4096`: K, M, G, T are powers of 1000, Ki, Mi, Gi, Ti powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{text!r} is not a size", hint="Write it like 16MiB, 50MB or 4096.")
    from decimal import Decimal  # most sizes are the default

    return int(Decimal(match[1]) * _UNITS[(match[2] or "").lower()])


def parse_rate(text: str) -> float:
    """Bytes a second from `10MB`, `10MB/s`, `80Mbit/s`, `500Kibit`."""
    bare = text.strip().removesuffix("/s")
    bits = bare.lower().endswith("bit")
    try:
        rate = parse_size(bare[:-3] if bits else bare) / (8 if bits else 1)
    except UsageError:
        rate = 0.0
    if rate <= 0:
        raise UsageError(f"{text!r} is not a rate", hint="Write --limit-rate like 10MB/s or 80Mbit/s.")
    return rate


def parse_age(text: str) -> float:
    """Seconds from `90s`, `30m`, `12h`, `7d`, `2w`."""
    match = _AGE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{text!r} is not an age", hint="Write it like 7d, 12h or 30m.")
    return float(match[1]) * _AGES[match[2].lower()]


def format_size(size: float) -> str:
    """`61.2 GiB`, `5.0 MiB`, `312 B`: three figures, powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_rate(rate: float) -> str:
    """`112.4 MiB/s`."""
    return f"{format_size(rate)}/s"


def format_duration(seconds: float) -> str:
    """`0.8 s`, `42 s`, `3:07`, `2:03:11`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"

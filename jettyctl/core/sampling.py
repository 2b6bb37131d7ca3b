"""Which bytes of a file its sample fingerprint takes: enough to tell most files of one size apart, in no time.

Equal samples say that it is worth hashing a file whole before it is sent. They prove nothing.
"""

from __future__ import annotations

from jettyctl.core.model import KIB, Range

SAMPLE = 64 * KIB  # bytes at each of the three places


def sample_ranges(size: int) -> tuple[Range, ...]:
    """Head, middle and tail, in order and apart from each other; a small file whole."""
    if size <= 3 * SAMPLE:
        return (Range(0, size),)
    return tuple(Range(offset, SAMPLE) for offset in (0, (size - SAMPLE) // 2, size - SAMPLE))

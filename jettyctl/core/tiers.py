"""How a file is cut, and how many threads carry it.

The table is the contract (`--chunk-size tier`, and the strategy that a control plane returns). `auto` takes its chunk as a
ceiling and shrinks it until every thread has work: the tail is short, and a crash costs less. The pacer may double its
threads where that is faster.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from jettyctl.core.model import GIB, MIB, Limits
from jettyctl.core.units import format_size
from jettyctl.errors import UsageError

NEAR = 0.002  # seconds of a round trip; below it a few requests fill the network, and more would wait for each other
FAR = 0.02  # seconds; a round trip that takes this long is worth saving
NEAR_LANES = 2  # near a store, cut chunks for so many threads only: each chunk costs 2 ms of CPU, which dominates there
MORE = 2  # times the table's threads that `auto` may use: where packets are lost, each connection carries little
ROUNDS = 10  # chunks for each thread that `auto` aims at: at the end most threads idle for half a chunk's time


class Tier(NamedTuple):
    """One row: files below `below` bytes (None: all the rest) get chunks of `chunk_size` on `threads` threads."""

    below: int | None
    chunk_size: int
    threads: int


TIERS = (Tier(100 * MIB, 10 * MIB, 16), Tier(10 * GIB, 50 * MIB, 24), Tier(None, 100 * MIB, 32))


class Strategy(NamedTuple):
    """The cut that was decided: bytes in a chunk, and the ceiling of threads."""

    chunk_size: int
    threads: int


def tier_of(size: int) -> Tier:
    """The row of the table for a file of `size` bytes."""
    return next(tier for tier in TIERS if tier.below is None or size < tier.below)


def is_near(round_trip: float | None) -> bool:
    """Whether a store is near, by the seconds of a round trip to it."""
    return round_trip is not None and round_trip < NEAR


def strategy(
    size: int,
    limits: Limits,
    chunk_size: Literal["auto", "tier"] | int = "auto",
    threads: int | None = None,
    *,
    near: bool = False,
) -> Strategy:
    """Decide chunk size and threads for a file of `size` bytes. `auto` makes fewer and larger chunks for a store
    that is `near`.

    The chunk grows, in whole MiB, when the endpoint's limit on parts would be passed.
    Raises UsageError when no allowed cut holds the file, or the chunk size asked for is outside the endpoint's limits.
    """
    if size > limits.max_object:
        raise UsageError(
            f"{format_size(size)} are more than this endpoint stores in one object ({format_size(limits.max_object)})",
            hint="Split the file, or use another endpoint.",
        )
    tier = tier_of(size)
    lanes = threads or tier.threads
    most = lanes if threads or chunk_size == "tier" else MORE * lanes
    if isinstance(chunk_size, int):
        _check_asked(chunk_size, limits)
        chosen = chunk_size
    else:
        wanted = (
            tier.chunk_size
            if chunk_size == "tier"
            else _auto(size, min(lanes, NEAR_LANES) if near else lanes, tier.chunk_size)
        )
        chosen = min(max(wanted, _whole_mib(limits.min_part)), limits.max_part)
    fewest = -(-size // limits.max_parts)  # bytes in a chunk that use up all the parts
    if fewest > limits.max_part:
        raise UsageError(
            f"no chunk size fits: {size} bytes in {limits.max_parts} parts of {limits.max_part} bytes",
            hint="Split the file, or use another endpoint.",
        )
    if chosen < fewest:
        chosen = min(_whole_mib(fewest), limits.max_part)
    return Strategy(chosen, most)


def _auto(size: int, threads: int, ceiling: int) -> int:
    return min(ceiling, _whole_mib(-(-size // (threads * ROUNDS))))


def _whole_mib(size: int) -> int:
    return max(1, -(-size // MIB)) * MIB


def _check_asked(chunk_size: int, limits: Limits) -> None:
    if not limits.min_part <= chunk_size <= limits.max_part:
        raise UsageError(
            f"a chunk of {format_size(chunk_size)} is outside what this endpoint takes "
            f"({format_size(limits.min_part)} to {format_size(limits.max_part)})",
            hint="Leave --chunk-size out, or give a size in between, such as 16MiB.",
        )

"""Which route carries a chunk, and when a chunk is sent once more by another: decisions of the end of a transfer.

In the middle every route takes what it is able to. At the end a slow route can hold up all the others: then it gets no
new chunk that the others would have finished sooner, and what it still carries is sent again by a faster one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

FROZEN = 3.0  # seconds without a byte or an answer after which a request is not expected to end at all
MARGIN = 1.5  # how many times as long as a second try the first must be expected to take
PATIENCE = 0.5  # and how many seconds more


@dataclass(frozen=True, slots=True)  # not a named tuple: `index` is a method of those
class Flight:
    """A request in flight. `moved_at` is when its last byte went out; times are seconds of one monotonic clock."""

    index: int
    lane: str
    length: int
    sent: int
    started: float
    moved_at: float


class Speed(NamedTuple):
    """What a route does now: bytes a second of one more request on it, 0 if nothing is known. `free`: it could take one."""

    lane: str
    rate: float
    free: bool


def seconds_left(flight: Flight, now: float) -> float:
    """How long a request will take from now, by how it went so far; infinite if it is frozen."""
    if now - flight.moved_at > FROZEN:
        return math.inf
    spent = now - flight.started
    if flight.sent == 0 or spent <= 0:
        return math.inf if spent > FROZEN else 0.0
    return (flight.length - flight.sent) * spent / flight.sent


def hedge(flights: Sequence[Flight], speeds: Sequence[Speed], now: float) -> tuple[int, str] | None:
    """The chunk that is worth sending once more, and by which route; None if nothing would be gained.

    `flights` holds the chunks that are in flight only once. Call it when all chunks were begun. Only the fastest other
    route counts: while it has no slot, waiting for one beats a slow route.
    """
    known = [speed for speed in speeds if speed.rate > 0]
    for flight in sorted(flights, key=lambda f: seconds_left(f, now), reverse=True):
        others = [speed for speed in known if speed.lane != flight.lane]
        best = max(others, key=lambda speed: speed.rate, default=None)
        if best and best.free and seconds_left(flight, now) > MARGIN * flight.length / best.rate + PATIENCE:
            return flight.index, best.lane
    return None


def worth_giving(rate: float, others: Sequence[float], together: float, length: int, left: int) -> bool:
    """Whether a route where one more request gets `rate` should begin a chunk of `length` bytes.

    `others` are the same rates of the other routes, `together` what they move in all, `left` the bytes that are not begun
    yet, this chunk included. It should if it would be done before the others have done all that is left, or about as
    soon as the best of them would. Rates are bytes a second; an unknown one (0) gets its chance.
    """
    known = [other for other in others if other > 0]
    if rate <= 0 or not known or together <= 0:
        return True
    return length / rate <= MARGIN * max(length / max(known), left / together) + PATIENCE

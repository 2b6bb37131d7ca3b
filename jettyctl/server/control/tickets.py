"""How many requests a user has in a minute: tickets, reserved in small batches so that most requests ask nobody.

A batch is reserved in the counters that all processes share. What a process has left of it when the minute ends is
lost: with `workers` processes at most 5 % of the limit together. So is what it has left when it is killed: each time as
much again. The limit is never passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from jettyctl.server.control import failures
from jettyctl.server.control.counters import Counters

WINDOW = 60  # seconds
BATCHES = 20  # reservations that make up a limit
_MOST_WINDOWS = 10_000  # a process forgets those that ended when it holds more


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left to a user after a request. `resets_in` is seconds."""

    limit: int
    remaining: int
    resets_in: float

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """As every answer of a limited route says it."""
        return [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % max(0, ceil(self.resets_in))),
        ]


@dataclass(slots=True)
class _Window:
    tickets: int = 0  # reserved, not used
    unreserved: int = 0  # of the limit, by the last reservation
    ends: float = 0.0  # monotonic
    reserving: asyncio.Lock = field(default_factory=asyncio.Lock)


class Tickets:
    """Tickets of one process. `workers` is how many such processes there are."""

    def __init__(self, counters: Counters, limits: Mapping[str, int], workers: int) -> None:
        self._counters = counters
        self._limits = limits
        self._batches = BATCHES * workers
        self._windows: dict[str, _Window] = {}

    async def take(self, bucket: str, subject: str, default: int | None = None) -> Standing:
        """Use one ticket. Raises ApiError 429 if the limit is reached; DatabaseDown if nobody can say.

        `default` is the limit of a bucket that the settings do not name.
        """
        limit = self._limits.get(bucket, default)
        if limit is None:
            raise ValueError(f"no limit is set for {bucket}")
        name = f"{bucket}:{subject}"
        window = self._windows.get(name) or self._opened(name)
        now = time.monotonic()
        if window.tickets < 1 or window.ends <= now:
            now = await self._reserve(name, window, limit)
        window.tickets -= 1
        return Standing(limit, window.tickets + window.unreserved, window.ends - now)

    async def _reserve(self, name: str, window: _Window, limit: int) -> float:
        async with window.reserving:
            now = time.monotonic()
            if window.ends > now:
                if window.tickets > 0:
                    return now  # another request was quicker
                if window.unreserved < 1:
                    raise failures.too_many(window.ends - now, limit)
            batch = max(1, limit // self._batches)
            total, seconds = await self._counters.add(name, batch, WINDOW)
            window.ends = now + seconds
            window.unreserved = max(0, limit - total)
            window.tickets = max(0, min(batch, limit - (total - batch)))
            if window.tickets < 1:
                raise failures.too_many(seconds, limit)
            return now

    def _opened(self, name: str) -> _Window:
        if len(self._windows) >= _MOST_WINDOWS:
            now = time.monotonic()
            ended = [known for known, one in self._windows.items() if one.ends <= now and not one.reserving.locked()]
            for known in ended:
                del self._windows[known]
        return self._windows.setdefault(name, _Window())

"""Permission to have a request in flight. The pacer decides how many there are; this hands them out in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from jettyctl.core.pace import PERIOD, Pacer


class Slots:
    """An asyncio semaphore whose size changes while it is held, never above `most`. `moved` tells the bytes sent so far.

    All methods belong to the event loop's thread.
    """

    def __init__(self, pacer: Pacer, moved: Callable[[], int], *, most: int) -> None:
        self.pacer = pacer
        self.most = most
        self._moved = moved
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.in_flight = 0
        self.wanted = 0  # others who wait for any of several `Slots`, this one among them; who leaves calls `grant`
        self._their_turn = False
        self._changed_at = time.monotonic()
        self._held = self._full = 0.0
        self.on_free: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold one slot."""
        await self.acquire()
        try:
            yield
        finally:
            self.release()

    async def acquire(self) -> None:
        """Wait for a slot, first come first served."""
        if self.try_acquire():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the slot came at the same moment: pass it on
            raise

    @property
    def free(self) -> bool:
        """Whether a slot could be had at once."""
        return self.in_flight < self.pacer.limit and not self._waiting

    def try_acquire(self, *, in_turn: bool = False) -> bool:
        """Take a slot if one is free; those whom `wanted` counts also one that is left for them."""
        if not (self.free or (in_turn and self._their_turn and self.in_flight < self.pacer.limit)):
            return False
        self._their_turn = False
        self._change(1)
        self.grant()
        return True

    def release(self) -> None:
        """Give a slot back."""
        self._change(-1)
        self.grant()

    def grant(self) -> None:
        """Hand out what is free to those in line; while others are `wanted`, every second slot is left for them."""
        while self._waiting and self.in_flight < self.pacer.limit and not (self.wanted and self._their_turn):
            turn = self._waiting.popleft()
            if not turn.done():
                self._change(1)
                self._their_turn = True
                turn.set_result(None)
        if self.in_flight < self.pacer.limit:
            self.on_free()

    def allow(self, threads: int, *, start: int = 0) -> None:
        """A file wants up to `threads` requests in flight; it gets no more than this process has descriptors for.

        `start` is how many there may be before anything was measured.
        """
        self.pacer.raise_ceiling(min(threads, self.most), start)
        self.grant()

    def throttled(self) -> None:
        """A store asked for fewer requests."""
        self.pacer.throttled()

    async def pace(self) -> None:
        """Let the pacer decide anew, for as long as this task lives."""
        while True:
            await asyncio.sleep(PERIOD)
            saturated = bool(self._waiting or self.wanted) and self.in_flight == self.pacer.limit
            self.pacer.tick(time.monotonic(), self._moved(), saturated)
            self.grant()

    @property
    def held(self) -> float:
        """Seconds that slots were held, summed over slots."""
        self._change(0)
        return self._held

    @property
    def full(self) -> float:
        """Seconds in which as many were held as the pacer's ceiling lets be."""
        self._change(0)
        return self._full

    def _change(self, by: int) -> None:
        now = time.monotonic()
        passed, self._changed_at = now - self._changed_at, now
        self._held += self.in_flight * passed
        if self.in_flight >= self.pacer.ceiling:
            self._full += passed
        self.in_flight += by

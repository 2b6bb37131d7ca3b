"""The routes of one store, each with its own slots: who carries the next chunk, who rests, and what each one did.

The direct route is always there. Edges join when they have answered a probe. An edge carries one chunk at first; only
when the store confirms that it has the part, more follow. One that fails rests, and then tries again with one chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from jettyctl.core.pace import PERIOD
from jettyctl.core.routing import Speed
from jettyctl.engine.slots import Slots
from jettyctl.errors import JettyError
from jettyctl.storage.base import Route

DIRECT = ""
REST = 2.0  # seconds that an edge rests after a failure; doubled each time
MAX_REST = 60.0
CHECK_EVERY = 16  # chunks of an edge after which the store is asked again whether it has the last of them
LOOK = 0.25  # seconds after which a waiter looks anew: rests end, and chances change


@dataclass(slots=True)
class RouteReport:
    """What a route did in this run. `seconds` is the time in which it had a request in flight."""

    id: str
    chunks: int = 0
    bytes: int = 0
    seconds: float = 0.0
    errors: int = 0
    hedges: int = 0  # chunks taken over from a slower route
    last_error: str = ""

    @property
    def rate(self) -> float:
        """Bytes a second while it was busy."""
        return self.bytes / self.seconds if self.seconds else 0.0


class Lane:
    """A route with its slots. `count` takes the bytes that go out, from any thread, and `moved` tells their sum.

    Everything else belongs to the event loop.
    """

    def __init__(
        self, route: Route, slots: Slots, moved: Callable[[], int], *, trusted: bool, count: Callable[[int], None]
    ) -> None:
        self.route = route
        self.slots = slots
        self.count = count
        self._moved = moved
        self.report = RouteReport(route.id)
        self.trusted = trusted
        self.dropped = False
        self.confirming = False
        self.rate = 0.0
        self._failures = 0
        self._rests_until = 0.0
        self._sample = (time.monotonic(), 0)
        self._busy_since: float | None = None

    @property
    def id(self) -> str:
        return self.route.id

    def open(self, now: float) -> bool:
        """Whether it may take a chunk, if it has a slot: an edge that has to prove itself takes one at a time."""
        if self.dropped or self.confirming or now < self._rests_until:
            return False
        return self.slots.in_flight == 0 or self.trusted

    def begin(self) -> None:
        """A request begins; its slot is taken."""
        if self._busy_since is None:
            self._busy_since = time.monotonic()

    def end(self) -> None:
        """A request ended, well or not; its slot is given back."""
        self.slots.release()
        if self.slots.in_flight == 0 and self._busy_since is not None:
            self.report.seconds += time.monotonic() - self._busy_since
            self._busy_since = None

    def succeeded(self, length: int) -> None:
        """A chunk has its receipt."""
        self.report.chunks += 1
        self.report.bytes += length
        self._failures = 0

    def due_for_a_check(self) -> bool:
        """Whether it is time to ask the store again whether an edge's parts are there."""
        return self.id != DIRECT and self.report.chunks % CHECK_EVERY == 0

    def failed(self, error: JettyError) -> None:
        """A chunk did not arrive: rest, for longer each time. What was in flight fails together, and counts as one time."""
        self.report.errors += 1
        self.report.last_error = error.message
        self.trusted = self.id == DIRECT
        now = time.monotonic()
        if now >= self._rests_until:
            self._failures += 1
            self._rests_until = now + min(MAX_REST, REST * 2 ** (self._failures - 1))

    def measure(self, now: float) -> None:
        """Look at the meter: called about every PERIOD."""
        then, sent = self._sample
        if self.slots.in_flight == 0:  # an idle route is no slower for it
            self._sample = (now, self._moved())
        elif now > then:
            fresh = (self._moved() - sent) / (now - then)
            self.rate = fresh if self.rate == 0 else 0.6 * self.rate + 0.4 * fresh
            self._sample = (now, self._moved())

    def speed(self, now: float) -> Speed:
        """What one more request would get."""
        share = self.rate / max(1, self.slots.in_flight)
        return Speed(self.id, share, self.open(now) and self.slots.free)


class Lanes:
    """The lanes of one store. Belongs to the event loop."""

    def __init__(self, direct: Lane) -> None:
        self._lanes = [direct]
        self._changed = asyncio.Event()
        self._pacers: list[asyncio.Task[None]] = []
        self._measurer: asyncio.Task[None] | None = None
        direct.slots.on_free = self._changed.set

    @property
    def all(self) -> list[Lane]:
        return list(self._lanes)

    @property
    def several(self) -> bool:
        """Whether there is any choice."""
        return sum(not lane.dropped for lane in self._lanes) > 1

    def add(self, lane: Lane) -> None:
        """An edge joins."""
        lane.slots.on_free = self._changed.set
        self._lanes.append(lane)
        self._pacers.append(asyncio.ensure_future(lane.slots.pace()))
        if self._measurer is None:
            self._measurer = asyncio.ensure_future(self._measure())
        self._changed.set()

    async def take(self, fits: Callable[[Lane], bool], given_up: Callable[[], bool]) -> Lane | None:
        """A lane with a slot taken on it; None once whoever waits has `given_up`, which `changed` makes it look at.

        `fits` may leave lanes out; all are kept if it leaves none.
        """
        wanted: list[Lane] = []
        try:
            while not given_up():
                now = time.monotonic()
                open_lanes = [lane for lane in self._lanes if lane.open(now)]
                chosen = [lane for lane in open_lanes if fits(lane)] or open_lanes
                for lane in sorted(chosen, key=lambda lane: lane.slots.in_flight / lane.slots.pacer.limit):
                    if lane.slots.try_acquire(in_turn=True):
                        lane.begin()
                        return lane
                _stand_in_line(chosen, instead_of=wanted)
                wanted = chosen
                await self._wait_for_change()
            return None
        finally:
            _stand_in_line([], instead_of=wanted)
            for lane in wanted:
                lane.slots.grant()

    def take_now(self, lane_id: str) -> Lane | None:
        """A slot on one lane, if it is to be had at once."""
        for lane in self._lanes:
            if lane.id == lane_id and lane.open(time.monotonic()) and lane.slots.try_acquire():
                lane.begin()
                return lane
        return None

    def changed(self) -> None:
        """Something that waiters look at is different."""
        self._changed.set()

    async def close(self) -> None:
        """End the pacing of edges, and their connections."""
        for task in (*self._pacers, *([self._measurer] if self._measurer else [])):
            task.cancel()
        for lane in self._lanes[1:]:
            lane.route.interrupt()
            lane.route.close()

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await self._changed.wait()

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            now = time.monotonic()
            for lane in self._lanes:
                lane.measure(now)


def _stand_in_line(lanes: list[Lane], *, instead_of: list[Lane]) -> None:
    for lane in instead_of:
        lane.slots.wanted -= 1
    for lane in lanes:
        lane.slots.wanted += 1

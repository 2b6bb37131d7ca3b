"""The lanes of each store that a run sends to, and how edges join them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jettyctl.core.events import Event, Note
from jettyctl.core.model import Receipt, Upload
from jettyctl.core.pace import Pacer
from jettyctl.engine.lanes import DIRECT, Lane, Lanes, RouteReport
from jettyctl.engine.meter import Meter
from jettyctl.engine.slots import Slots
from jettyctl.errors import JettyError
from jettyctl.storage.base import Body, Store

if TYPE_CHECKING:
    from jettyctl.edges.base import EdgeSource

START = 16  # requests in flight that all routes together start with, where there are several
FEWEST = 2  # requests in flight that a route starts with at least


@dataclass(frozen=True, slots=True)
class DirectRoute:
    """The store itself as a route."""

    store: Store
    id: str = DIRECT

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        return self.store.put_part(upload, number, body)

    def cancel(self, thread: int) -> None:
        self.store.cancel(thread)

    def interrupt(self) -> None:
        self.store.interrupt()

    def close(self) -> None:
        """Whoever made the store closes it."""


class Routes:
    """Lanes by store. Belongs to the event loop."""

    def __init__(self, slots: Slots, meter: Meter, helpers: Executor, emit: Callable[[Event], None], *, most: int) -> None:
        self._slots = slots
        self._meter = meter
        self._helpers = helpers
        self._emit = emit
        self._most = most
        self._lanes: dict[int, Lanes] = {}
        self._opening: list[asyncio.Task[None]] = []

    def lanes(self, store: Store) -> Lanes:
        """The lanes of a store; just the direct one, unless edges were opened."""
        if id(store) not in self._lanes:
            self._lanes[id(store)] = Lanes(
                Lane(DirectRoute(store), self._slots, self._meter.direct, trusted=True, count=self._meter.add_sent)
            )
        return self._lanes[id(store)]

    def open_edges(self, store: Store, source: EdgeSource, size: int) -> None:
        """Let edges join the lanes of a store as soon as they have answered; the first call for a store counts."""
        if id(store) in self._lanes:
            return
        lanes = self.lanes(store)
        self._slots.pacer.lower(FEWEST)  # until it is known what the direct route's share is
        self._opening.append(asyncio.ensure_future(self._open(lanes, source, size)))

    def drop_edges(self, store: Store) -> None:
        """Go on with the direct route alone."""
        for lane in self.lanes(store).all[1:]:
            lane.dropped = True

    def reports(self) -> list[RouteReport]:
        """What each route did, the direct ones first."""
        lanes = [lane for lanes in self._lanes.values() for lane in lanes.all]
        return [lane.report for lane in lanes if lane.report.chunks or lane.report.errors]

    def interrupt(self) -> None:
        """Cut the connections of edges."""
        for lanes in self._lanes.values():
            for lane in lanes.all[1:]:
                lane.route.interrupt()

    async def close(self) -> None:
        """End what runs in the background, and give back the connections of edges."""
        for task in self._opening:
            task.cancel()
        for lanes in self._lanes.values():
            await lanes.close()

    async def _open(self, lanes: Lanes, source: EdgeSource, size: int) -> None:
        from jettyctl.edges.base import OpenedEdges  # most runs start sooner without it

        try:
            opened = await asyncio.get_running_loop().run_in_executor(self._helpers, source.open, size)
        except JettyError as error:
            opened = OpenedEdges((), 1.0, f"edges cannot be used: {error.message}")
        if opened.message:
            self._emit(Note("info", opened.message))
        self._slots.pacer.set(self._start(opened.direct))
        self._slots.on_free()
        for edge in opened.edges:
            meter = Meter()
            slots = Slots(Pacer(self._most, start=self._start(edge.weight)), meter.direct, most=self._most)
            lanes.add(Lane(edge.route, slots, meter.direct, trusted=False, count=self._counter(meter)))

    def _counter(self, meter: Meter) -> Callable[[int], None]:
        def count(moved: int) -> None:
            meter.add_sent(moved)
            self._meter.add_by_edges(moved)

        return count

    def _start(self, share: float) -> int:
        return max(FEWEST, round(START * share))

"""Chunks as they become ready to send: the bridge from the leader's thread to the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from jettyctl.core.model import Chunk, Digests, Layout
from jettyctl.engine.shared import Shared
from jettyctl.files.hashing import Leader, OnChunk
from jettyctl.files.source import Source


class Ready(NamedTuple):
    """A chunk that can be sent, and its CRC64, or None where the sender computes it."""

    chunk: Chunk
    crc: int | None


class LeaderLike(Protocol):
    """Reads a source in order; see `files.hashing.Leader`."""

    def run(self) -> Digests: ...

    def allow(self, low_water: int) -> None: ...

    def stop(self) -> None: ...


L = TypeVar("L", bound=LeaderLike)


class Feed(Generic[L]):
    """Runs a leader and yields what it passed. `crcs` keeps every CRC, `digests()` waits for the whole file's.

    Any thread may make one: the leader starts when `wait` has returned, or ends with what that raises. All else belongs to
    the event loop, but `abandon`. `began` is the time in nanoseconds before the first read.
    """

    def __init__(self, shared: Shared, make_leader: Callable[[OnChunk], L], wait: Callable[[], None] = lambda: None) -> None:
        self._shared = shared
        self._wait = wait
        self.began = time.time_ns()
        self._ready: asyncio.Queue[Ready | None] = asyncio.Queue()
        self.crcs: dict[int, int] = {}
        self.leader = make_leader(self._passed)
        self._leading = shared.leaders.submit(self._lead)
        self._run = asyncio.wrap_future(self._leading, loop=shared.loop)

    async def chunks(self) -> AsyncIterator[Ready]:
        """The chunks in order, each as soon as it is hashed. Raises what the leader raised."""
        while (item := await self._next()) is not None:
            yield item
        await self._run

    async def digests(self) -> Digests:
        """The checksums of the whole source. Raises what the leader raised."""
        return await self._run

    async def close(self) -> None:
        """End the leader and wait for its thread, so that the source can be closed."""
        self.leader.stop()
        await asyncio.wait([self._run])
        _look_at(self._run)

    def abandon(self) -> None:
        """The same, from another thread, where nothing was taken from it."""
        self.leader.stop()
        self._leading.exception()
        self._shared.loop.call_soon_threadsafe(self._run.add_done_callback, _look_at)

    def _lead(self) -> Digests:
        try:
            self._wait()
            return self.leader.run()
        finally:
            self._shared.loop.call_soon_threadsafe(self._ready.put_nowait, None)

    async def _next(self) -> Ready | None:
        if not self._ready.empty():
            return self._ready.get_nowait()
        began, could_send = time.monotonic(), self._shared.slots.free
        item = await self._ready.get()
        if could_send:
            self._shared.meter.add_starved(time.monotonic() - began)
        return item

    def _passed(self, chunk: Chunk, crc: int) -> None:
        self._shared.meter.add_hashed(chunk.length)
        self._shared.loop.call_soon_threadsafe(self._note, chunk, crc)

    def _note(self, chunk: Chunk, crc: int) -> None:
        self.crcs[chunk.index] = crc
        self._ready.put_nowait(Ready(chunk, crc))


def lead(shared: Shared, source: Source, layout: Layout, wait: Callable[[], None] = lambda: None) -> Feed[Leader]:
    """Hash a file, after `wait`, until the run is forced to stop."""
    return Feed(shared, lambda on_chunk: Leader(source, layout, on_chunk, halted=shared.stop.forced), wait)


def _look_at(run: asyncio.Future[Digests]) -> None:
    """An error that nobody looked at is complained of: it was raised to whoever waited, or does not matter any more."""
    if not run.cancelled():
        run.exception()

"""The chunks of one session on their way: each in its slot, carried by a thread, its receipt recorded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

from jettyctl.core.events import ChunkDone, Note
from jettyctl.core.model import Chunk, Receipt, Upload
from jettyctl.core.routing import Flight, hedge, worth_giving
from jettyctl.engine.feed import Ready
from jettyctl.engine.lanes import DIRECT, LOOK, Lane
from jettyctl.engine.recorder import Recorder
from jettyctl.engine.shared import Job, Shared
from jettyctl.errors import CorruptedInTransit, Interrupted, JettyError, SourceChanged, SourceError, Throttled
from jettyctl.files.body import FileBody, Readable
from jettyctl.files.crc import crc64

_LOOK = 4 << 20  # bytes read at a time where a sender computes a CRC itself


class Attempt:
    """One request for one chunk. The carrier counts bytes in it, the event loop looks at them."""

    def __init__(self, chunk: Chunk, lane: Lane) -> None:
        self.chunk = chunk
        self.lane = lane
        self.cancelled = False
        self.thread: int | None = None
        self._sent = 0
        self._started = self._moved_at = time.monotonic()

    def moved(self, count: int) -> None:
        """Bytes went out."""
        self.lane.count(count)
        self._sent += count
        self._moved_at = time.monotonic()

    def cancel(self) -> None:
        """Its chunk is there by another way: end it, also if it hangs in the kernel."""
        self.cancelled = True
        if self.thread is not None:
            self.lane.route.cancel(self.thread)

    def flight(self) -> Flight:
        """What the decisions about hedging look at."""
        return Flight(self.chunk.index, self.lane.id, self.chunk.length, self._sent, self._started, self._moved_at)


class Transfer:
    """Sends chunks until the feed ends. After a failure nothing new begins, and what runs is waited for.

    Each route takes what it is able to. A chunk that an edge fails to carry is sent once more, and at the end what a slow
    route still carries is sent by a faster one, too: the first answer wins. `on_low_water(offset)` hears how far from the
    start everything is acknowledged, and `on_failure()` that the feed need not go on: it may be waiting for just that.
    """

    def __init__(
        self,
        shared: Shared,
        job: Job,
        source: Readable,
        session_id: str,
        upload: Upload,
        recorder: Recorder,
        on_low_water: Callable[[int], None],
        on_failure: Callable[[], None],
        *,
        most: int | None = None,
    ) -> None:
        """`most` chunks of this file are on their way at once, whatever other files may have."""
        self._shared = shared
        self._job = job
        self._source = source
        self._session_id = session_id
        self._upload = upload
        self._recorder = recorder
        self._on_low_water = on_low_water
        self._on_failure = on_failure
        self._most = most
        self._lanes = shared.routes.lanes(job.store)
        self._failure: BaseException | None = None
        self._acknowledged: dict[int, Chunk] = {}
        self._low = 0
        self._crcs: dict[int, int | None] = {}
        self._attempts: dict[int, list[Attempt]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = 0
        self._open: set[int] = set()
        self.receipts: dict[int, Receipt] = {}
        self.carried_by: dict[int, str] = {}
        self.tried_by: dict[int, set[str]] = {}  # the edges that were given a chunk, whoever carried it in the end
        self.bytes_sent = 0

    def acknowledge(self, chunk: Chunk, receipt: Receipt, *, reused: bool = False) -> None:
        """A chunk is at the store, now or from before."""
        self.receipts[chunk.index] = receipt
        self._acknowledged[chunk.index] = chunk
        (self._shared.meter.add_reused if reused else self._shared.meter.add_done)(chunk.length)
        while (lowest := self._acknowledged.pop(self._low, None)) is not None:
            self._low += 1
            self._on_low_water(lowest.offset + lowest.length)

    def forget(self, chunk: Chunk) -> None:
        """The store does not have it after all: send it again with the next `run`."""
        del self.receipts[chunk.index], self.carried_by[chunk.index]
        self._shared.meter.add_done(-chunk.length)

    async def run(self, feed: AsyncIterator[Ready], total: int = 0) -> None:
        """Send everything that the feed yields; `total` bytes, if that is known.

        Raises the first failure; all threads are back when it does.
        """
        self._left = total
        try:
            async for chunk, crc in feed:
                self._crcs[chunk.index] = crc
                if not await self._begin(chunk):
                    break
            await self._finish()
        except BaseException as error:  # noqa: BLE001 - raised below, when all threads are back
            self._fail(error)
        while self._tasks:  # what ends badly may begin another
            await asyncio.wait(self._tasks)
        if self._failure:
            raise self._failure
        if self._shared.stop.requested():
            raise Interrupted("stopped on request")

    async def _begin(self, chunk: Chunk) -> bool:
        """Send a chunk by the route that has a slot first. False: nothing more may begin."""
        while self._most and not self._lanes.several and len(self._attempts) >= self._most:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        lane = await self._lanes.take(lambda lane: self._fits(lane, chunk), self._must_not_go_on)
        if lane is None:
            return False
        self._left -= chunk.length
        self._open.add(chunk.index)
        self._launch(chunk, lane)
        return True

    async def _finish(self) -> None:
        """Everything was begun: see it through, with second tries for what lags behind."""
        while self._tasks and not self._must_not_go_on():
            self._hedge()
            patience = LOOK if self._lanes.several else None
            await asyncio.wait(self._tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not self._open:
                self._cancel([attempt for attempts in self._attempts.values() for attempt in attempts])
                break

    def _fits(self, lane: Lane, chunk: Chunk) -> bool:
        """Whether the lane would end this chunk before the others have done all that is left."""
        now = time.monotonic()
        others = [other for other in self._lanes.all if other is not lane and other.open(now)]
        rates, together = [other.speed(now).rate for other in others], sum(other.rate for other in others)
        return worth_giving(lane.speed(now).rate, rates, together, chunk.length, max(self._left, chunk.length))

    def _hedge(self) -> None:
        if not self._lanes.several:
            return
        now = time.monotonic()
        single = [attempts[0] for index, attempts in self._attempts.items() if len(attempts) == 1 and index in self._open]
        flights = [attempt.flight() for attempt in single]
        speeds = [lane.speed(now) for lane in self._lanes.all if lane.open(now)]  # one that rests is not worth waiting for
        choice = hedge(flights, speeds, now)
        lane = self._lanes.take_now(choice[1]) if choice else None
        if choice and lane:
            lane.report.hedges += 1
            self._launch(self._attempts[choice[0]][0].chunk, lane)

    def _launch(self, chunk: Chunk, lane: Lane) -> None:
        attempt = Attempt(chunk, lane)
        if lane.id != DIRECT:
            self.tried_by.setdefault(chunk.index, set()).add(lane.id)
        self._attempts.setdefault(chunk.index, []).append(attempt)
        self._start(self._send(attempt))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        """Something that `run` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, attempt: Attempt) -> None:
        try:
            receipt = await self._shared.carry(self._carry, attempt)
        except BaseException as error:  # noqa: BLE001 - raised by `run`, when all threads are back
            self._ended(attempt)
            self._attempt_failed(attempt, error)
            return
        self._ended(attempt)
        try:
            await self._arrived(attempt, receipt)
        except JettyError as error:
            self._fail(error)

    def _ended(self, attempt: Attempt) -> None:
        attempt.lane.end()
        self._lanes.changed()
        attempts = self._attempts[attempt.chunk.index]
        attempts.remove(attempt)
        if not attempts:
            del self._attempts[attempt.chunk.index]

    async def _arrived(self, attempt: Attempt, receipt: Receipt) -> None:
        chunk, lane = attempt.chunk, attempt.lane
        real = lane.trusted or chunk.index in self.receipts or await self._confirmed(receipt, lane)
        if chunk.index in self.receipts:  # the other try was quicker
            return
        if not real:
            self._once_more(chunk)
            return
        lane.succeeded(chunk.length)
        if lane.due_for_a_check():
            self._start(self._spot_check(receipt, lane))
        self.bytes_sent += chunk.length
        self._open.discard(chunk.index)
        self._cancel(self._attempts.get(chunk.index, ()))
        self.carried_by[chunk.index] = lane.id
        self._recorder.completed(receipt, lane.id)
        self.acknowledge(chunk, receipt)
        self._shared.emit(ChunkDone(self._job.path, self._session_id, chunk.index, chunk.length))

    async def _confirmed(self, receipt: Receipt, lane: Lane) -> bool:
        """Whether the store has the part that an edge says it stored; an edge that lied is dropped."""
        lane.confirming = True
        try:
            stored = await self._shared.help(self._job.store.list_parts, self._upload)
        finally:
            lane.confirming = False
            self._lanes.changed()
        if any((part.number, part.size, part.etag) == (receipt.number, receipt.size, receipt.etag) for part in stored):
            lane.trusted = True
            return True
        self.drop(lane.id, f"part {receipt.number} is not at the store, though the edge said so")
        return False

    async def _spot_check(self, receipt: Receipt, lane: Lane) -> None:
        """Look at the store now and then; what an edge that lied had carried is found before Complete."""
        try:
            await self._confirmed(receipt, lane)
        except JettyError as error:
            self._shared.emit(Note("debug", f"the parts could not be listed: {error.message}"))

    def drop(self, lane_id: str, why: str) -> None:
        """Use an edge no more, and say why."""
        for lane in self._lanes.all:
            if lane.id == lane_id != DIRECT and not lane.dropped:
                lane.dropped = True
                lane.report.errors += 1
                lane.report.last_error = why
                self._shared.emit(Note("warning", f"edge {lane_id} is not used any more: {why}"))

    def _attempt_failed(self, attempt: Attempt, error: BaseException) -> None:
        """An edge's failure is the edge's; the direct route's is the file's, and so is what went wrong here."""
        lane, chunk = attempt.lane, attempt.chunk
        if attempt.cancelled or chunk.index in self.receipts:
            return
        ours = isinstance(error, SourceChanged | SourceError | Interrupted)
        if lane.id == DIRECT or not isinstance(error, JettyError) or ours:
            self._fail(error)
            return
        if isinstance(error, Throttled):
            lane.slots.throttled()
        if isinstance(error, CorruptedInTransit):
            self.drop(lane.id, error.message)
        else:
            lane.failed(error)
            self._shared.emit(Note("info", f"edge {lane.id} failed: {error.message}"))
        self._once_more(chunk)

    def _once_more(self, chunk: Chunk) -> None:
        """A try came to nothing: begin another, unless one is on its way. The feed may be waiting for this very chunk."""
        if chunk.index not in self._attempts:
            self._start(self._begin_again(chunk))

    async def _begin_again(self, chunk: Chunk) -> None:
        try:
            await self._begin(chunk)
        except BaseException as error:  # noqa: BLE001 - raised by `run`, when all threads are back
            self._fail(error)

    def _carry(self, attempt: Attempt) -> Receipt:
        chunk = attempt.chunk
        attempt.thread = threading.get_ident()
        try:
            return self._put(attempt, chunk)
        finally:
            attempt.thread = None

    def _put(self, attempt: Attempt, chunk: Chunk) -> Receipt:
        def halted() -> bool:
            return attempt.cancelled or self._failure is not None or self._shared.stop.forced()

        crc = self._crcs[chunk.index]
        known = crc if crc is not None else crc_of_range(self._source, chunk, halted)
        body = FileBody(self._source, chunk.offset, chunk.length, known, on_bytes=attempt.moved, stopped=halted)
        return attempt.lane.route.put_part(self._upload, chunk.number, body)

    @staticmethod
    def _cancel(attempts: Iterable[Attempt]) -> None:
        for attempt in list(attempts):
            attempt.cancel()

    def _must_not_go_on(self) -> bool:
        if not self._failure:
            try:
                self._recorder.check()
            except JettyError as error:
                self._fail(error)
        return self._failure is not None or self._shared.stop.requested()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None or (isinstance(self._failure, Interrupted) and not isinstance(error, Interrupted)):
            self._failure = error
            self._on_failure()
            self._lanes.changed()


def crc_of_range(source: Readable, chunk: Chunk, stopped: Callable[[], bool] = lambda: False) -> int:
    """The CRC64 of a chunk, read now. Raises Interrupted once `stopped`."""
    crc, position, end = 0, chunk.offset, chunk.offset + chunk.length
    while position < end:
        if stopped():
            raise Interrupted("stopped on request")
        data = source.read(position, min(_LOOK, end - position))
        crc, position = crc64(data, crc), position + len(data)
    return crc

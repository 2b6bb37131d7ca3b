"""Many files: a bounded number at a time, small ones among large ones, and one that fails does not stop the others."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from jettyctl.core.bottleneck import Bottleneck, Work, bottleneck
from jettyctl.core.events import FileDone, FileFailed, Planned, Progress
from jettyctl.core.tiers import is_near
from jettyctl.engine.crew import Crew
from jettyctl.engine.lanes import RouteReport
from jettyctl.engine.sessions import candidates
from jettyctl.engine.shared import Job, Shared
from jettyctl.engine.stop import GRACE
from jettyctl.engine.upload import Prepared, finish, prepare
from jettyctl.errors import JettyError
from jettyctl.files.source import STDIN_PATH
from jettyctl.storage.base import Store

if TYPE_CHECKING:
    from jettyctl.engine.handover import Answer

SMALL_AT_ONCE = 192  # requests in flight for small files, at most: each waits for an answer most of its time
SMALL_START = 128  # the same before anything was measured: 100 Mbit/s and two round trips of 80 ms are so many of 16 KiB
LARGE_AT_ONCE = 2  # multipart files in work together: the second fills the links while the first one's tail runs out
NEAR_START = 6  # requests for parts at once to begin with, where the store is near
PATIENCE = 1.0  # seconds that threads have to come back once their connections were cut
TICK = 0.1  # seconds between two progress events
TURN = 0.25  # seconds for which a carrier takes up one file after the other: so soon the pacer's decisions take effect
BUSY, CALM = 0.9, 0.7  # cores that this process keeps busy: with more, threads wait for each other; with less, there is room
FEWEST, FIRST = 1, 8  # threads that take up small files: at least, and at first; doubled or quartered with each tick
MANY = 32  # small files that are done before the loop is woken up for them: it looks with each tick anyway
QUICK = 32  # files done between two ticks: only small ones are, and what limits them is this process

Told = FileDone | Planned | Prepared | Exception  # what became of a job on its carrier


@dataclass(slots=True)
class Outcome:
    """What came of a run. `planned` is filled by dry runs only; `unstarted`: a stop
    came before all files were begun; `abandoned`: threads did not come back.
    """

    done: list[FileDone] = field(default_factory=list)
    failed: list[FileFailed] = field(default_factory=list)
    planned: list[Planned] = field(default_factory=list)
    routes: list[RouteReport] = field(default_factory=list)
    bottleneck: Bottleneck | None = None
    interrupted: bool = False
    unstarted: bool = False
    abandoned: bool = False
    seconds: float = 0.0


class Batch:
    """Runs jobs. Belongs to the event loop; `shared.stop` ends it early.

    A carrier thread takes up job after job for the length of a turn, and does all that a small file needs. Handing each file
    from the loop to a thread and back cost more than sending it.
    """

    def __init__(self, shared: Shared, *, files_at_once: int) -> None:
        self._shared = shared
        self._open_files = asyncio.Semaphore(files_at_once)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._outcome = Outcome()
        self._began = time.monotonic()
        self._forced_at: float | None = None
        self._stores: dict[int, Store] = {}
        self._cpu = _processor_time()
        self._asked_threads = self._remote = False
        self._waiting: deque[Job] = deque()
        self._takers: set[int] = set()  # numbers of those that take turns; from `_wanted` on they stop
        self._wanted = FIRST
        self._paced = False  # a large file was begun
        self._prepared: deque[tuple[Job, Told]] = deque()  # what carriers came to, until the loop looks at it
        self._awake = False  # the loop was asked to look, and has not yet
        self._running: set[asyncio.Task[None]] = set()
        self._bug: BaseException | None = None
        self._crew = Crew(shared, self._waiting)

    async def run(self, jobs: Iterable[Job | FileFailed]) -> Outcome:
        """Carry out all jobs. Failures of single files are in the outcome; nothing is raised for them."""
        shared = self._shared
        background = [asyncio.ensure_future(shared.slots.pace()), asyncio.ensure_future(self._report())]
        watch = asyncio.ensure_future(self._enforce_stop())
        try:
            for job in jobs:
                if isinstance(job, FileFailed):
                    shared.meter.begin_file()
                    self._failed(job)
                    shared.meter.end_file()
                    continue
                await self._open_files.acquire()
                if self._bug:
                    break
                if shared.stop.requested():
                    self._open_files.release()
                    self._outcome.unstarted = True
                    break
                self._begin(job)
            self._crew.complete = True
            await self._all_back()
        except Exception as error:  # noqa: BLE001 - raised below, when nothing is left at work
            self._bug = self._bug or error
        finally:
            self._crew.dismiss()
            for task in (*background, watch):
                task.cancel()
        if self._bug:
            await self._break_off()
            raise self._bug
        self._outcome.unstarted |= bool(self._waiting)
        self._outcome.interrupted = shared.stop.requested()
        self._outcome.routes = self._shared.routes.reports()
        self._outcome.seconds = time.monotonic() - self._began
        self._outcome.bottleneck = bottleneck(self._work())
        self._tell_progress()
        return self._outcome

    def _begin(self, job: Job) -> None:
        self._stores[id(job.store)] = job.store
        self._asked_threads |= job.wishes.threads is not None
        self._remote |= job.target.scheme != "local"
        if job.path == STDIN_PATH:
            self._start(self._see_through(job, self._stream(job)))
            return
        self._waiting.append(job)
        self._hire()

    def _hire(self) -> None:
        """Start as many takers as there is work for. One more than there are slots shows the pacer that work waits."""
        wanted = min(self._wanted, self._shared.slots.pacer.limit + 1)
        if len(self._takers) >= wanted:
            return
        free = (number for number in range(wanted) if number not in self._takers)
        for number in islice(free, max(0, len(self._waiting) - len(self._takers))):
            self._takers.add(number)
            self._start(self._take_turns(number))

    def _staff(self, cores: float, done: int) -> None:
        """Fewer takers where the processor is the limit, and another process; more where it is not. `done` files are, since
        this was decided last.
        """
        if cores > BUSY:
            self._wanted = max(FEWEST, min(self._wanted, len(self._takers)) // 4)
            if done >= QUICK and (worker := self._crew.hire(self._take_back)):
                self._wanted = FEWEST
                self._start(self._shared.help(worker.run))
        elif cores < CALM and self._waiting:
            self._wanted = min(2 * self._wanted, self._shared.slots.pacer.limit + 1)
            self._hire()

    def _take_back(self, jobs: list[Job], answer: Answer) -> None:
        """Tell what a worker did, and do the rest."""
        meter = self._shared.meter
        for job, file in zip(jobs, answer, strict=True):
            if file is None:
                self._waiting.append(replace(job, portable=False))
                continue
            planned, done = file
            meter.begin_file()
            meter.add_total(done.size)
            meter.add_hashed(done.bytes_sent)
            meter.add_sent(done.bytes_sent)
            (meter.add_done if done.status == "uploaded" else meter.add_reused)(done.size)
            self._shared.emit(planned)
            self._done(done)
        self._hire()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._stumble(error)

    def _stumble(self, error: BaseException) -> None:
        """Nothing more is begun after an error of ours, which `run` raises."""
        self._bug = self._bug or error
        self._crew.dismiss()
        self._open_files.release()

    async def _take_turns(self, number: int) -> None:
        try:
            while self._waiting and number < self._wanted and not self._shared.stop.requested():
                async with self._shared.slots.one():
                    await self._shared.carry(self._turn, number)
                self._look()
        finally:
            self._takers.remove(number)
            if not self._shared.stop.requested():
                self._hire()  # its number may be one of the few that go on

    def _turn(self, number: int) -> None:
        """Take up jobs for a while. On a carrier thread."""
        until = time.monotonic() + TURN
        while time.monotonic() < until and number < self._wanted and not self._shared.stop.requested():
            try:
                job = self._waiting.popleft()
            except IndexError:
                return
            told: Told
            try:
                told = prepare(self._shared, job)
            except Exception as error:  # noqa: BLE001 - handed to the loop, which raises what is a bug
                told = error
            self._prepared.append((job, told))
            urgent = isinstance(told, Prepared | Exception) or len(self._prepared) >= MANY
            if urgent and not self._awake:
                self._awake = True
                self._shared.loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        """See to what carriers came to."""
        self._awake = False  # before looking: what is added from now on may wake the loop up again
        count = len(self._prepared)  # before their events are told: those of later ones may not be there yet
        while self._shared.told:
            event = self._shared.told.popleft()
            if isinstance(event, Planned) and event.chunks <= 1 and not self._asked_threads:
                self._shared.slots.allow(SMALL_AT_ONCE, start=SMALL_START)
            self._shared.emit(event)
        for _ in range(count):
            job, told = self._prepared.popleft()
            if isinstance(told, Prepared):
                self._start(self._see_through(job, self._finish(job, told)))
            elif isinstance(told, JettyError):
                self._start(self._see_through(job, _raise(told)))
            elif isinstance(told, Exception):
                self._stumble(told)
            else:
                self._done(told)

    def _work(self) -> Work:
        """Where the time went."""
        meter, slots = self._shared.meter, self._shared.slots
        return Work(
            seconds=self._outcome.seconds,
            files=meter.files_done,
            sent=meter.sent,
            reading=meter.reading,
            hashing=meter.hashing,
            starved=meter.starved,
            throttled=meter.throttled,
            in_flight=slots.held,
            full=slots.full,
            cpu=_processor_time() - self._cpu,
            cores=os.cpu_count() or 1,
            limit_rate=self._shared.limit_rate,
            asked_threads=self._asked_threads,
            remote=self._remote,
        )

    async def _all_back(self) -> None:
        """Wait for the files in work; after a forced stop only for as long as cut connections take to fail."""
        while self._running and not self._outcome.abandoned and not self._bug:
            await asyncio.wait(self._running, timeout=0.5)
            forced = self._forced_at
            self._outcome.abandoned = bool(self._running) and forced is not None and time.monotonic() - forced > PATIENCE

    async def _break_off(self) -> None:
        """End what is at work behind an error of ours: threads that wait for the loop would keep the process for good."""
        self._cut()
        if self._running:
            await asyncio.wait(self._running, timeout=PATIENCE)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _see_through(self, job: Job, rest: Coroutine[None, None, FileDone]) -> None:
        """What a file still needs from the loop, or the failure that it came to."""
        try:
            told = await rest
        except JettyError as error:
            self._failed(FileFailed(job.path, job.target.url, error, await self._resumable(job, error)))
            self._over()
        else:
            self._done(told)

    def _done(self, told: FileDone | Planned) -> None:
        if isinstance(told, Planned):
            self._outcome.planned.append(told)
        else:
            self._outcome.done.append(told)
        self._shared.emit(told)
        self._over()

    def _over(self) -> None:
        self._shared.meter.end_file()
        self._open_files.release()

    async def _stream(self, job: Job) -> FileDone:
        from jettyctl.engine.stream import send_stream  # most runs start sooner without it

        return await send_stream(self._shared, job)

    async def _finish(self, job: Job, found: Prepared) -> FileDone:
        async with self._large:
            self._allow(job, found)
            return await finish(self._shared, job, found)

    def _allow(self, job: Job, found: Prepared) -> None:
        """Near a store few requests fill the network; the pacer finds out if not."""
        self._shared.slots.allow(found.strategy.threads)
        if not self._paced and is_near(job.store.round_trip()):
            self._shared.slots.pacer.lower(NEAR_START)
        self._paced = True

    async def _resumable(self, job: Job, error: JettyError) -> str | None:
        """The session that a resume would go on with."""
        try:
            waiting = await self._shared.help(candidates, self._shared, job)
        except JettyError:
            return None
        return next((s.session_id for s in waiting if s.upload_id and job.path != STDIN_PATH), None)

    def _failed(self, failure: FileFailed) -> None:
        self._outcome.failed.append(failure)
        self._shared.emit(failure)

    async def _enforce_stop(self) -> None:
        """After a stop was requested, give what is in flight its grace, then cut it."""
        while not self._shared.stop.requested():
            await asyncio.sleep(0.05)
        await asyncio.sleep(GRACE)
        self._cut()

    def _cut(self) -> None:
        """End what is in flight, also if it hangs."""
        self._shared.stop.force()
        self._forced_at = time.monotonic()
        for store in self._stores.values():
            store.interrupt()
        self._shared.routes.interrupt()
        self._crew.dismiss()

    async def _report(self) -> None:
        while True:
            began, cpu, done = time.monotonic(), time.process_time(), self._shared.meter.files_done
            await asyncio.sleep(TICK)
            cores = (time.process_time() - cpu) / (time.monotonic() - began)
            self._staff(cores, self._shared.meter.files_done - done)
            self._look()
            self._tell_progress()

    def _tell_progress(self) -> None:
        meter, slots = self._shared.meter, self._shared.slots
        self._shared.emit(
            Progress(
                files_total=meter.files_total,
                files_done=meter.files_done,
                bytes_total=meter.total,
                bytes_done=meter.done,
                bytes_reused=meter.reused,
                bytes_sent=meter.sent,
                bytes_hashed=meter.hashed,
                seconds=time.monotonic() - self._began,
                in_flight=slots.in_flight,
                limit=slots.pacer.limit,
            )
        )


def _processor_time() -> float:
    """Seconds of this process, and of those that it started and that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


async def _raise(error: JettyError) -> FileDone:
    raise error

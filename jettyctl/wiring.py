"""The one place where things are constructed and joined: stores with their wrappers, journal, cache, engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import IO, TYPE_CHECKING, Self, get_args

from jettyctl import machine, paths
from jettyctl.connection import Connection
from jettyctl.core.events import Event, FileFailed, Note, Retried
from jettyctl.core.model import ObjectOptions, Target
from jettyctl.core.names import printable
from jettyctl.core.pace import Pacer
from jettyctl.core.session import Session
from jettyctl.engine.batch import Batch, Outcome
from jettyctl.engine.meter import Meter
from jettyctl.engine.routes import Routes
from jettyctl.engine.shared import IfExists, Job, Shared, Wishes
from jettyctl.engine.slots import Slots
from jettyctl.engine.stop import Stop, stopping_signals
from jettyctl.errors import JournalError, Stalled, Throttled, UsageError
from jettyctl.files.cache import HashCache
from jettyctl.journal.base import Journal
from jettyctl.journal.sqlite import SqliteJournal
from jettyctl.storage.base import Route, Store
from jettyctl.stores import Stores

if TYPE_CHECKING:  # a store, and what probes edges, is imported where it is made: a run needs one of them
    from jettyctl.control.store import ControlStore
    from jettyctl.core.scoring import Edge
    from jettyctl.edges.base import EdgeChoice, EdgeSource
    from jettyctl.edges.opening import EdgeWishes
    from jettyctl.engine.workers import Desk, Worker
    from jettyctl.storage.dedup import Dedup

HELPERS = 16
LEADERS = 4  # files that are read ahead at once: two are in work, one may be begun early, and standard input is one
CHUNK_SECONDS, CHUNK_AT_LEAST = 4, 5 << 20  # a rate limit leaves room for so many chunks that one takes about 4 s


class Runtime:
    """What one run of jettyctl needs, opened lazily and closed together."""

    def __init__(
        self,
        stores: Stores,
        *,
        emit: Callable[[Event], None] = lambda _: None,
        edges: EdgeWishes | None = None,
        choice: EdgeChoice | None = None,
    ) -> None:
        """`edges` are the user's own, `choice` says how those of a control plane are chosen; None: there shall be none."""
        self.stores = stores
        self.connection = stores.connection
        self._choice = choice
        self._edges = edges if edges and any(edge.enabled for edge in edges.edges) else None
        self.stop = Stop()
        self._emit = emit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots: Slots | None = None
        self._meter = Meter()
        self._named: EdgeSource | None = None
        stores.hear(self.stop.wait, self._retried, self._throttled, self._note)
        self._journal: SqliteJournal | None = None
        self.cache = HashCache(paths.cache_file())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stores.close()
        self.cache.close()
        if self._journal:
            self._journal.close()

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            self._journal = SqliteJournal(paths.journal_file())
        return self._journal

    def tell_damage(self) -> None:
        """Say it when the journal was not whole: uploads are then found by asking the store, or begun anew."""
        if self._journal and self._journal.moved_aside:
            self._emit(Note("warning", f"the journal was not readable; it was moved to {self._journal.moved_aside}"))
        elif self._journal and self._journal.damaged:
            self._emit(Note("warning", f"{self._journal.damaged} damaged rows of the journal were left out"))

    def job(self, path: str, target: Target, options: ObjectOptions, wishes: Wishes, *, follow: bool = True) -> Job:
        """One source to one target."""
        return self._job(path, target, options, wishes, self.connection, follow=follow)

    def _job(
        self, path: str, target: Target, options: ObjectOptions, wishes: Wishes, how: Connection, *, follow: bool = True
    ) -> Job:
        store = self.stores.store(target, how, if_absent=wishes.if_exists == "fail")
        edges, dedup = self._edge_source(target, how), self._dedup(target)
        portable = edges is None and _repeatable(wishes) and self.stores.portable(target, how)
        job = Job(path, target, store, options, wishes, edges, dedup, follow, how.remembered(), portable=portable)
        return replace(job, leave=self.stores.control_store(target.endpoint).leave) if target.scheme == "jetty" else job

    def _dedup(self, target: Target) -> Dedup | None:
        """Who may have a file already, where there is somebody to ask."""
        if target.scheme != "jetty":
            return None
        from jettyctl.control.dedup import ControlDedup

        return ControlDedup(self.stores.control_store(target.endpoint))

    def _edge_source(self, target: Target, how: Connection) -> EdgeSource | None:
        """Edges for the uploads to a target's bucket, where the user has named any and the store is one that they serve."""
        if target.scheme == "jetty":
            return self._remote_edges(self.stores.control_store(target.endpoint), self._choice, how) if self._choice else None
        if self._edges is None or target.scheme != "s3":
            return None
        from jettyctl.edges.metrics import EdgeMemory
        from jettyctl.edges.opening import ProbedEdges
        from jettyctl.storage.s3.edge import EdgeRoute

        s3 = self.stores.s3(target, how)

        def refusal() -> str:
            nothing = s3.settle(target.key) == "none"
            return "edges are not used: the store verifies no checksum, so nothing would notice a broken edge" if nothing else ""

        def route(edge: Edge) -> Route:
            return EdgeRoute(edge.id, edge.url, s3, limit=self.stores.rate, ca_file=how.ca_file)

        return ProbedEdges(self._edges, EdgeMemory(paths.edges_file()), route, refusal, time.time, how.ca_file)

    def _remote_edges(self, store: ControlStore, choice: EdgeChoice, how: Connection) -> EdgeSource:
        """The edges that a control plane names; the same for all files of a run."""
        if self._named is None:
            from jettyctl.edges.remote import RemoteEdges

            def ask(size: int) -> Sequence[Edge]:
                from jettyctl.control.edges import fresh_edges

                return fresh_edges(store, size, choice)

            def route(edge: Edge) -> Route:
                from jettyctl.control.edges import ControlEdgeRoute

                return ControlEdgeRoute(edge, store, limit=self.stores.rate, ca_file=how.ca_file)

            def probed(edges: Sequence[Edge]) -> EdgeSource:
                from jettyctl.edges.metrics import EdgeMemory
                from jettyctl.edges.opening import EdgeWishes, ProbedEdges

                wishes = EdgeWishes(edges, choice.priority, choice.location, choice.budget)
                return ProbedEdges(wishes, EdgeMemory(paths.edges_file()), route, lambda: "", time.time, how.ca_file)

            self._named = RemoteEdges(ask, probed)
        return self._named

    def store_of(self, session: Session) -> Store:
        """The store that a session sends to. Raises UsageError where only the user can say that it is the right one."""
        target = session.target
        if session.imported and target.scheme == "s3" and target.endpoint != self.stores.s3_endpoint():
            raise UsageError(
                f"session {session.session_id} came from another machine and sends to {printable(target.endpoint or 'AWS')}",
                hint=f"If that is right, add --endpoint-url {printable(target.endpoint)}."
                if target.endpoint
                else "Unset the endpoint.",
            )
        return self.stores.store(target, self.connection.completed_by(session.options.get("connection")))

    def job_of(self, session: Session, wishes: Wishes) -> Job:
        """The job that goes on with a session, and does with an object that exists as the session says. Raises like
        `store_of`, and JournalError.
        """
        kept = dict(session.options)
        how = self.connection.completed_by(kept.pop("connection", None))
        wishes = wishes._replace(if_exists=kept.pop("if_exists", "overwrite"))
        unreadable = JournalError(f"session {session.session_id} is not readable", hint="Run the upload again.")
        if wishes.if_exists not in get_args(IfExists):
            raise unreadable
        try:
            options = ObjectOptions(**kept)
        except TypeError:
            raise unreadable from None
        self.store_of(session)  # says whether the endpoint needs to be confirmed
        return self._job(session.source.path, session.target, options, wishes, how)

    def run(self, jobs: Iterable[Job | FileFailed], *, threads: int | None = None, signals: bool = True) -> Outcome:
        """Carry out jobs; blocks. With `signals`, SIGINT, SIGTERM and SIGHUP stop the run in an orderly way."""
        return asyncio.run(self._run(jobs, threads, signals and threading.current_thread() is threading.main_thread()))

    async def _run(self, jobs: Iterable[Job | FileFailed], threads: int | None, signals: bool) -> Outcome:
        outcome = Outcome()
        async with self._sharing(threads, lambda: outcome.abandoned) as (shared, most):
            with stopping_signals(shared.loop, self.stop) if signals else contextlib.nullcontext():
                outcome = await Batch(shared, files_at_once=most).run(jobs)
        return outcome

    def work(self, inbox: Iterable[bytes], outbox: IO[bytes]) -> None:
        """Do what another process hands over, until `inbox` ends; blocks."""
        asyncio.run(self._work(inbox, outbox))

    async def _work(self, inbox: Iterable[bytes], outbox: IO[bytes]) -> None:
        from jettyctl.engine.handover import serve

        async with self._sharing(None, lambda: False) as (shared, _):
            await shared.help(serve, shared, self.job, inbox, outbox)

    @contextlib.asynccontextmanager
    async def _sharing(self, threads: int | None, hangs: Callable[[], bool]) -> AsyncIterator[tuple[Shared, int]]:
        """What all uploads of a run share, and how many requests may be in flight. Threads that hang are not waited for."""
        machine.reuse_freed_blocks()
        most = machine.requests_in_flight()
        if self.connection.limit_rate:  # more at a time would only make each chunk slower, and a stop lose more
            most = min(most, max(2, round(self.connection.limit_rate * CHUNK_SECONDS / CHUNK_AT_LEAST)))
        meter = self._meter = Meter()
        self._loop = asyncio.get_running_loop()
        self._slots = Slots(Pacer(min(most, threads or 16)), meter.direct, most=most)
        carriers = ThreadPoolExecutor(most, "carrier")
        helpers = ThreadPoolExecutor(min(HELPERS, most), "helper")
        leaders = ThreadPoolExecutor(LEADERS, "leader")
        routes = Routes(self._slots, meter, helpers, self._emit, most=most)
        try:
            yield (
                Shared(
                    journal=self.journal,
                    cache=self.cache,
                    slots=self._slots,
                    meter=meter,
                    stop=self.stop,
                    carriers=carriers,
                    helpers=helpers,
                    leaders=leaders,
                    emit=self._emit,
                    spool_dir=paths.spool_dir(),
                    routes=routes,
                    loop=self._loop,
                    limit_rate=self.connection.limit_rate,
                    hire=self._hire,
                    most_workers=machine.workers(),
                ),
                most,
            )
        finally:
            await routes.close()
            for executor in (carriers, leaders, helpers):
                executor.shutdown(wait=not hangs(), cancel_futures=True)
            self.tell_damage()

    def _hire(self, desk: Desk) -> Worker:
        """Another process, with the settings of this one. Nothing is imported from the directory that it runs in."""
        from jettyctl.engine.workers import Worker

        code = "import sys; sys.path[:] = sys.argv[1:]; from jettyctl.worker import main; main()"
        introduction = json.dumps(asdict(self.connection))
        command = [sys.executable, "-I", "-X", f"utf8={sys.flags.utf8_mode}", "-c", code, *sys.path]
        return Worker(command, introduction.encode() + b"\n", desk)

    def _retried(self, retried: Retried) -> None:
        """Called on carrier and helper threads."""
        if self._loop is None or self._slots is None:
            return
        self._loop.call_soon_threadsafe(self._emit, retried)
        if isinstance(retried.error, (Throttled, Stalled)):
            self._loop.call_soon_threadsafe(self._slots.throttled)

    def _throttled(self, seconds: float) -> None:
        """Called on carrier and helper threads."""
        self._meter.add_throttled(seconds)

    def _note(self, note: Note) -> None:
        """Called on any thread."""
        if self._loop:
            with contextlib.suppress(RuntimeError):  # the run is over, and with it the loop
                self._loop.call_soon_threadsafe(self._emit, note)


def _repeatable(wishes: Wishes) -> bool:
    """Whether a file may be begun by one process and, if that one dies, done by another, with the same result."""
    return wishes.if_exists == "overwrite" and wishes.threads is None and not wishes.dry_run

"""The one place where things are constructed and joined: stores with their wrappers, journal, cache, engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import IO, TYPE_CHECKING, Self

from jettyctl import machine, paths
from jettyctl.connection import Connection
from jettyctl.core.backoff import RetryPolicy
from jettyctl.core.events import Event, FileFailed, Note, Retried
from jettyctl.core.model import ObjectOptions, Target
from jettyctl.core.names import printable
from jettyctl.core.pace import Pacer
from jettyctl.core.session import Session
from jettyctl.core.targets import Destination, control_origin, origin_of
from jettyctl.engine.batch import Batch, Outcome
from jettyctl.engine.meter import Meter
from jettyctl.engine.routes import Routes
from jettyctl.engine.shared import Job, Shared, Wishes
from jettyctl.engine.slots import Slots
from jettyctl.engine.stop import Stop, stopping_signals
from jettyctl.errors import JournalError, Stalled, Throttled, UsageError
from jettyctl.files.cache import HashCache
from jettyctl.journal.base import Journal
from jettyctl.journal.sqlite import SqliteJournal
from jettyctl.storage.base import Route, Store
from jettyctl.storage.dedup import Dedup
from jettyctl.storage.limit import LimitedStore, RateLimit
from jettyctl.storage.retry import Retries, RetryingStore

if TYPE_CHECKING:  # a store, and what probes edges, is imported where it is made: a run needs one of them
    from jettyctl.control.store import ControlStore
    from jettyctl.core.scoring import Edge
    from jettyctl.edges.base import EdgeChoice, EdgeSource
    from jettyctl.edges.opening import EdgeWishes
    from jettyctl.engine.workers import Desk, Worker
    from jettyctl.storage.s3.client import S3Store
    from jettyctl.storage.s3.settings import S3Settings

HELPERS = 16
CHUNK_SECONDS, CHUNK_AT_LEAST = 4, 5 << 20  # a rate limit leaves room for so many chunks that one takes about 4 s


class Runtime:
    """What one run of jettyctl needs, opened lazily and closed together."""

    def __init__(
        self,
        connection: Connection,
        *,
        emit: Callable[[Event], None] = lambda _: None,
        edges: EdgeWishes | None = None,
        choice: EdgeChoice | None = None,
        take_over: bool = False,
        policy: RetryPolicy | None = None,
    ) -> None:
        """`edges` are the user's own, `choice` says how those of a control plane are chosen; None: there shall be none."""
        self.connection = connection
        self._choice = choice
        self._take_over = take_over
        self._edges = edges if edges and any(edge.enabled for edge in edges.edges) else None
        self.stop = Stop()
        self._emit = emit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots: Slots | None = None
        self._meter = Meter()
        self._stores: dict[tuple[str, str, str, Connection], Store] = {}
        self._bare: dict[tuple[str, str, str, Connection], S3Store] = {}
        self._planes: dict[str, ControlStore] = {}
        self._named: EdgeSource | None = None
        self._rate = RateLimit(connection.limit_rate) if connection.limit_rate else None
        self._retries = Retries(policy or RetryPolicy(), wait=self.stop.wait, notify=self._retried)
        self._portable: set[tuple[str, str, str, Connection]] = set()  # stores that another process can reach as well
        self._journal: SqliteJournal | None = None
        self.cache = HashCache(paths.cache_file())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._stores.values():
            store.close()
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

    def endpoint(self, destination: Destination) -> str:
        """The endpoint part of a target: the store's directory, the S3 endpoint's URL, "" for AWS itself, or the origin of
        a control plane. Raises UsageError where none is configured.
        """
        if destination.scheme == "local":
            return paths.local_store()
        return self._s3_endpoint() if destination.scheme == "s3" else self.plane(destination.authority)

    def plane(self, authority: str = "") -> str:
        """The origin of the control plane at `host[:port]`, or of the configured one. Raises UsageError if there is none."""
        configured = control_origin(self.connection.control) if self.connection.control else ""
        if authority and configured.partition("://")[2] != authority:
            return origin_of(authority)
        if not configured:
            hint = "Run `jettyctl config set control https://HOST`, or write jetty://HOST/prefix/."
            raise UsageError("no control plane is configured", hint=hint)
        return configured

    def control_store(self, origin: str, how: Connection | None = None, *, if_absent: bool = False) -> ControlStore:
        """The control plane at an origin, as the user whose key is kept for it. Raises AccessError if none is."""
        if origin not in self._planes:
            from jettyctl.control.store import ControlStore, client_of, holder_of

            how = how or self.connection
            self._planes[origin] = ControlStore(
                client_of(control_origin(origin), verify=how.verify_tls, ca_file=how.ca_file),
                holder=holder_of(paths.holder_file()),
                take_over=self._take_over,
                if_absent=if_absent,
                verify=how.verify_tls,
                ca_file=how.ca_file,
            )
        return self._planes[origin]

    def store(self, target: Target, connection: Connection | None = None, *, if_absent: bool = False) -> Store:
        """The store of a target's bucket, with retry and rate limit around it.

        `if_absent` says of all uploads to a control plane, when they begin, that they must not replace an object.
        """
        how = connection or self.connection
        place = (target.scheme, target.endpoint, target.bucket, how)
        if place not in self._stores:
            store: Store
            if target.scheme == "local":
                store = _local(target)
            elif target.scheme == "jetty":
                store = self.control_store(target.endpoint, how, if_absent=if_absent)
            else:
                store = self._bare[place] = self._s3(target, how)
            if self._rate:
                store = LimitedStore(store, self._rate)
            self._stores[place] = RetryingStore(store, self._retries)
        return self._stores[place]

    def job(self, path: str, target: Target, options: ObjectOptions, wishes: Wishes, *, follow: bool = True) -> Job:
        """One source to one target."""
        return self._job(path, target, options, wishes, self.connection, follow=follow)

    def _job(
        self, path: str, target: Target, options: ObjectOptions, wishes: Wishes, how: Connection, *, follow: bool = True
    ) -> Job:
        store = self.store(target, how, if_absent=wishes.if_exists == "fail")
        edges, dedup = self._edge_source(target, how), self._dedup(target)
        place = (target.scheme, target.endpoint, target.bucket, how)
        portable = edges is None and place in self._portable and _repeatable(wishes)
        job = Job(path, target, store, options, wishes, edges, dedup, follow, how.remembered(), portable=portable)
        return replace(job, leave=self.control_store(target.endpoint).leave) if target.scheme == "jetty" else job

    def _dedup(self, target: Target) -> Dedup | None:
        """Who may have a file already, where there is somebody to ask."""
        if target.scheme != "jetty":
            return None
        from jettyctl.control.dedup import ControlDedup

        return ControlDedup(self.control_store(target.endpoint))

    def _edge_source(self, target: Target, how: Connection) -> EdgeSource | None:
        """Edges for the uploads to a target's bucket, where the user has named any and the store is one that they serve."""
        if target.scheme == "jetty":
            return self._remote_edges(self.control_store(target.endpoint), self._choice, how) if self._choice else None
        if self._edges is None or target.scheme != "s3":
            return None
        from jettyctl.edges.metrics import EdgeMemory
        from jettyctl.edges.opening import ProbedEdges
        from jettyctl.storage.s3.edge import EdgeRoute

        s3 = self._bare[target.scheme, target.endpoint, target.bucket, how]

        def refusal() -> str:
            nothing = s3.settle(target.key) == "none"
            return "edges are not used: the store verifies no checksum, so nothing would notice a broken edge" if nothing else ""

        def route(edge: Edge) -> Route:
            return EdgeRoute(edge.id, edge.url, s3, limit=self._rate, ca_file=how.ca_file)

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

                return ControlEdgeRoute(edge, store, limit=self._rate, ca_file=how.ca_file)

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
        if session.imported and target.scheme == "s3" and target.endpoint != self._s3_endpoint():
            raise UsageError(
                f"session {session.session_id} came from another machine and sends to {printable(target.endpoint or 'AWS')}",
                hint=f"If that is right, add --endpoint-url {printable(target.endpoint)}."
                if target.endpoint
                else "Unset the endpoint.",
            )
        return self.store(target, self.connection.completed_by(session.options.get("connection")))

    def job_of(self, session: Session, wishes: Wishes) -> Job:
        """The job that goes on with a session. Raises like `store_of`."""
        kept = {name: value for name, value in session.options.items() if name != "connection"}
        try:
            options = ObjectOptions(**kept)
        except TypeError:
            raise JournalError(f"session {session.session_id} is not readable", hint="Run the upload again.") from None
        how = self.connection.completed_by(session.options.get("connection"))
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

    def work(self, inbox: Iterable[bytes], outbox: IO[bytes], *, hands: int) -> None:
        """Do what another process hands over, until `inbox` ends; blocks. `hands` files are in work at a time."""
        asyncio.run(self._work(inbox, outbox, hands))

    async def _work(self, inbox: Iterable[bytes], outbox: IO[bytes], hands: int) -> None:
        from jettyctl.engine.handover import serve

        async with self._sharing(None, lambda: False) as (shared, _):
            await shared.help(serve, shared, self._remade, inbox, outbox, hands=hands)

    def _remade(self, path: str, target: Target, options: ObjectOptions, wishes: Wishes, follow: bool) -> Job:
        return self.job(path, target, options, wishes, follow=follow)

    @contextlib.asynccontextmanager
    async def _sharing(self, threads: int | None, hangs: Callable[[], bool]) -> AsyncIterator[tuple[Shared, int]]:
        """What all uploads of a run share, and how many requests may be in flight. Threads that hang are not waited for."""
        most = machine.requests_in_flight()
        if self.connection.limit_rate:  # more at a time would only make each chunk slower, and a stop lose more
            most = min(most, max(2, round(self.connection.limit_rate * CHUNK_SECONDS / CHUNK_AT_LEAST)))
        meter = self._meter = Meter()
        self._loop = asyncio.get_running_loop()
        self._slots = Slots(Pacer(min(most, threads or 16)), meter.direct, most=most)
        carriers = ThreadPoolExecutor(most, "carrier")
        helpers = ThreadPoolExecutor(min(HELPERS, most), "helper")
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
            for executor in (carriers, helpers):
                executor.shutdown(wait=not hangs(), cancel_futures=True)
            self.tell_damage()

    def _hire(self, desk: Desk, hands: int) -> Worker:
        """Another process, with the settings of this one. Nothing is imported from the directory that it runs in."""
        from jettyctl.engine.workers import Worker

        code = "import sys; sys.path[:] = sys.argv[1:]; from jettyctl.worker import main; main()"
        introduction = json.dumps([asdict(self.connection), hands])
        return Worker([sys.executable, "-I", "-c", code, *sys.path], introduction.encode() + b"\n", desk)

    def _retried(self, retried: Retried) -> None:
        """Called on carrier and helper threads."""
        if self._loop is None or self._slots is None:
            return
        self._loop.call_soon_threadsafe(self._emit, retried)
        if isinstance(retried.error, (Throttled, Stalled)):
            self._loop.call_soon_threadsafe(self._slots.throttled)
        if isinstance(retried.error, Throttled):
            self._meter.add_throttled(retried.delay)

    def _s3_endpoint(self) -> str:
        return self._settings(self.connection).endpoint_url or ""

    @staticmethod
    def _settings(asked: Connection) -> S3Settings:
        from jettyctl.storage.s3.settings import resolve

        return resolve(
            os.environ, endpoint_url=asked.endpoint_url, region=asked.region, profile=asked.profile, ca_file=asked.ca_file
        )

    def _s3(self, target: Target, how: Connection) -> S3Store:
        from jettyctl.storage.s3.client import S3Config, S3Store
        from jettyctl.storage.s3.credentials import StaticKeys
        from jettyctl.storage.s3.memory import RememberedChecksums
        from jettyctl.storage.s3.sign import Signer

        settings = self._settings(how)
        if how == self.connection and not self._rate and (isinstance(settings.source, StaticKeys) or not how.sign):
            self._portable.add((target.scheme, target.endpoint, target.bucket, how))
        config = S3Config(
            bucket=target.bucket,
            region=settings.region,
            endpoint_url=target.endpoint or None,
            addressing=how.addressing,
            verify_tls=how.verify_tls,
            ca_file=settings.ca_file,
            checksum=how.checksum,
        )
        signer = Signer(settings.source if how.sign else None, settings.region)
        store = S3Store(config, signer, memory=RememberedChecksums(paths.endpoints_file()), note=self._note)
        store.open_ahead()
        return store

    def _note(self, note: Note) -> None:
        """Called on any thread."""
        if self._loop:
            with contextlib.suppress(RuntimeError):  # the run is over, and with it the loop
                self._loop.call_soon_threadsafe(self._emit, note)


def _repeatable(wishes: Wishes) -> bool:
    """Whether a file may be begun by one process and, if that one dies, done by another, with the same result."""
    return wishes.if_exists == "overwrite" and wishes.threads is None and not wishes.dry_run


def _local(target: Target) -> Store:
    from jettyctl.storage.local import LocalStore

    return LocalStore(target.endpoint)

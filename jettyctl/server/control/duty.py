"""Work that one process among many does at a time: the monitor, the daily figures, the removal of what is old.

Each worker tries to take one lease, a row with a holder and an end; who has it does all chores, and renews it. Time is
the database's. A worker that ends gives the lease up; one that is killed lets it run out: within two intervals another
has it. A holder that cannot renew stops before the lease ends. Chores must bear to be cut off, and done by two at once
where a holder slept: each writes what is true anyway, or what comes out the same when it is done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, literal

from jettyctl.net.tls import tls_context
from jettyctl.server.control import log
from jettyctl.server.control.database import Database, DatabaseDown
from jettyctl.server.control.monitor import Monitor
from jettyctl.server.control.rollup import prune_metrics, roll_up
from jettyctl.server.control.settings import Settings
from jettyctl.server.control.tables import Moment, duty_leases

NAME = "keeper"
INTERVAL = 10.0  # seconds; shorter where edges are looked at more often
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do every `seconds` (at whole multiples of them, by the clock), and at once when the duty begins."""

    name: str
    seconds: float
    run: Callable[[], Awaitable[object]]


class Duty:
    """Does chores while this process has the lease."""

    def __init__(self, database: Database, chores: Sequence[Chore], interval: float = INTERVAL) -> None:
        self._database = database
        self._chores = chores
        self._beat = interval / 2  # between two tries to take or renew
        self._lasts = interval * 1.5  # seconds of a lease: with the beat until another looks, two intervals
        self._until = 0.0  # monotonic; the lease is ours until then
        self._asked = False  # an answer that did not come may have been yes
        self._doing: list[asyncio.Task[None]] = []
        self.holder = f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(8)}"

    async def run(self) -> None:
        """Until it is cancelled; then the lease is free."""
        try:
            while True:
                if not await self._has_lease():
                    await self._stop()
                elif not self._doing:
                    self._doing = [asyncio.create_task(_keep_doing(chore), name=chore.name) for chore in self._chores]
                await asyncio.sleep(self._beat)
        finally:
            await self._stop()
            await self._give_up()

    async def _has_lease(self) -> bool:
        """Take or renew it. What cannot be renewed now is ours until the next try, or it counts as lost."""
        asked, self._asked = time.monotonic(), True
        try:
            async with asyncio.timeout(self._beat):
                taken = await self._take()
        except (DatabaseDown, TimeoutError):
            return time.monotonic() + self._beat < self._until
        except Exception as error:  # noqa: BLE001 - the process goes on, and so do its tries
            log.failure("duty", error)
            return time.monotonic() + self._beat < self._until
        self._until, self._asked = (asked + self._lasts, True) if taken else (0.0, False)
        return taken

    async def _take(self) -> bool:
        write = self._database.insert(duty_leases).values(
            name=NAME, holder=self.holder, expires_at=server_time(self._database, self._lasts)
        )
        free = duty_leases.c.expires_at <= server_time(self._database)
        write = write.on_conflict_do_update(
            index_elements=["name"],
            set_={"holder": write.excluded.holder, "expires_at": write.excluded.expires_at},
            where=free | (duty_leases.c.holder == self.holder),
        )
        async with self._database.begin() as connection:
            return (await connection.execute(write.returning(duty_leases.c.holder))).first() is not None

    async def _stop(self) -> None:
        doing, self._doing = self._doing, []
        for task in doing:
            task.cancel()
        if doing:
            await asyncio.wait(doing)

    async def _give_up(self) -> None:
        if not self._asked:
            return
        mine = (duty_leases.c.name == NAME) & (duty_leases.c.holder == self.holder)
        with contextlib.suppress(DatabaseDown, TimeoutError):  # it runs out by itself
            async with asyncio.timeout(self._beat), self._database.begin() as connection:
                await connection.execute(delete(duty_leases).where(mine))


@asynccontextmanager
async def duties(database: Database, settings: Settings, more: Sequence[Chore] = ()) -> AsyncIterator[None]:
    """Take part in the duties while the context lasts; `more` are chores of others. Every worker enters it."""
    chores = [Chore("figures", HOUR, lambda: _figures(database)), *more]
    interval = INTERVAL
    if settings.monitor_seconds > 0:
        monitor = Monitor(database, settings.monitor_seconds, tls_context(True, settings.ca_file))
        chores.append(Chore("monitor", settings.monitor_seconds, monitor.round))
        interval = min(INTERVAL, settings.monitor_seconds)
    duty = asyncio.create_task(Duty(database, chores, interval).run(), name="duty")
    try:
        yield
    finally:
        duty.cancel()
        await asyncio.wait([duty])


def server_time(database: Database, later: float = 0.0) -> ColumnElement[datetime]:
    """The time so many seconds from now, by the one clock that all processes share: SQLite has its process's only."""
    seconds = timedelta(seconds=later)
    if database.dialect == "sqlite":
        return literal(datetime.now(UTC) + seconds, Moment())
    return func.now() + seconds


async def _figures(database: Database) -> None:
    """The days' figures, then the end of what they were made of."""
    now = datetime.now(UTC)
    await roll_up(database, now)
    await prune_metrics(database, now)


async def _keep_doing(chore: Chore) -> None:
    """Round after round. Whatever went wrong in one, the next one comes."""
    while True:
        try:
            await chore.run()
        except DatabaseDown as error:
            log.write("warning", chore=chore.name, error=str(error))
        except Exception as error:  # noqa: BLE001 - a bug in one chore must not end the others
            log.failure(chore.name, error)
        await asyncio.sleep(chore.seconds - time.time() % chore.seconds)

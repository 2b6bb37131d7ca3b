"""Work that is to be done after an answer was given, at least once: rows of `jobs`, claimed by pushing their time away.

A job that is claimed is due again when the claim runs out, so that nothing is lost with the process that had it. The
claim is renewed while the work lasts. A job that was asked for anew meanwhile stays, and is done again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, select, update

from jettyctl.server.control import log
from jettyctl.server.control.database import Database, DatabaseDown
from jettyctl.server.control.duty import server_time
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.keylocks import renewing
from jettyctl.server.control.tables import jobs

CLAIM_SECONDS = 60.0
LOOK_SECONDS = 2.0  # between two looks, where nobody pokes
FIRST_WAIT, LONGEST_WAIT = 2.0, 3600.0  # seconds after the first failure, doubled with each
MOST_ATTEMPTS = 30  # more than a day


class Later(Exception):
    """The work cannot be done now. The reason is for the log."""


@dataclass(slots=True)
class Job:
    """A claimed job. `due_at` names the claim."""

    id: str
    subject: str
    attempts: int
    due_at: datetime


class Worker:
    """Does the jobs of one kind, one after the other."""

    def __init__(self, database: Database, kind: str, work: Callable[[str], Awaitable[None]]) -> None:
        self._database = database
        self._kind = kind
        self._work = work
        self._poked = asyncio.Event()
        self._stopping = False

    def poke(self) -> None:
        """There may be something to do now."""
        self._poked.set()

    def stop(self) -> None:
        """End `run` after the job that it is at."""
        self._stopping = True
        self.poke()

    async def run(self) -> None:
        """Look for work, and do it, until stopped."""
        while not self._stopping:
            try:
                while not self._stopping and await self.do_one():
                    pass
            except DatabaseDown:
                pass  # the next look comes
            except Exception as error:  # noqa: BLE001 - the process goes on, and so does its work
                log.failure(self._kind, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poked.wait(), LOOK_SECONDS)
            self._poked.clear()

    async def do_one(self) -> bool:
        """Do a job that is due; whether there was one."""
        job = await self._claim()
        if job is None:
            return False
        try:
            async with renewing(lambda: self._renew(job), CLAIM_SECONDS / 3):
                await self._work(job.subject)
        except (Later, ApiError, DatabaseDown) as error:
            await self._put_off(job, str(error))
        except Exception as error:  # noqa: BLE001 - a bug with one subject must not stop the others
            log.failure(self._kind, error)
            await self._put_off(job, type(error).__name__)
        else:
            await self._done(job)
        return True

    async def _claim(self) -> Job | None:
        j, now = jobs.c, server_time(self._database)
        due = and_(j.kind == self._kind, j.due_at <= now)
        async with self._database.read() as connection:
            first = (await connection.execute(select(j.id).where(due).order_by(j.due_at).limit(1))).scalar()
        if first is None:
            return None
        claiming = (
            update(jobs)
            .where(j.id == first, due)
            .values(due_at=server_time(self._database, CLAIM_SECONDS), attempts=j.attempts + 1)
            .returning(j.id, j.subject, j.attempts, j.due_at)
        )
        async with self._database.begin() as connection:
            row = (await connection.execute(claiming)).first()
        return None if row is None else Job(*row)  # another was quicker: the next look finds what is left

    async def _renew(self, job: Job) -> None:
        job.due_at = await self._moved(job, CLAIM_SECONDS) or job.due_at

    async def _put_off(self, job: Job, why: str) -> None:
        log.write("warning", job=self._kind, attempts=job.attempts, error=why)
        if job.attempts >= MOST_ATTEMPTS:
            await self._done(job)
        else:
            await self._moved(job, min(LONGEST_WAIT, FIRST_WAIT * 2 ** (job.attempts - 1)))

    async def _moved(self, job: Job, seconds: float) -> datetime | None:
        moving = update(jobs).where(_mine(job)).values(due_at=server_time(self._database, seconds)).returning(jobs.c.due_at)
        async with self._database.begin() as connection:
            due_at: datetime | None = (await connection.execute(moving)).scalar()
        return due_at

    async def _done(self, job: Job) -> None:
        async with self._database.begin() as connection:
            await connection.execute(delete(jobs).where(_mine(job)))


def _mine(job: Job) -> ColumnElement[bool]:
    return and_(jobs.c.id == job.id, jobs.c.due_at == job.due_at)



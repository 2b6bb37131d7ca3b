"""Counts that all processes share, each for a window of time that begins with the first count.

Two implementations keep the promise: the database's here, and Redis's in `counters_redis`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy import case

from jettyctl.server.control.database import Database
from jettyctl.server.control.settings import Settings
from jettyctl.server.control.tables import rate_counters


class Counters(Protocol):
    """Counts by name."""

    async def add(self, name: str, amount: int, seconds: int) -> tuple[int, float]:
        """Add to a count: what it is now, and the seconds until it begins anew.

        The first `add` of a name, and the first after its window ended, begins a window of `seconds`. Atomic.
        Raises DatabaseDown where nobody can say.
        """


class SqlCounters:
    """Counts in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, name: str, amount: int, seconds: int) -> tuple[int, float]:
        now, counter = datetime.now(UTC), rate_counters.c
        ends = now + timedelta(seconds=seconds)
        over = counter.expires_at <= now
        statement = self._database.insert(rate_counters).values(name=name, total=amount, expires_at=ends)
        statement = statement.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "total": case((over, amount), else_=counter.total + amount),
                "expires_at": case((over, ends), else_=counter.expires_at),
            },
        )
        async with self._database.begin() as connection:
            row = (await connection.execute(statement.returning(counter.total, counter.expires_at))).one()
        return row.total, max(0.0, (row.expires_at - now).total_seconds())


@asynccontextmanager
async def open_counters(settings: Settings, database: Database) -> AsyncIterator[Counters]:
    """The counters of these settings: Redis's where there is one, the database's as a stand-in while it does not answer."""
    if settings.redis_url is None:
        yield SqlCounters(database)
        return
    from jettyctl.server.control.counters_redis import RedisCounters
    from jettyctl.server.control.redis_client import open_redis

    async with open_redis(settings.redis_url) as redis:
        yield RedisCounters(redis, SqlCounters(database))

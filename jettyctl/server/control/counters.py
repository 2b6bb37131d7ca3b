"""Counters that all processes share, each for a window of time that begins with the first thing counted."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy import case

from jettyctl.server.control.database import Database
from jettyctl.server.control.settings import Settings
from jettyctl.server.control.tables import rate_counters

MOST = 2**31 - 1  # a total stays there


class Counters(Protocol):
    """Safe to use from all requests at once."""

    async def add(self, name: str, amount: int, seconds: int) -> tuple[int, float]:
        """Count `amount` (> 0): the total of the window, this call's included, and the seconds that are left of it.

        The window is `seconds` long and begins with the first call after the last one ended. `name` is at most 400
        characters. No call is lost, and none sees a total that lacks an earlier one's. Raises DatabaseDown.
        """
        ...


class SqlCounters:
    """Counts in the database. `clock` gives seconds since the epoch."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def add(self, name: str, amount: int, seconds: int) -> tuple[int, float]:
        now = datetime.fromtimestamp(self._clock(), UTC)
        ends = now + timedelta(seconds=seconds)
        row = rate_counters.c
        write = self._database.insert(rate_counters).values(name=name, total=min(amount, MOST), expires_at=ends)
        over = (row.expires_at <= now) | (row.expires_at > ends)  # the second: another process's clock was put back
        full = row.total > MOST - min(amount, MOST)
        write = write.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "total": case((over, write.excluded.total), (full, MOST), else_=row.total + write.excluded.total),
                "expires_at": case((over, write.excluded.expires_at), else_=row.expires_at),
            },
        )
        async with self._database.begin() as connection:
            total, until = (await connection.execute(write.returning(row.total, row.expires_at))).one()
        return total, max(0.0, (until - now).total_seconds())


@asynccontextmanager
async def open_counters(settings: Settings, database: Database) -> AsyncIterator[Counters]:
    """The counters of this process: in Redis where there is one, in the database otherwise."""
    if settings.redis_url is None:
        yield SqlCounters(database)
        return
    from jettyctl.server.control.counters_redis import RedisCounters  # a service without Redis does not load its client

    counters = RedisCounters(settings.redis_url, SqlCounters(database))
    try:
        yield counters
    finally:
        await counters.close()

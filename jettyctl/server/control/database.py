"""The database: one engine, transactions, and what differs between SQLite and Postgres.

SQLite is used through one connection: transactions of this process wait for each other in the pool, those of others
(`jettyctl keys`) in SQLite's own lock. Never open a second transaction inside of one: it waits for itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from sqlalchemy import Table, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from jettyctl.errors import JettyError, UsageError
from jettyctl.server.control.sqlite import BUSY_SECONDS, Connection, tune

POOL = 20  # connections of a worker to Postgres, which stay open: making one costs as much as many queries

Dialect = Literal["sqlite", "postgresql"]
Insert = postgresql.Insert | sqlite.Insert


class DatabaseDown(JettyError):
    """The database does not answer, or not now."""

    code = "database"
    retryable = True


class Database:
    """Opens transactions. Errors of the driver become DatabaseDown where the same call may succeed later."""

    def __init__(self, url: str) -> None:
        parsed = _driver_url(url)
        self.dialect: Dialect = "sqlite" if parsed.get_backend_name() == "sqlite" else "postgresql"
        self.url = parsed
        if self.dialect == "sqlite":
            one = {"pool_size": 1, "max_overflow": 0, "pool_timeout": BUSY_SECONDS}
            self._engine = create_async_engine(parsed, hide_parameters=True, connect_args={"factory": Connection}, **one)
            tune(self._engine)
            self._reading = self._engine.execution_options(reading=True)
        else:
            self._engine = create_async_engine(parsed, hide_parameters=True, pool_size=POOL, max_overflow=0)
            self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: committed and durable when the context ends, rolled back when it raises."""
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise self._translated(error) from error

    @asynccontextmanager
    async def single(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement is a transaction of its own: one round trip instead of three."""
        try:
            async with self._reading.connect() as connection:
                yield connection
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise self._translated(error) from error

    read = single  # said where nothing is written

    def insert(self, table: Table) -> Insert:
        """An INSERT that can say `on_conflict_do_update` and `on_conflict_do_nothing`, which both databases spell alike."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)

    async def close(self) -> None:
        await self._engine.dispose()

    @staticmethod
    def _translated(error: BaseException) -> BaseException:
        """A lost connection, a lock that did not come, a deadlock: try again later. Anything else is a bug, and stays."""
        if isinstance(error, DBAPIError) and not (error.connection_invalidated or _passing(error)):
            return error
        return DatabaseDown("the database does not answer", hint="Check the database, then try again.")


def _passing(error: DBAPIError) -> bool:
    said = str(error.orig)
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""
    return "database is locked" in said or state[:2] in ("08", "40", "53", "57") or "connection" in said.lower()


def _driver_url(url: str) -> URL:
    """The URL with the async driver. Raises UsageError, which never repeats the URL: it may hold a password."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name() if 0 <= (parsed.port or 0) < 1 << 16 else ""
    except (ArgumentError, NoSuchModuleError, ValueError):  # ValueError: of a port, which is a password with an @ in it
        backend = ""
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        query = {"ssl" if name == "sslmode" else name: value for name, value in parsed.query.items()}  # as the driver spells it
        return parsed.set(drivername="postgresql+asyncpg", query=query)
    raise UsageError(
        "that is not the URL of a database that can be used",
        hint="Write --database-url sqlite:////var/lib/jetty/control.sqlite or postgresql://user@host/name.",
    )

"""What SQLite needs beside the engine: durable transactions that begin as writers, a private file, one service at a time.

The rollback journal with `synchronous=FULL` makes each commit durable.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from typing import Any, cast
from weakref import WeakSet

from sqlalchemy import event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from jettyctl.errors import UsageError

BUSY_SECONDS = 15.0  # how long a transaction waits for another process's


class Connection(sqlite3.Connection):
    """Closes its cursors with itself. One that a cancelled call left half read would keep SQLite's read lock until the
    garbage is collected, and every transaction that writes would wait for that.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - sqlite3's own
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()
        super().__init__(*args, **kwargs)

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:  # noqa: ANN401 - of the class that is asked for
        made = super().cursor(factory)
        self._cursors.add(made)
        return made

    def close(self) -> None:
        for cursor in list(self._cursors):
            cursor.close()
        super().close()


def tune(engine: AsyncEngine) -> None:
    """Transactions that begin as writers, so that none fails half-way because another was quicker."""

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: DBAPIConnection, _: Any) -> None:  # noqa: ANN401 - the pool's own record
        cast("Any", connection).isolation_level = None  # the driver begins nothing by itself
        cursor = connection.cursor()
        for pragma in ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={int(BUSY_SECONDS * 1000)}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        if not connection.get_execution_options().get("reading"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def make_private(path: str) -> None:
    """Make an SQLite file for its owner alone, before SQLite would make it for everybody."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
    if not os.path.exists(path):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def stay_alone(url: str) -> None:
    """Be the only service of an SQLite database until this process ends. Raises UsageError if there is one.

    Each begins by freeing what one that was killed held: what a living one holds would go, too.
    """
    if not url.startswith("sqlite") or not (path := make_url(url).database):
        return
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(
            "another jettyctl serve works on this database, and SQLite serves one",
            hint="Stop that one first, or give --database-url another database.",
        ) from None

"""The schema's versions: what a database has, what this program needs, and the way from one to the other.

A change and the record of it are one transaction, and two programs that upgrade at once wait for each other.
"""

from __future__ import annotations

import asyncio
import os

import alembic.command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.errors import UsageError
from jettyctl.server.control import edges
from jettyctl.server.control.database import Database

_LOCK = 0x6A657474  # of Postgres, for upgrades
_MIGRATE = "jettyctl serve migrate"


def needed() -> str:
    """The version that this program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


async def check(database: Database) -> None:
    """Raises UsageError, which says what to run, unless the database has exactly the schema of this program."""
    async with database.read() as connection:
        found = await connection.run_sync(_current)
    if found == needed():
        return
    if found is None:
        raise UsageError("the database has no tables of jettyctl yet", hint=f"Run `{_MIGRATE}` with the same --database-url.")
    if found in _known():
        raise UsageError(
            f"the database's schema is older ({found}) than this program", hint=f"Run `{_MIGRATE}` with the same --database-url."
        )
    raise UsageError(f"the database's schema ({found}) is newer than this program", hint="Install that version of jettyctl.")


def upgrade(url: str, edge_domain: str) -> str:
    """Bring a database to the needed version, which is returned. Idempotent. Seeds the edges that come with the service."""

    async def run() -> None:
        database = Database(url)
        try:
            async with database.begin() as connection:
                await _upgrade(connection, database, edge_domain)
        finally:
            await database.close()

    asyncio.run(run())
    return needed()


def upgrade_if_empty(url: str, edge_domain: str) -> None:
    """Make the tables in a database that has none."""

    async def empty() -> bool:
        database = Database(url)
        try:
            async with database.read() as connection:
                return await connection.run_sync(_current) is None
        finally:
            await database.close()

    if asyncio.run(empty()):
        upgrade(url, edge_domain)


async def _upgrade(connection: AsyncConnection, database: Database, edge_domain: str) -> None:
    if database.dialect == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    before = await connection.run_sync(_current)
    if before not in (None, *_known()):
        raise UsageError(f"the database's schema ({before}) is newer than this program", hint="Install that version of jettyctl.")
    if before == needed():
        return
    await connection.run_sync(_run)
    if before is None:
        await edges.seed(connection, edge_domain)


def _run(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def _current(connection: Connection) -> str | None:
    """The version in the database; None for one without our tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return MigrationContext.configure(connection).get_current_revision()


def _known() -> frozenset[str]:
    """All versions that there were."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _config() -> Config:
    config = Config()
    directory = os.path.join(os.path.dirname(os.path.abspath(__file__)), "migrations")
    config.set_main_option("script_location", directory.replace("%", "%%"))
    return config

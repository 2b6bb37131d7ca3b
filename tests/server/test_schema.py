"""The schema's versions, on both databases in each run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, delete, inspect, select, text

from jettyctl.core.catalogue import CATALOGUE
from jettyctl.errors import UsageError
from jettyctl.server.control import schema
from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import edge_locations, metadata
from jettyctl.server.control.views import views
from tests.server.playing import play
from tests.support.databases import Postgres
from tests.support.running import ROOT
from tests.support.servers import bare_environment


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/control.sqlite"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    made = postgres.new_database()
    yield made
    postgres.drop_database(made)


def answer(url: str, ask: Callable[[Connection], object]) -> object:
    """What `ask` says of the database."""
    found: list[object] = []

    async def story(database: Database) -> None:
        async with database.read() as connection:
            found.append(await connection.run_sync(ask))

    play(url, story)
    return found[0]


def refused(url: str) -> UsageError:
    """The error by which the database is refused."""
    with pytest.raises(UsageError) as caught:
        play(url, schema.check)
    return caught.value


def set_version(url: str, version: str) -> None:
    """The database claims to have another schema."""

    async def story(database: Database) -> None:
        async with database.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})

    play(url, story)


def test_migrations_make_the_tables(url: str) -> None:
    """What the migrations make is what the tables say: no difference in a column, type, index or constraint."""
    schema.upgrade(url, "example.org")

    def differences(connection: Connection) -> object:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, metadata)

    assert answer(url, differences) == []
    assert set(views("sqlite")) <= set(answer(url, lambda connection: inspect(connection).get_view_names()))  # type: ignore[call-overload]


def test_an_upgrade_can_be_repeated(url: str) -> None:
    """It returns the version that the program needs, and changes nothing more."""
    assert schema.upgrade(url, "example.org") == schema.upgrade(url, "other.example") == schema.needed()
    play(url, schema.check)
    edges = answer(url, lambda connection: dict(connection.execute(select(edge_locations.c.id, edge_locations.c.url)).all()))
    assert isinstance(edges, dict)
    assert edges.keys() == CATALOGUE.keys()
    assert edges["fra-1"] == "https://fra.example.org"


def test_edges_that_were_removed_stay_away(url: str) -> None:
    """Edges are seeded when the tables are made, and not again."""
    schema.upgrade(url, "example.org")

    async def story(database: Database) -> None:
        async with database.begin() as connection:
            await connection.execute(delete(edge_locations))

    play(url, story)
    schema.upgrade(url, "example.org")
    schema.upgrade_if_empty(url, "example.org")
    assert answer(url, lambda connection: connection.execute(select(edge_locations)).all()) == []


def test_an_empty_database(url: str) -> None:
    """It is refused with the command that makes the tables, and made at once where the caller wants that."""
    assert "jettyctl serve migrate" in refused(url).hint
    schema.upgrade_if_empty(url, "example.org")
    play(url, schema.check)


def test_a_newer_schema(url: str) -> None:
    """A version that this program does not know is left alone."""
    schema.upgrade(url, "example.org")
    set_version(url, "9999")
    assert "newer" in refused(url).message
    with pytest.raises(UsageError, match="newer"):
        schema.upgrade(url, "example.org")
    schema.upgrade_if_empty(url, "example.org")


@pytest.mark.slow
def test_two_programs_upgrade_at_once(url: str) -> None:
    """Programs that upgrade at the same time wait for each other, and all end well."""
    code = f"from jettyctl.server.control import schema; print(schema.upgrade({url!r}, 'example.org'))"
    programs = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=bare_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [program.communicate(timeout=60)[0].strip() for program in programs]
    assert ([program.returncode for program in programs], said) == ([0] * 4, [schema.needed()] * 4)
    play(url, schema.check)

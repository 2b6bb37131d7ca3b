"""What the tests of the control plane's parts share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import edge_locations
from tests.support.databases import Backend, postgres_backend, sqlite_backend
from tests.support.plane import PlaneProcess, new_key, plane_settings


@pytest.fixture
def database_url(backend: Backend) -> str:
    """A database with all tables, which are empty: the edges of the catalogue have real names, and some tests look at edges."""
    asyncio.run(_without_edges(backend.database_url))
    return backend.database_url


async def _without_edges(url: str) -> None:
    database = Database(url)
    async with database.begin() as connection:
        await connection.execute(delete(edge_locations))
    await database.close()


@pytest.fixture
def run(database_url: str) -> Callable[[Callable[[Database], Coroutine[Any, Any, None]]], None]:
    """`run(story)` awaits `story(database)` with a database that has all tables."""

    def run(story: Callable[[Database], Coroutine[Any, Any, None]]) -> None:
        async def told() -> None:
            database = Database(database_url)
            try:
                await story(database)
            finally:
                await database.close()

        asyncio.run(told())

    return run


@pytest.fixture(scope="module")
def shared_backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """As `backend`, for the tests of a module together."""
    if request.config.getoption("--backend") == "sqlite":
        with sqlite_backend(tmp_path_factory.mktemp("control")) as made:
            yield made
        return
    with postgres_backend(request.getfixturevalue("postgres"), request.getfixturevalue("valkey")) as made:
        yield made


@pytest.fixture(scope="module")
def plane(shared_backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaneProcess]:
    """A service that the tests of a module share. No limit is met, and it goes by two more names."""
    names = {"public_url": "https://jetty.example", "allowed_hosts": ("other.example",)}
    directory = tmp_path_factory.mktemp("plane")
    with PlaneProcess(plane_settings(shared_backend, directory, **names), directory) as process:
        yield process


@pytest.fixture
def client(plane: PlaneProcess) -> Iterator[httpx.Client]:
    """A client of usr_1 in acme, who may read and write."""
    with plane.client(new_key(plane.settings.database_url)[1]) as client:
        yield client


@pytest.fixture
def other(plane: PlaneProcess) -> Iterator[httpx.Client]:
    """A client of usr_2 in acme."""
    with plane.client(new_key(plane.settings.database_url, user="usr_2")[1]) as client:
        yield client


@pytest.fixture
def admin(plane: PlaneProcess) -> Iterator[httpx.Client]:
    """A client of usr_admin in acme, who may act for every user there."""
    key = new_key(plane.settings.database_url, user="usr_admin", scopes=("read", "write", "admin"))[1]
    with plane.client(key) as client:
        yield client

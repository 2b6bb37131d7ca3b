"""Control planes over each kind of store, and a look at what is in it that asks nobody but the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from jettyctl.server.control.database import Database
from jettyctl.storage.local import LocalStore
from tests.support.databases import Backend, postgres_backend, sqlite_backend
from tests.support.plane import PlaneProcess, new_key, plane_settings, with_database
from tests.support.servers import Endpoint, fetch, head

PREFIX = "plane/"


@dataclass(slots=True)
class Host:
    """A service, and its store."""

    plane: PlaneProcess
    store: Endpoint | LocalStore

    def client(self, user: str = "usr_1", tenant: str = "acme", scopes: tuple[str, ...] = ("read", "write")) -> httpx.Client:
        """A client of a user."""
        return self.plane.client(new_key(self.plane.settings.database_url, user, tenant, scopes)[1])

    def stored(self, key: str, tenant: str = "acme") -> bytes:
        """The bytes in the store."""
        if isinstance(self.store, LocalStore):
            return b"".join(self.store.read(f"{tenant}/{key}"))
        return fetch(self.store, f"{PREFIX}{tenant}/{key}")

    def exists(self, key: str, tenant: str = "acme") -> bool:
        """Whether the store has an object."""
        if isinstance(self.store, LocalStore):
            return self.store.head(f"{tenant}/{key}") is not None
        return head(self.store, f"{PREFIX}{tenant}/{key}") is not None


@contextmanager
def own_backend(request: pytest.FixtureRequest, directory: Path) -> Iterator[Backend]:
    """A database for one service alone: the jobs of another would be about objects that this one's store does not have."""
    if request.config.getoption("--backend") == "sqlite":
        with sqlite_backend(directory) as made:
            yield made
        return
    with postgres_backend(request.getfixturevalue("postgres"), request.getfixturevalue("valkey")) as made:
        yield made


@contextmanager
def hosted(
    backend: Backend, directory: Path, server: Endpoint | None = None, **changes: Any  # noqa: ANN401 - fields of Settings
) -> Iterator[Host]:
    """A service over an S3 server, or over a store in the directory."""
    settings, env = plane_settings(backend, directory, **changes), {}
    store: Endpoint | LocalStore = LocalStore(f"{directory}/objects")
    if server is not None:
        store, env = server, server.env
        settings = replace(settings, store=f"s3://{server.bucket}/{PREFIX}")
    with PlaneProcess(settings, directory, env) as plane:
        yield Host(plane, store)


def rows(host: Host, query: Any) -> list[Any]:  # noqa: ANN401 - a statement
    """What the database says."""

    async def ask(database: Database) -> list[Any]:
        async with database.read() as connection:
            return [*(await connection.execute(query)).all()]

    found: list[Any] = with_database(host.plane.settings.database_url, ask)
    return found


def change(host: Host, statement: Any) -> None:  # noqa: ANN401 - a statement
    """Change the database beside the service."""

    async def work(database: Database) -> None:
        async with database.begin() as connection:
            await connection.execute(statement)

    with_database(host.plane.settings.database_url, work)


def wait_for(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)

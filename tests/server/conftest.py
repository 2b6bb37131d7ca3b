"""What the tests of the control plane's parts share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import metadata


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """An empty database with all tables."""
    url = f"sqlite:///{tmp_path}/control.sqlite"

    async def fill() -> None:
        database = Database(url)
        async with database.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await database.close()

    asyncio.run(fill())
    return url


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

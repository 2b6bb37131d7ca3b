"""Stories that a test of the control plane's parts tells a database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from jettyctl.server.control.database import Database
from tests.support.databases import Backend


def play(backend: Backend | str, story: Callable[[Database], Awaitable[None]]) -> None:
    """Await `story(database)`."""

    async def run() -> None:
        database = Database(backend if isinstance(backend, str) else backend.database_url)
        try:
            await story(database)
        finally:
            await database.close()

    asyncio.run(run())

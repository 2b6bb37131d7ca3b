"""Stories that a test of the control plane's parts tells a database, or what keeps sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from jettyctl.server.control.database import Database
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.sessions import ChunkEntry, SessionStore, open_sessions
from jettyctl.server.control.settings import Settings
from tests.support.databases import Backend

OTHER = Principal("usr_2", "acme", "key2", frozenset({"read", "write"}))


def play(backend: Backend | str, story: Callable[[Database], Awaitable[None]]) -> None:
    """Await `story(database)`."""

    async def run() -> None:
        database = Database(backend if isinstance(backend, str) else backend.database_url)
        try:
            await story(database)
        finally:
            await database.close()

    asyncio.run(run())


def play_sessions(backend: Backend, story: Callable[[SessionStore, Database], Awaitable[None]]) -> None:
    """Await the story with a store of its own."""

    async def run() -> None:
        database = Database(backend.database_url)
        try:
            async with open_sessions(Settings(backend.database_url, backend.redis_url), database) as sessions:
                await story(sessions, database)
        finally:
            await database.close()

    asyncio.run(run())


def chunk(index: int, status: str = "completed", **more: object) -> ChunkEntry:
    """A chunk that was seen just now, by the clock of whoever keeps it (to the microsecond)."""
    return ChunkEntry(index, status, timestamp=round(time.time(), 6), **more)  # type: ignore[arg-type]


async def status_of(call: Awaitable[object]) -> int:
    """The status of the error that a call ends with; 200 if it ends well."""
    try:
        await call
    except ApiError as error:
        return error.status
    return 200

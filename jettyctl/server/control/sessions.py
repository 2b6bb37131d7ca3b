"""Chunks of sessions, durable when they are acknowledged: the promise that the database and its copies in Redis keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from jettyctl.server.control import failures
from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.settings import Settings

RETENTION = 7 * 24 * 3600  # seconds that a session is kept after its last change


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """What is known of a chunk. `index` counts from 0, `timestamp` is seconds since the epoch (0: when it is kept)."""

    index: int
    status: str
    chunk_hash: str = ""
    edge_id: str = ""
    bytes_uploaded: int = 0
    error_message: str = ""
    etag: str = ""
    timestamp: float = 0.0


class SessionStore(Protocol):
    """Chunks by session, safe to use from all requests and processes at once.

    Every call is for a principal; a session of somebody else looks like one that is not there.
    """

    async def put_chunks(self, who: Principal, session_id: str, chunks: Sequence[ChunkEntry], *, fence: int | None) -> None:
        """Keep chunks, each in place of what was known of it; durable when it returns. Idempotent.

        An unknown session becomes the caller's. Raises ApiError 404 for another user's, 409 where the session has a lease
        and `fence` is not its token; DatabaseDown.
        """

    async def chunks(self, who: Principal, session_id: str) -> list[ChunkEntry]:
        """What is known of the chunks, in the order of index. Empty where nothing is, or the session is older than a week.

        Whatever was acknowledged before the call is in it. Raises ApiError 404 for another user's session.
        """

    async def save(self, session_id: str, record: Mapping[str, Any]) -> None:
        """Keep a copy of a session's record (the JSON of the shared schema) where other programs look for it, if anywhere."""

    async def forget(self, session_id: str) -> None:
        """Drop copies: the next reader takes them from the database."""


def check_owner(who: Principal, user_id: str, tenant_id: str) -> None:
    """Raises ApiError 404 unless the key may act for sessions of this user."""
    if who.tenant_id != tenant_id or (who.user_id != user_id and not who.is_admin):
        raise failures.not_found("session")


@asynccontextmanager
async def open_sessions(settings: Settings, database: Database) -> AsyncIterator[SessionStore]:
    """The store of these settings: the database's, with Redis's copies before it where there is one."""
    from jettyctl.server.control.sessions_sql import SqlSessions

    if settings.redis_url is None:
        sql = SqlSessions(database)
        try:
            yield sql
        finally:
            await sql.close()
        return
    from jettyctl.server.control.redis_client import open_redis
    from jettyctl.server.control.sessions_cached import CachedSessions

    async with open_redis(settings.redis_url) as redis:
        cached = CachedSessions(database, redis)
        try:
            yield cached
        finally:
            await cached.close()

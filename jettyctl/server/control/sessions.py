"""Chunks of sessions: what clients sent, durable, and read again by whoever goes on with the session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.settings import Settings

KEPT_SECONDS = 7 * 86400  # after the last change of a session


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """What is known of one chunk. `index` counts from 0, `timestamp` is seconds since the epoch."""

    index: int
    status: str
    chunk_hash: str = ""
    edge_id: str = ""
    bytes_uploaded: int = 0
    error_message: str = ""
    etag: str = ""
    timestamp: float = 0.0


class SessionStore(Protocol):
    """Safe to use from all requests and processes at once. A key acts for its own user's sessions, an admin's for its
    tenant's.
    """

    async def put_chunks(self, who: Principal, session_id: str, chunks: Sequence[ChunkEntry], *, fence: int | None) -> None:
        """Keep chunks: committed in the database when it returns. Idempotent; of one index the last one stays.

        A session id that nobody used becomes the caller's. Raises ApiError 404 for another user's session, 409 `stale
        lease` where the session has a lease and `fence` is not its own, and DatabaseDown.
        """
        ...

    async def chunks(self, who: Principal, session_id: str) -> list[ChunkEntry]:
        """All chunks in index order: every one whose `put_chunks` has returned, as it was kept last.

        [] for a session that nobody knows, or that did not change for 7 days. Raises ApiError 404 for another user's.
        """
        ...

    async def save(self, session: Mapping[str, Any]) -> None:
        """Copy a session's JSON (`sessionId` ...) to where others read it fast. The database has it already; never raises."""
        ...

    async def forget(self, session_id: str) -> None:
        """Drop the copies of a session and its chunks, if any. What the database has stays; never raises."""
        ...


@asynccontextmanager
async def open_sessions(settings: Settings, database: Database) -> AsyncIterator[SessionStore]:
    """The session store of this process: the database, with copies in Redis where there is one."""
    raise NotImplementedError
    yield

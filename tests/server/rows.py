"""Hand-made rows of sessions and chunks."""

from __future__ import annotations

from datetime import UTC, datetime

from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import session_states, upload_chunks, upload_sessions

FILE = {"file_id": "f", "file_name": "n", "file_size": 1, "chunk_size": 1, "threads": 1, "chunks_total": 1}


async def a_session(
    database: Database,
    session_id: str,
    *,
    started_at: datetime,
    completed_at: datetime | None = None,
    speed: float | None = None,
    status: str | None = None,
) -> None:
    """A session and its state, which changed just now."""
    who = {"user_id": "usr_1", "tenant_id": "acme"}
    now = datetime.now(UTC)
    when = {
        "started_at": started_at,
        "created_at": started_at,
        "updated_at": now,
        "completed_at": completed_at,
        "avg_speed_mbps": speed,
        "status": status or ("completed" if completed_at else "in_progress"),
    }
    async with database.begin() as connection:
        await connection.execute(session_states.insert().values(session_id=session_id, updated_at=now, **who))
        await connection.execute(upload_sessions.insert().values(id=session_id, **FILE, **when, **who))


async def a_chunk(
    database: Database, session_id: str, index: int, edge_id: str, *, now: datetime, size: int = 0, status: str = "completed"
) -> None:
    """A chunk as a client told of it at that time."""
    async with database.begin() as connection:
        await connection.execute(
            upload_chunks.insert().values(
                session_id=session_id, chunk_index=index, edge_id=edge_id, status=status, bytes_uploaded=size, timestamp=now
            )
        )

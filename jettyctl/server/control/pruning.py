"""The end of what nobody needs any more. Safe to repeat, and for two processes at once.

Kept for ever: uploads and files, of which the views tell, and the state of uploads through the service, whose finalize
gives the same answer every time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, exists, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.server.control.database import Database
from jettyctl.server.control.leases import UNFINISHED
from jettyctl.server.control.sessions import RETENTION
from jettyctl.server.control.tables import possession_nonces, rate_counters, session_states, upload_chunks, upload_sessions

BATCH = 500  # sessions of one transaction: writers wait for it


async def prune(database: Database, now: datetime) -> None:
    """Remove what is over at that time: old sessions' chunks, windows of rate limits, challenges. Raises DatabaseDown."""
    async with database.begin() as connection:
        await connection.execute(delete(rate_counters).where(rate_counters.c.expires_at <= now))
        await connection.execute(delete(possession_nonces).where(possession_nonces.c.expires_at <= now))
    while await _prune_sessions(database, now - timedelta(seconds=RETENTION)):
        pass


async def _prune_sessions(database: Database, before: datetime) -> bool:
    """A batch; whether there may be more."""
    s, c = session_states.c, upload_chunks.c
    has_chunks = exists(select(1).where(c.session_id == s.session_id))
    over = (s.updated_at < before) & not_(_alive(before)) & or_(s.storage_key == "", has_chunks)
    query = select(s.session_id, s.storage_key).where(over).order_by(s.session_id).limit(BATCH)
    async with database.begin() as connection:
        rows = (await connection.execute(query.with_for_update(of=session_states))).all()
        if rows:
            await _remove(connection, [row.session_id for row in rows])
    return len(rows) == BATCH


async def _remove(connection: AsyncConnection, names: list[str]) -> None:
    s = session_states.c
    await connection.execute(delete(upload_chunks).where(upload_chunks.c.session_id.in_(names)))
    await connection.execute(delete(session_states).where(s.session_id.in_(names), s.storage_key == ""))


def _alive(before: datetime) -> ColumnElement[bool]:
    """That a client still tells of the upload, or that the service has not completed it yet."""
    u, s = upload_sessions.c, session_states.c
    carried = u.status.in_(UNFINISHED) & (s.storage_key != "")
    return exists(select(1).where(u.id == s.session_id, or_(u.updated_at >= before, carried)))

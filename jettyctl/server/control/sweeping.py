"""The end of uploads that nobody goes on with: their parts cost as much as objects do, and are seen by nobody.

Swept with them are uploads of the same keys that no session knows: the service was killed between the store's Create and
the note of its id.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, select, update

from jettyctl.core.model import Upload
from jettyctl.server.control import log
from jettyctl.server.control.database import Database
from jettyctl.server.control.duty import server_time
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.leases import UNFINISHED
from jettyctl.server.control.objects import Objects
from jettyctl.server.control.sessions import RETENTION
from jettyctl.server.control.tables import session_states, upload_sessions

BATCH = 100  # sessions of one round


async def sweep(database: Database, objects: Objects, now: datetime) -> None:
    """Fail and abort what did not change for 7 days. Safe to repeat, and for two processes at once.

    A failed upload whose parts could not be removed, by its client or here, is aborted in the next round.
    """
    before = now - timedelta(seconds=RETENTION)
    s, u = session_states.c, upload_sessions.c
    idle = or_(s.lease_expires_at.is_(None), s.lease_expires_at <= server_time(database))
    left = or_(u.status.in_(UNFINISHED), (u.status == "failed") & (s.upload_id != ""))
    query = (
        select(s.session_id, s.storage_key, s.upload_id, s.fence)
        .join_from(session_states, upload_sessions, u.id == s.session_id)
        .where(s.storage_key != "", s.updated_at < before, idle, _unclaimed(database), left)
    )
    async with database.read() as connection:
        found = (await connection.execute(query.limit(BATCH))).all()
    for row in found:
        try:
            if await _fence_off(database, row.session_id, row.fence, now):
                await _abort(database, objects, row.storage_key, row.upload_id, before)
        except ApiError as error:
            log.write("warning", chore="sweep", error=error.error)


async def _fence_off(database: Database, session_id: str, fence: int, now: datetime) -> bool:
    """Whether nobody took the session up meanwhile: from now on nobody can."""
    s, u = session_states.c, upload_sessions.c
    raising = update(session_states).where(s.session_id == session_id, s.fence == fence, _unclaimed(database))
    failing = update(upload_sessions).where(u.id == session_id, u.status.in_(UNFINISHED))
    async with database.begin() as connection:
        if (await connection.execute(raising.values(fence=fence + 1, lease_expires_at=None))).rowcount != 1:
            return False
        await connection.execute(failing.values(status="failed", error_message="abandoned", updated_at=now))
    return True


def _unclaimed(database: Database) -> ColumnElement[bool]:
    """That no finalize is at work: one that was killed left its claim, which has run out."""
    s = session_states.c
    return or_(s.completing_until.is_(None), s.completing_until <= server_time(database))


async def _abort(database: Database, objects: Objects, storage_key: str, upload_id: str, before: datetime) -> None:
    s, u = session_states.c, upload_sessions.c
    if upload_id:
        await objects.abort(Upload(storage_key, upload_id, 0.0))
        gone = update(session_states).where(s.storage_key == storage_key, s.upload_id == upload_id).values(upload_id="")
        async with database.begin() as connection:
            await connection.execute(gone)
    old = [upload for upload in await objects.list_uploads(storage_key) if 0 < upload.initiated < before.timestamp()]
    query = select(s.upload_id).join_from(session_states, upload_sessions, u.id == s.session_id)
    async with database.read() as connection:  # another session may have begun long ago, and go on
        known = set(await connection.scalars(query.where(s.storage_key == storage_key, u.status.in_(UNFINISHED))))
    for upload in old:
        if upload.upload_id not in known:
            await objects.abort(upload)

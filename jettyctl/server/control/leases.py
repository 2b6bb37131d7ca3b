"""Who works on a session: a lease with a fencing token, which only ever rises.

Every change of a session is one statement that has its condition in WHERE, the current fence among it, so that a holder
that slept, or was taken over, changes nothing any more. Time is the database's. A lease that ran out still is its
holder's until somebody takes it: the fence alone decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, and_, case, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.core.model import Layout, Upload
from jettyctl.server.control import failures
from jettyctl.server.control.database import Database
from jettyctl.server.control.duty import server_time
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.tables import session_states, upload_sessions

UNFINISHED = ("in_progress", "paused")


@dataclass(frozen=True, slots=True)
class Work:
    """An upload through this service: what it makes, and how far it is. `upload_id` is "" until the store has begun one;
    `host` is the machine of the current fence.
    """

    session_id: str
    user_id: str
    tenant_id: str
    file_id: str
    file_name: str
    file_hash: str
    size: int
    chunk_size: int
    status: str
    fence: int
    host: str
    object_key: str
    storage_key: str
    upload_id: str
    options: Mapping[str, Any]

    @property
    def layout(self) -> Layout:
        return Layout(self.size, self.chunk_size)

    @property
    def upload(self) -> Upload:
        """As the store knows it. Raises ApiError 410 where it knows none."""
        if not self.upload_id:
            raise gone()
        return Upload(self.storage_key, self.upload_id, 0.0)


@dataclass(frozen=True, slots=True)
class Taken:
    """A lease that was asked for and given."""

    fence: int
    storage_key: str


async def find(connection: AsyncConnection, who: Principal, session_id: str) -> Work:
    """The upload of a session. Raises ApiError 404 for one that is not there, another's, or only tracked."""
    row = (await connection.execute(_works().where(owned(who, session_id)))).mappings().first()
    if row is None:
        raise failures.not_found("session")
    return _work(row)


async def renew(database: Database, who: Principal, session_id: str, fence: int, seconds: float) -> Work:
    """Prove that `fence` is the current one, and keep the lease. Raises ApiError 404 and 409 `stale lease`."""
    renewal = (
        update(session_states)
        .where(owned(who, session_id), session_states.c.fence == fence)
        .values(lease_expires_at=server_time(database, seconds))
    )
    async with database.begin() as connection:
        done = await connection.execute(renewal)
        work = await find(connection, who, session_id)
        if done.rowcount != 1:
            raise stale(work.host)
        return work


async def take(
    database: Database, who: Principal, session_id: str, *, holder: str, host: str, take_over: bool, seconds: float
) -> Taken:
    """Become the holder, or stay it with the same fence. Raises ApiError 404, and 409 `session held`, `already completed`."""
    async with database.begin() as connection:
        taken = await take_in(
            connection, database, who, session_id, holder=holder, host=host, take_over=take_over, seconds=seconds
        )
        work = await find(connection, who, session_id)  # while the row is locked: it is not completed any more
        if work.status == "completed":
            raise already_completed(work)
        return taken


async def take_in(
    connection: AsyncConnection,
    database: Database,
    who: Principal,
    session_id: str,
    *,
    holder: str,
    host: str,
    take_over: bool,
    seconds: float,
) -> Taken:
    """`take`, within a transaction."""
    s = session_states.c
    same = and_(s.lease_holder == holder, s.fence > 0)
    free = or_(s.lease_expires_at.is_(None), s.lease_expires_at <= server_time(database))
    taking = (
        update(session_states)
        .where(owned(who, session_id), s.storage_key != "", *(() if take_over else (or_(same, free),)))
        .values(
            fence=case((same, s.fence), else_=s.fence + 1),
            lease_holder=holder,
            lease_host=host,
            lease_expires_at=server_time(database, seconds),
            updated_at=server_time(database),
        )
        .returning(s.fence, s.storage_key)
    )
    row = (await connection.execute(taking)).first()
    if row is None:
        raise await _held(connection, database, who, session_id)
    return Taken(row.fence, row.storage_key)


async def _held(connection: AsyncConnection, database: Database, who: Principal, session_id: str) -> ApiError:
    s = session_states.c
    query = select(s.lease_host, s.lease_expires_at, server_time(database).label("now"))
    row = (await connection.execute(query.where(owned(who, session_id), s.storage_key != ""))).first()
    if row is None:
        return failures.not_found("session")
    return failures.conflict(
        "session held",
        "Another process works on this session. Wait, or take it over.",
        host=row.lease_host,
        expiresIn=seconds_left(row.lease_expires_at, row.now),
    )


def seconds_left(until: datetime | None, now: datetime) -> float:
    """Of a lease; 0 where there is none any more."""
    if until is None:
        return 0.0
    current = now if now.tzinfo else now.replace(tzinfo=UTC)
    return round(max(0.0, (until - current).total_seconds()), 3)


def owned(who: Principal, session_id: str) -> ColumnElement[bool]:
    """That a row of `session_states` is this session, and this user's."""
    s = session_states.c
    return and_(s.session_id == session_id, s.user_id == who.user_id, s.tenant_id == who.tenant_id)


def stale(host: str) -> ApiError:
    """Somebody else works on the session now, on the machine `host`; "" where it was aborted."""
    return failures.conflict("stale lease", "Another process has taken over this session.", host=host)


def already_completed(work: Work) -> ApiError:
    """There is nothing left to do. `fence` and `host` say who did it: of all who held the session, one made the object."""
    return failures.conflict("already completed", "The object is there.", **work.options.get("completed_by", {}))


def gone() -> ApiError:
    """The store has no such upload, and there is no object that came of it."""
    return ApiError(410, "upload gone", "The store does not know this upload any more. Begin a new session.")


def _works() -> Select[Any]:
    s, u = session_states.c, upload_sessions.c
    return (
        select(
            s.session_id, s.user_id, s.tenant_id, u.file_id, u.file_name, u.file_hash, u.file_size.label("size"),
            u.chunk_size, u.status, s.fence, s.lease_host.label("host"), s.object_key, s.storage_key, s.upload_id, s.options,
        )
        .join_from(session_states, upload_sessions, u.id == s.session_id)
        .where(s.storage_key != "")
    )  # fmt: skip


def _work(row: RowMapping) -> Work:
    return Work(**row)

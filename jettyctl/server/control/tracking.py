"""Uploads as clients tell of them: they begin, go on, and end; and when a user usually sends what.

Each call returns the session as `SessionStore.save` keeps it: the fields of `jetty:session:{id}` in camelCase, times in
seconds since the epoch. A key acts for the sessions of its own user, an admin's for all of its tenant; any other session
looks like one that is not there.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Float, RowMapping, Select, and_, bindparam, cast, func, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.server.control import failures, files
from jettyctl.server.control.database import Database
from jettyctl.server.control.duty import server_time
from jettyctl.server.control.leases import UNFINISHED, seconds_left
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.tables import session_states, upload_chunks, upload_patterns, upload_sessions

TYPICAL_EDGES = 5  # that a pattern remembers

SessionJson = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload that begins. `user_id` is whose it is: the key's user, or one that its admin acts for."""

    user_id: str
    file_name: str
    file_hash: str
    file_size: int
    file_id: str  # made by the caller where the client names none
    chunk_size: int
    threads: int
    chunks_total: int
    edges_used: Sequence[str] = ()
    estimated_cost: float | None = None
    upload_via: str = "api"
    jetty_speed_enabled: bool = True


async def start(database: Database, who: Principal, upload: NewUpload) -> SessionJson:
    """A new session, of `upload.user_id`, whose id is a random UUID."""
    session_id, now = str(uuid.uuid4()), datetime.now(UTC)
    row = {
        **asdict(upload),
        "id": session_id,
        "tenant_id": who.tenant_id,
        "edges_used": list(upload.edges_used),
        "chunks_completed": 0,
        "bytes_uploaded": 0,
        "status": "in_progress",
        "error_message": "",
        "started_at": now,
        "completed_at": None,
        "created_at": now,
        "updated_at": now,
    }
    state = {"session_id": session_id, "user_id": upload.user_id, "tenant_id": who.tenant_id, "updated_at": now}
    async with database.begin() as connection:
        await connection.execute(session_states.insert(), state)
        await connection.execute(upload_sessions.insert(), row)
    return _json(row)


async def progress(
    database: Database, who: Principal, session_id: str, *, chunks_completed: int, bytes_uploaded: int
) -> SessionJson:
    """Keep what is done; a session that has ended stays as it is. Raises ApiError 404."""
    told = {"chunks": chunks_completed, "size": bytes_uploaded, "now": datetime.now(UTC)}
    mine = {"session": session_id, "tenant": who.tenant_id, "user": who.user_id, "admin": who.is_admin}
    async with database.single() as connection:
        row = (await connection.execute(_PROGRESS, {**told, **mine})).mappings().first()
        return _json(row or await _found(connection, who, session_id))


async def complete(database: Database, who: Principal, session_id: str, *, actual_cost: float | None) -> SessionJson:
    """The upload is done: duration, speed, the user's pattern, and the claim that the user has the content.

    Idempotent. Raises ApiError 404, and 409 `not tracked` for an upload through the service, which finalize completes.
    """
    now = datetime.now(UTC)
    async with database.begin() as connection:
        row = await _locked(connection, who, session_id)
        if row["status"] == "completed":
            return _json(row)
        if row["storage_key"]:
            raise failures.conflict("not tracked", "The service carries this upload: finalize completes it.")
        seconds = max(0.001, (now - row["started_at"]).total_seconds())
        done = {
            "status": "completed",
            "error_message": "",
            "chunks_completed": row["chunks_total"],
            "bytes_uploaded": row["file_size"],
            "completed_at": now,
            "duration_seconds": seconds,
            "avg_speed_mbps": row["file_size"] * 8e-6 / seconds,
            "actual_cost": row["estimated_cost"] if actual_cost is None else actual_cost,
            "updated_at": now,
        }
        await connection.execute(update(upload_sessions).where(upload_sessions.c.id == session_id).values(done))
        what = {name: row[name] for name in ("tenant_id", "user_id", "file_id", "file_hash", "file_name")}
        await files.claim(connection, database, size=row["file_size"], now=now, **what)
        await add_pattern(
            connection, database, row["user_id"], size=row["file_size"], edges=row["edges_used"], at=row["started_at"]
        )
        return _json({**row, **done})


async def fail(
    database: Database,
    who: Principal,
    session_id: str,
    *,
    chunks_completed: int | None,
    bytes_uploaded: int | None,
    error_message: str,
) -> SessionJson:
    """The upload has failed; a completed one stays completed. Idempotent. Raises ApiError 404, and 409 as `complete`."""
    told = {"chunks_completed": chunks_completed, "bytes_uploaded": bytes_uploaded}
    change = {"status": "failed", "error_message": error_message, **{n: v for n, v in told.items() if v is not None}}
    async with database.begin() as connection:
        row = await _locked(connection, who, session_id)
        if row["storage_key"]:
            raise failures.conflict("not tracked", "The service carries this upload: abort it instead.")
        return await _change(connection, who, session_id, (*UNFINISHED, "failed"), change)


async def list_sessions(
    database: Database, who: Principal, *, user_id: str, status: str | None, limit: int
) -> list[SessionJson]:
    """A user's sessions, changed last first, with the fields of `show`."""
    u = upload_sessions.c
    query = _sessions(database).where(_own(who), u.user_id == user_id, u.status == status if status else true())
    async with database.read() as connection:
        rows = (await connection.execute(query.order_by(u.updated_at.desc(), u.id).limit(limit))).mappings().all()
        counts = await _counts(connection, [row["id"] for row in rows if row["status"] in UNFINISHED])
    return [_shown(row, counts) for row in rows]


async def show(database: Database, who: Principal, session_id: str) -> SessionJson:
    """A session, with `key`, `tenantId`, `host` and `leaseExpiresIn` (seconds; None without a lease). Raises ApiError 404."""
    async with database.read() as connection:
        query = _sessions(database).where(_own(who), upload_sessions.c.id == session_id)
        row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise failures.not_found("session")
        counts = await _counts(connection, [session_id] if row["status"] in UNFINISHED else [])
    return _shown(row, counts)


async def add_pattern(
    connection: AsyncConnection, database: Database, user_id: str, *, size: int, edges: Sequence[str], at: datetime
) -> None:
    """Count a completed upload into the user's pattern of that hour and weekday (0: Monday), UTC."""
    p, moment = upload_patterns.c, at.astimezone(UTC)
    key = {"user_id": user_id, "hour": moment.hour, "day_of_week": moment.weekday()}
    same = and_(*(p[name] == value for name, value in key.items()))
    known = (await connection.execute(select(p.typical_edges).where(same).with_for_update())).scalar() or []
    values = {"typical_edges": [*dict.fromkeys([*edges, *known])][:TYPICAL_EDGES], "last_updated": datetime.now(UTC)}
    write = database.insert(upload_patterns).values(avg_file_size=float(size), upload_count=1, **key, **values)
    more = {
        **values,
        "avg_file_size": p.avg_file_size + (write.excluded.avg_file_size - p.avg_file_size) / (p.upload_count + 1),
        "upload_count": p.upload_count + 1,
    }
    await connection.execute(write.on_conflict_do_update(index_elements=[*key], set_=more))


_PROGRESS = (  # made once: putting it together costs as much as running it
    update(upload_sessions)
    .where(
        upload_sessions.c.id == bindparam("session"),
        upload_sessions.c.tenant_id == bindparam("tenant"),
        or_(bindparam("admin", type_=Boolean), upload_sessions.c.user_id == bindparam("user")),
        upload_sessions.c.status.in_(UNFINISHED),
    )
    .values(chunks_completed=bindparam("chunks"), bytes_uploaded=bindparam("size"), updated_at=bindparam("now"))
    .returning(upload_sessions)
)


def _own(who: Principal) -> ColumnElement[bool]:
    u = upload_sessions.c
    return and_(u.tenant_id == who.tenant_id, true() if who.is_admin else u.user_id == who.user_id)


async def _change(
    connection: AsyncConnection, who: Principal, session_id: str, of: Sequence[str], change: Mapping[str, Any]
) -> SessionJson:
    """Change a session of one of these states; one of another state is returned as it is. Raises ApiError 404."""
    u = upload_sessions.c
    mine = and_(_own(who), u.id == session_id)
    changing = update(upload_sessions).where(mine, u.status.in_(of)).values(**change, updated_at=datetime.now(UTC))
    row = (await connection.execute(changing.returning(upload_sessions))).mappings().first()
    return _json(row or await _found(connection, who, session_id))


async def _found(connection: AsyncConnection, who: Principal, session_id: str) -> RowMapping:
    """The session's row. Raises ApiError 404."""
    query = select(upload_sessions).where(_own(who), upload_sessions.c.id == session_id)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise failures.not_found("session")
    return row


async def _locked(connection: AsyncConnection, who: Principal, session_id: str) -> RowMapping:
    """The session's row with its state's `storage_key`, held against change. Raises ApiError 404."""
    u, s = upload_sessions, session_states
    query = select(u, s.c.storage_key).select_from(u.outerjoin(s, s.c.session_id == u.c.id))
    query = query.where(_own(who), u.c.id == session_id).with_for_update(of=u)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise failures.not_found("session")
    return row


def _sessions(database: Database) -> Select[Any]:
    u, s = upload_sessions, session_states
    lease = [s.c.object_key, s.c.lease_host, s.c.lease_expires_at, server_time(database).label("now")]
    return select(u, *lease).select_from(u.outerjoin(s, s.c.session_id == u.c.id))


async def _counts(connection: AsyncConnection, session_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Completed chunks and their bytes, by session: what a client has not told of yet."""
    if not session_ids:
        return {}
    c = upload_chunks.c
    size = func.sum(cast(c.bytes_uploaded, Float))  # clients may tell of sizes whose sum is no integer of the database any more
    query = select(c.session_id, func.count(), size).group_by(c.session_id)
    rows = await connection.execute(query.where(c.session_id.in_(session_ids), c.status == "completed"))
    return {name: (count, int(size)) for name, count, size in rows}


def _shown(row: RowMapping, counts: Mapping[str, tuple[int, int]]) -> SessionJson:
    session = _json(row)
    chunks, size = counts.get(row["id"], (0, 0))
    until = row["lease_expires_at"]
    return {
        **session,
        "chunksCompleted": max(session["chunksCompleted"], chunks),
        "bytesUploaded": max(session["bytesUploaded"], size),
        "key": row["object_key"] or "",
        "tenantId": row["tenant_id"],
        "host": row["lease_host"] or "",
        "leaseExpiresIn": seconds_left(until, row["now"]) if until else None,
    }


def _json(row: Mapping[str, Any] | RowMapping) -> dict[str, Any]:
    done = row["completed_at"]
    return {
        "sessionId": row["id"],
        "userId": row["user_id"],
        "fileId": row["file_id"],
        "fileName": row["file_name"],
        "fileHash": row["file_hash"],
        "fileSize": row["file_size"],
        "chunkSize": row["chunk_size"],
        "threads": row["threads"],
        "edgesUsed": row["edges_used"],
        "chunksTotal": row["chunks_total"],
        "chunksCompleted": row["chunks_completed"],
        "bytesUploaded": row["bytes_uploaded"],
        "status": row["status"],
        "startedAt": row["started_at"].timestamp(),
        "lastUpdated": row["updated_at"].timestamp(),
        "completedAt": done.timestamp() if done else None,
        "errorMessage": row["error_message"],
    }

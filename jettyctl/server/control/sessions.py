"""Chunks of sessions, durable when they are acknowledged: the promise, and the database's way of keeping it.

Chunks of many requests are written together: while one transaction runs, others gather, and go into the next one. So a
request waits for at most two commits, and a busy service commits seldom. The fence of a session's lease is looked at
inside the transaction that writes: a holder that was replaced is refused, however late its request comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.server.control import failures
from jettyctl.server.control.database import Database, DatabaseDown
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.settings import Settings
from jettyctl.server.control.tables import session_states, upload_chunks

RETENTION = 7 * 24 * 3600  # seconds that a session is kept after its last change
_MOST_ROWS = 1_000  # in one statement: SQLite takes 32,766 parameters


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """What is known of a chunk. `index` counts from 0, `timestamp` is seconds since the epoch."""

    index: int
    status: str
    chunk_hash: str = ""
    edge_id: str = ""
    bytes_uploaded: int = 0
    error_message: str = ""
    etag: str = ""
    timestamp: float = 0.0


class SessionStore(Protocol):
    """Chunks by session. Every call is for a principal; a session of somebody else looks like one that is not there."""

    async def put_chunks(self, who: Principal, session_id: str, chunks: Sequence[ChunkEntry], *, fence: int | None) -> None:
        """Keep chunks, each in place of what was known of it; durable when it returns. Idempotent.

        An unknown session becomes the caller's. Raises ApiError 404 for another user's, 409 where the session has a lease
        and `fence` is not its token; DatabaseDown.
        """

    async def chunks(self, who: Principal, session_id: str) -> list[ChunkEntry]:
        """What is known of the chunks, in the order of index. Empty where nothing is, or it is older than a week.

        Raises ApiError 404 for another user's session.
        """

    async def save(self, session_id: str, record: Mapping[str, Any]) -> None:
        """Keep a copy of a session's record (the JSON of the shared schema) where other programs look for it, if anywhere."""

    async def forget(self, session_id: str) -> None:
        """Drop copies: the next reader takes them from the database."""


@dataclass(frozen=True, slots=True)
class Committed:
    """All chunks of one session in one transaction, and the version that it raised the session to."""

    version: int
    chunks: Sequence[ChunkEntry]


@dataclass(slots=True)
class _Waiting:
    """A request's chunks on their way into the database; `done` gets what was committed for its session."""

    who: Principal
    session_id: str
    chunks: Sequence[ChunkEntry]
    fence: int | None
    done: asyncio.Future[Committed] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class SqlSessions:
    """Keeps the promises of SessionStore in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None

    async def put_chunks(self, who: Principal, session_id: str, chunks: Sequence[ChunkEntry], *, fence: int | None) -> None:
        await self.commit(who, session_id, chunks, fence)

    async def commit(self, who: Principal, session_id: str, chunks: Sequence[ChunkEntry], fence: int | None) -> Committed:
        """`put_chunks`, and what else was written for the session with them."""
        now = datetime.now(UTC).timestamp()
        mine = _Waiting(who, session_id, [replace(chunk, timestamp=chunk.timestamp or now) for chunk in chunks], fence)
        self._waiting.append(mine)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return await mine.done

    async def chunks(self, who: Principal, session_id: str) -> list[ChunkEntry]:
        if await self.version(who, session_id) is None:
            return []
        return await self.stored(session_id)

    async def version(self, who: Principal, session_id: str) -> int | None:
        """How often the chunks of a session changed; None if there is no such session. Raises ApiError 404 for foreign ones."""
        s = session_states.c
        query = select(s.user_id, s.tenant_id, s.version).where(s.session_id == session_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            return None
        _check_owner(who, row.user_id, row.tenant_id)
        return int(row.version)

    async def stored(self, session_id: str) -> list[ChunkEntry]:
        """The chunks in the database, whoever asks."""
        query = select(upload_chunks).where(upload_chunks.c.session_id == session_id).order_by(upload_chunks.c.chunk_index)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        oldest = datetime.now(UTC).timestamp() - RETENTION
        entries = [_entry(row) for row in rows]
        return entries if any(entry.timestamp >= oldest for entry in entries) else []

    async def save(self, session_id: str, record: Mapping[str, Any]) -> None:
        """The database has it already."""

    async def forget(self, session_id: str) -> None:
        """There are no copies."""

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._writer:
            await asyncio.wait([self._writer])

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._once_more(batch)
            except BaseException as error:
                for waiting in batch:
                    _end(waiting, error if isinstance(error, Exception) else DatabaseDown("the service is stopping"))
                if not isinstance(error, Exception):
                    raise

    async def _once_more(self, batch: list[_Waiting]) -> None:
        """Two writers may wait for each other, and a connection may have gone stale: neither happens twice in a row."""
        try:
            await self._transaction(batch)
        except DatabaseDown:
            await self._transaction(batch)

    async def _transaction(self, batch: list[_Waiting]) -> None:
        async with self._database.begin() as connection:
            states = await self._locked(connection, batch)
            refused: list[tuple[_Waiting, ApiError]] = []
            accepted: list[_Waiting] = []
            for waiting in batch:
                error = _refusal(waiting, states[waiting.session_id])
                if error:
                    refused.append((waiting, error))
                else:
                    accepted.append(waiting)
            committed = await self._put(connection, accepted)
        for waiting in accepted:
            if not waiting.done.done():
                waiting.done.set_result(committed[waiting.session_id])
        for waiting, error in refused:
            _end(waiting, error)

    async def _locked(self, connection: AsyncConnection, batch: list[_Waiting]) -> dict[str, Any]:
        """The state of each session, held against change until the transaction ends; unknown ones are made."""
        s = session_states.c
        firsts = {waiting.session_id: waiting.who for waiting in reversed(batch)}
        query = select(s.session_id, s.user_id, s.tenant_id, s.fence, s.version).where(s.session_id.in_(sorted(firsts)))
        query = query.order_by(s.session_id).with_for_update()  # always in this order: two writers cannot wait in a circle
        found = {row.session_id: row for row in (await connection.execute(query)).all()}
        unknown = [session_id for session_id in sorted(firsts) if session_id not in found]
        if unknown:
            now = datetime.now(UTC)
            rows = [
                {"session_id": name, "user_id": firsts[name].user_id, "tenant_id": firsts[name].tenant_id, "updated_at": now,
                 "version": 0, "fence": 0, "lease_holder": "", "lease_host": "", "object_key": "", "storage_key": "",
                 "upload_id": "", "options": {}}
                for name in unknown
            ]  # fmt: skip
            await connection.execute(self._database.insert(session_states).values(rows).on_conflict_do_nothing())
            found |= {row.session_id: row for row in (await connection.execute(query)).all()}
        return found

    async def _put(self, connection: AsyncConnection, accepted: list[_Waiting]) -> dict[str, Committed]:
        """Write the chunks, the newest of each, and count the change of each session once."""
        if not accepted:
            return {}
        newest: dict[str, dict[int, ChunkEntry]] = {}
        for waiting in accepted:
            newest.setdefault(waiting.session_id, {}).update((chunk.index, chunk) for chunk in waiting.chunks)
        rows = [_row(name, chunk) for name, chunks in newest.items() for chunk in chunks.values()]
        for start in range(0, len(rows), _MOST_ROWS):
            statement = self._database.insert(upload_chunks).values(rows[start : start + _MOST_ROWS])
            changed = {name: statement.excluded[name] for name in rows[0] if name not in ("session_id", "chunk_index")}
            keys = ["session_id", "chunk_index"]
            await connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))
        s, now = session_states.c, datetime.now(UTC)
        counted = update(session_states).where(s.session_id.in_(newest)).values(version=s.version + 1, updated_at=now)
        versions = await connection.execute(counted.returning(s.session_id, s.version))
        return {row.session_id: Committed(row.version, [*newest[row.session_id].values()]) for row in versions}


@asynccontextmanager
async def open_sessions(settings: Settings, database: Database) -> AsyncIterator[SessionStore]:
    """The store of these settings: the database's, with Redis's copies before it where there is one."""
    sql = SqlSessions(database)
    try:
        if settings.redis_url is None:
            yield sql
            return
        from jettyctl.server.control.redis_client import open_redis
        from jettyctl.server.control.sessions_cached import CachedSessions

        async with open_redis(settings.redis_url) as redis:
            yield CachedSessions(sql, redis)
    finally:
        await sql.close()


def _refusal(waiting: _Waiting, state: Any) -> ApiError | None:  # noqa: ANN401 - a row
    try:
        _check_owner(waiting.who, state.user_id, state.tenant_id)
    except ApiError as error:
        return error
    if state.fence and waiting.fence != state.fence:
        return failures.conflict("stale lease", "Another machine has taken this session over.")
    return None


def _check_owner(who: Principal, user_id: str, tenant_id: str) -> None:
    if who.tenant_id != tenant_id or (who.user_id != user_id and not who.is_admin):
        raise failures.not_found("session")


def _end(waiting: _Waiting, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)


def _row(session_id: str, chunk: ChunkEntry) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "chunk_index": chunk.index,
        "chunk_hash": chunk.chunk_hash,
        "edge_id": chunk.edge_id,
        "status": chunk.status,
        "bytes_uploaded": chunk.bytes_uploaded,
        "error_message": chunk.error_message,
        "etag": chunk.etag,
        "timestamp": datetime.fromtimestamp(chunk.timestamp, UTC),
    }


def _entry(row: Any) -> ChunkEntry:  # noqa: ANN401 - a row
    return ChunkEntry(
        index=row.chunk_index,
        status=row.status,
        chunk_hash=row.chunk_hash,
        edge_id=row.edge_id,
        bytes_uploaded=row.bytes_uploaded,
        error_message=row.error_message,
        etag=row.etag,
        timestamp=row.timestamp.timestamp(),
    )


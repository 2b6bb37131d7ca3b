"""Sessions in the database, written in groups.

While one transaction runs, the calls that come are gathered, and the next one writes them all: a call waits for at most
two commits, and a busy service commits seldom. Each caller hears of its own chunks only. The sessions' rows are locked,
always in one order, before fences are looked at: a holder that was replaced is refused, however late it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, RowMapping, Select, String, any_, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.server.control import failures, sessions_postgres
from jettyctl.server.control.database import Database, DatabaseDown, Insert
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.sessions import RETENTION, ChunkEntry, check_owner
from jettyctl.server.control.tables import session_states, upload_chunks

TOGETHER = 0.02  # seconds in which what was committed is gathered, to be told at once
MOST_CHUNKS = 2_000  # of one transaction, unless a single call brings more: the other calls wait for it

_VALUES = [column.name for column in upload_chunks.c if not column.primary_key]


@dataclass(frozen=True, slots=True)
class Change:
    """What a transaction did to the chunks of a session: they were of version `before`, and are of version `after`."""

    session_id: str
    before: int
    after: int
    chunks: Sequence[ChunkEntry]


@dataclass(frozen=True, slots=True)
class Stored:
    """The chunks of a session at one moment. Version 0: none was ever kept, or they are too old."""

    version: int
    chunks: list[ChunkEntry]


@dataclass(slots=True)
class _Waiting:
    """A call, and what it waits for."""

    who: Principal
    session_id: str
    chunks: Sequence[ChunkEntry]
    fence: int | None
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, error: Exception | None = None) -> None:
        if self.done.done():
            return  # the caller has gone away
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


@dataclass(slots=True)
class _State:
    """A session's row, held against change."""

    user_id: str
    tenant_id: str
    fence: int
    version: int


class SqlSessions:
    """Keeps the promises of SessionStore in the database. `committed` hears all changes, in order; it never raises."""

    def __init__(self, database: Database, committed: Callable[[Sequence[Change]], Awaitable[None]] | None = None) -> None:
        self._database = database
        self._committed = committed
        self._locking = _locking(database)
        self._putting = _putting(database)
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._untold: list[Change] = []
        self._telling: asyncio.Task[None] | None = None

    async def put_chunks(self, who: Principal, session_id: str, chunks: Sequence[ChunkEntry], *, fence: int | None) -> None:
        now = datetime.now(UTC).timestamp()
        mine = _Waiting(who, session_id, [chunk if chunk.timestamp else replace(chunk, timestamp=now) for chunk in chunks], fence)
        self._waiting.append(mine)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="chunks")
        await mine.done

    async def chunks(self, who: Principal, session_id: str) -> list[ChunkEntry]:
        return (await self.stored(who, session_id)).chunks

    async def stored(self, who: Principal, session_id: str) -> Stored:
        """The chunks and their version, as one statement sees them. Raises ApiError 404 for another user's session."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_with_chunks(session_id))).mappings().all()
        version = _version(who, rows[0]) if rows else 0
        return Stored(version, [_entry(row) for row in rows if row["chunk_index"] is not None] if version else [])

    async def version(self, who: Principal, session_id: str) -> int:
        """The version of what `stored` would tell. Raises ApiError 404 for another user's session."""
        s = session_states.c
        query = select(s.user_id, s.tenant_id, s.version, s.updated_at).where(s.session_id == session_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return _version(who, row) if row else 0

    async def save(self, session_id: str, record: Mapping[str, Any]) -> None:
        """The database has it already."""

    async def forget(self, session_id: str) -> None:
        """There are no copies."""

    async def close(self) -> None:
        """Wait for what is being written, and told."""
        while task := self._writer or self._telling:
            await asyncio.wait([task])

    async def _write(self) -> None:
        """Group after group until nobody waits."""
        try:
            while self._waiting:
                changes = await self._write_group(self._next_group())
                if self._committed and changes:
                    self._untold += changes
                    self._telling = self._telling or asyncio.create_task(self._tell(self._committed), name="told chunks")
                await asyncio.sleep(0)  # those who were just answered may bring more
        finally:
            self._writer = None

    async def _tell(self, committed: Callable[[Sequence[Change]], Awaitable[None]]) -> None:
        """What was committed in a short while together, and in order: nobody waits for it."""
        try:
            while self._untold:
                await asyncio.sleep(TOGETHER)
                changes, self._untold = self._untold, []
                await committed(changes)
        finally:
            self._telling = None

    def _next_group(self) -> list[_Waiting]:
        count, chunks = 0, 0
        for waiting in self._waiting:
            chunks += len(waiting.chunks)
            if count and chunks > MOST_CHUNKS:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _write_group(self, group: list[_Waiting]) -> list[Change]:
        """Write and answer. A value that the database refuses fails the call that brought it, and no other."""
        try:
            refused, changes = await self._once_more(group)
        except Exception as error:  # noqa: BLE001 - the callers raise it
            if len(group) == 1 or isinstance(error, DatabaseDown):
                for waiting in group:
                    waiting.end(error)
                return []
            return [change for waiting in group for change in await self._write_group([waiting])]
        for waiting, refusal in zip(group, refused, strict=True):
            waiting.end(refusal)
        return changes

    async def _once_more(self, group: Sequence[_Waiting]) -> tuple[list[ApiError | None], list[Change]]:
        """Two writers may wait for each other, and a connection may have gone stale: neither happens twice in a row."""
        try:
            return await self._transaction(group)
        except DatabaseDown:
            return await self._transaction(group)

    async def _transaction(self, group: Sequence[_Waiting]) -> tuple[list[ApiError | None], list[Change]]:
        """For each call its refusal, if any; and what was changed."""
        now = datetime.now(UTC)
        if self._database.dialect == "postgresql" and (written := await self._at_once(group, now)):
            return written
        newest: dict[str, dict[int, ChunkEntry]] = {}
        async with self._database.begin() as connection:
            states = await self._locked(connection, group, now)
            refused = [_refusal(waiting, states[waiting.session_id]) for waiting in group]
            for waiting, refusal in zip(group, refused, strict=True):
                if refusal is None and waiting.chunks:
                    newest.setdefault(waiting.session_id, {}).update((chunk.index, chunk) for chunk in waiting.chunks)
            changes = [_change(name, states[name].version, newest[name], now) for name in sorted(newest)]
            if changes:
                await self._apply(connection, changes, now)
        return refused, changes

    async def _at_once(
        self, group: Sequence[_Waiting], now: datetime
    ) -> tuple[list[ApiError | None], list[Change]] | None:
        """The same in one statement, where nothing is unusual; None where something is. What it wrote is written again then."""
        calls = [
            sessions_postgres.Call(w.session_id, w.who.user_id, w.who.tenant_id, w.who.is_admin, w.fence, tuple(w.chunks))
            for w in group
        ]
        if not sessions_postgres.is_usual(calls):
            return None
        rows = await sessions_postgres.write(self._database, calls, now)
        if any(waiting.session_id not in rows for waiting in group):
            return None
        states = {name: _State(row["user_id"], row["tenant_id"], row["fence"], row["version"]) for name, row in rows.items()}
        refused = [_refusal(waiting, states[waiting.session_id]) for waiting in group]
        brought: dict[str, list[ChunkEntry]] = {}
        for waiting, refusal in zip(group, refused, strict=True):
            if refusal is None:
                brought.setdefault(waiting.session_id, []).extend(waiting.chunks)
        return refused, [Change(name, rows[name]["version"], rows[name]["after"], brought[name]) for name in sorted(brought)]

    async def _locked(self, connection: AsyncConnection, group: Sequence[_Waiting], now: datetime) -> dict[str, _State]:
        """The sessions' rows, held against change until the transaction ends. Those that are not there are made."""
        first = {waiting.session_id: waiting.who for waiting in reversed(group)}
        states = await self._lock(connection, sorted(first))
        unknown = sorted(first.keys() - states.keys())
        if unknown:
            rows = [
                {"session_id": name, "user_id": first[name].user_id, "tenant_id": first[name].tenant_id, "updated_at": now}
                for name in unknown
            ]
            await connection.execute(self._database.insert(session_states).on_conflict_do_nothing(), rows)
            states |= await self._lock(connection, unknown)
        return states

    async def _lock(self, connection: AsyncConnection, names: Sequence[str]) -> dict[str, _State]:
        rows = await connection.execute(self._locking, {"names": names})
        return {name: _State(*state) for name, *state in rows}

    async def _apply(self, connection: AsyncConnection, changes: Sequence[Change], now: datetime) -> None:
        rows = [_row(change.session_id, chunk) for change in changes for chunk in change.chunks]
        await connection.execute(self._putting, rows)
        await connection.execute(
            _COUNTING, [{"name": change.session_id, "after": change.after, "now": now} for change in changes]
        )


# Statements are made once: putting one together costs as much as running it.
_COUNTING = (
    update(session_states)
    .where(session_states.c.session_id == bindparam("name"))
    .values(version=bindparam("after"), updated_at=bindparam("now"))
)


def _locking(database: Database) -> Select[Any]:
    """The rows of the sessions `names`; one statement for any number of them where the driver prepares statements."""
    s = session_states.c
    several: ColumnElement[bool] = s.session_id == any_(bindparam("names", type_=ARRAY(String)))
    if database.dialect == "sqlite":
        several = s.session_id.in_(bindparam("names", expanding=True))
    query = select(s.session_id, s.user_id, s.tenant_id, s.fence, s.version).where(several)
    return query.order_by(s.session_id).with_for_update()  # SQLite has one writer anyway


def _putting(database: Database) -> Insert:
    write = database.insert(upload_chunks)
    changed = {name: write.excluded[name] for name in _VALUES}
    return write.on_conflict_do_update(index_elements=["session_id", "chunk_index"], set_=changed)


def _refusal(waiting: _Waiting, state: _State) -> ApiError | None:
    try:
        check_owner(waiting.who, state.user_id, state.tenant_id)
    except ApiError as error:
        return error
    if state.fence and waiting.fence != state.fence:
        return failures.conflict("stale lease", "Another machine has taken this session over.")
    return None


def _change(session_id: str, before: int, chunks: Mapping[int, ChunkEntry], now: datetime) -> Change:
    """Versions go by the clock: a session id that is used again after it was forgotten never has one that it had."""
    after = max(before + 1, int(now.timestamp() * 1000))
    return Change(session_id, before, after, [chunks[index] for index in sorted(chunks)])


def _version(who: Principal, state: RowMapping) -> int:
    check_owner(who, state["user_id"], state["tenant_id"])
    age = (datetime.now(UTC) - state["updated_at"]).total_seconds()
    return int(state["version"]) if age < RETENTION else 0


def _with_chunks(session_id: str) -> Select[Any]:
    s, c = session_states, upload_chunks
    return (
        select(s.c.user_id, s.c.tenant_id, s.c.version, s.c.updated_at, c.c.chunk_index, *(c.c[name] for name in _VALUES))
        .select_from(s.outerjoin(c, c.c.session_id == s.c.session_id))
        .where(s.c.session_id == session_id)
        .order_by(c.c.chunk_index)
    )


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


def _entry(row: RowMapping) -> ChunkEntry:
    return ChunkEntry(
        index=row["chunk_index"],
        status=row["status"],
        chunk_hash=row["chunk_hash"],
        edge_id=row["edge_id"],
        bytes_uploaded=row["bytes_uploaded"],
        error_message=row["error_message"],
        etag=row["etag"],
        timestamp=row["timestamp"].timestamp(),
    )

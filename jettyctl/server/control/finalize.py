"""The commit point of an upload: Complete, once, and the record of what came of it.

1. the claim: `completing_until`, in one statement with the fence, 2. Complete, 3. the record, in one transaction with
status completed and the answer that every repeat gets. *Killed between 1 and 2: the claim runs out, the same call begins
again. Between 2 and 3: the object names the session that made it, the same call finds it and records.* The claim is
confirmed right before Complete and renewed while it takes; the key's lock keeps other sessions, copies and removals of
the same key out until the record is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Any
from urllib.parse import quote

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.core.model import SESSION_METADATA, ObjectInfo, Receipt
from jettyctl.errors import AlreadyExists, IntegrityError, JettyError, NetworkError, UploadGone
from jettyctl.files.crc import combine
from jettyctl.server.control import failures, leases, uploads
from jettyctl.server.control.database import Database, DatabaseDown
from jettyctl.server.control.duty import server_time
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.keylocks import Held, renewing, writing
from jettyctl.server.control.leases import UNFINISHED, Work
from jettyctl.server.control.objects import Objects, refused
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.recording import VERIFY, Made, cost_of, enqueue, record
from jettyctl.server.control.sessions import SessionStore
from jettyctl.server.control.tables import session_states, stored_objects, upload_sessions
from jettyctl.server.control.tracking import add_pattern
from jettyctl.server.control.uploads import Part

CLAIM_SECONDS = 20.0  # renewed at a third of it; who finds a claim waits for its end, or for the answer
WAIT_SECONDS = 25.0  # of a call that finds another at work: longer than the claim of one that was killed
CLOSE_SECONDS = 60.0  # that the end of the service waits for a Complete
LOOK_SECONDS = 0.1
RECORD_TRIES = 3
MOST_MISSING = 1_000  # numbers in one answer


@dataclass(frozen=True, slots=True)
class Finish:
    """The whole file, as its sender says: what the store has is compared with it."""

    fence: int
    file_hash: str
    crc64: int
    size: int
    completed: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to complete a session until a moment, which names it."""

    work: Work
    until: datetime


@dataclass(frozen=True, slots=True)
class _Made:
    """What came of an upload, to be recorded."""

    finish: Finish
    info: ObjectInfo
    edges: Sequence[str]
    base_url: str


class Finalizer:
    """Completes uploads."""

    def __init__(self, database: Database, objects: Objects, sessions: SessionStore, lease_seconds: float) -> None:
        self._database = database
        self._objects = objects
        self._sessions = sessions
        self._lease_seconds = lease_seconds
        self._working: set[asyncio.Task[Mapping[str, Any]]] = set()

    async def finalize(self, who: Principal, session_id: str, finish: Finish, base_url: str) -> Mapping[str, Any]:
        """The object that the session made, made now or before: for who made it the same answer every time. Raises ApiError.

        400, 404, 409 (`stale lease`, `already completed` by another holder, `parts missing`, `integrity`, `exists`,
        `replaced`), 410, 503.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            found = await self._claim(who, session_id, finish.fence)
            if isinstance(found, Claim):
                return await self._see_through(self._work(who, found, finish, base_url))
            if found is not None:
                return found
            if time.monotonic() >= deadline:
                raise _under_way()
            await asyncio.sleep(LOOK_SECONDS)

    async def free_claims(self) -> None:
        """Forget claims of a process that was killed: for a service that is one process, and starts."""
        async with self._database.begin() as connection:
            await connection.execute(update(session_states).values(completing_until=None))

    async def close(self) -> None:
        """Wait for what is under way: a Complete that was sent had better be recorded."""
        if self._working:
            await asyncio.wait(self._working, timeout=CLOSE_SECONDS)

    async def _see_through(self, working: Coroutine[None, None, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Go on to the end, also if the client goes away meanwhile."""
        task = asyncio.create_task(working)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return await asyncio.shield(task)

    async def _claim(self, who: Principal, session_id: str, fence: int) -> Claim | Mapping[str, Any] | None:
        """The claim; or the answer that this holder got before; or None while a call is at work."""
        s, u = session_states.c, upload_sessions.c
        free = or_(s.completing_until.is_(None), s.completing_until <= server_time(self._database))
        is_open = exists(select(1).where(u.id == session_id, u.status.in_(UNFINISHED)))
        claiming = (
            update(session_states)
            .where(leases.owned(who, session_id), s.fence == fence, s.upload_id != "", free, is_open)
            .values(
                completing_until=server_time(self._database, CLAIM_SECONDS),
                lease_expires_at=server_time(self._database, self._lease_seconds),
            )
            .returning(s.completing_until)
        )
        async with self._database.begin() as connection:
            until = (await connection.execute(claiming)).scalar()
            work = await leases.find(connection, who, session_id)
        if until is not None:
            return Claim(work, until)
        if work.status == "completed":
            answer: Mapping[str, Any] = work.options["answer"]
            if work.options["completed_by"]["fence"] != fence:
                raise leases.already_completed(work)
            return answer
        if work.status not in UNFINISHED or not work.upload_id:
            raise leases.gone()
        if work.fence != fence:
            raise leases.stale(work.host)
        return None

    async def _work(self, who: Principal, found: Claim, finish: Finish, base_url: str) -> Mapping[str, Any]:
        work, database = found.work, self._database
        async with _claimed(database, found, finish.fence) as claim, writing(database, work.storage_key) as held:
            if finish.size != work.size:
                raise failures.conflict("integrity", f"The session is of {work.size} bytes.")
            uploads.check_lengths(work, [(part.number, part.length) for part in finish.completed])
            if finish.completed:
                entries = uploads.entries(finish.completed)
                await self._sessions.put_chunks(who, work.session_id, entries, fence=finish.fence)
            there = await self._finished(work)
            info = self._seen(there, work, finish) if there else await self._complete(who, claim, held, finish)
            edges = {entry.edge_id for entry in await self._sessions.chunks(who, work.session_id)} - {""}
            return await self._record(work, _Made(finish, info, sorted(edges), base_url))

    async def _finished(self, work: Work) -> ObjectInfo | None:
        """The object, if this session has made it already. Raises ApiError 409 if nothing may be made there."""
        o = stored_objects.c
        async with self._database.read() as connection:
            owner = (await connection.execute(select(o.user_id).where(o.storage_key == work.storage_key))).scalar()
        if owner not in (None, work.user_id):
            raise failures.conflict("key taken", "This key belongs to another user of the tenant by now.")
        info = await self._objects.head(work.storage_key)
        if info is not None and info.session_id == work.session_id and info.size == work.size:
            return info
        if info is not None and work.options.get("if_absent"):
            raise failures.conflict("exists", "There is an object with this key.")
        return None

    async def _complete(self, who: Principal, claim: _Claimed, held: Held, finish: Finish) -> ObjectInfo:
        """Compare what the store has with what it should, complete, and look at what came of it."""
        work = claim.work
        receipts = await self._receipts(who, work, finish)
        await held.confirm()
        await claim.confirm()
        try:
            await self._objects.complete(
                work.upload, receipts, size=work.size, crc64=finish.crc64, if_absent=bool(work.options.get("if_absent"))
            )
        except (UploadGone, NetworkError, AlreadyExists) as error:  # its reply may be what was lost
            if await self._made_by(work) is None:
                raise refused(error) from error
        except JettyError as error:
            raise refused(error) from error
        return self._seen(await self._objects.head(work.storage_key), work, finish)

    async def _made_by(self, work: Work) -> ObjectInfo | None:
        info = await self._objects.head(work.storage_key)
        return info if info is not None and info.session_id == work.session_id and info.size == work.size else None

    def _seen(self, info: ObjectInfo | None, work: Work, finish: Finish) -> ObjectInfo:
        """The object, if it is the one that was sent. Raises ApiError 409."""
        if info is not None and info.metadata.get(SESSION_METADATA, work.session_id) != work.session_id:
            raise failures.conflict("replaced", "Another upload has replaced the object already.")
        if info is None or info.size != work.size or info.crc64 not in (None, finish.crc64):
            raise refused(IntegrityError("the object is not the one that was completed"))
        return info

    async def _receipts(self, who: Principal, work: Work, finish: Finish) -> list[Receipt]:
        """All parts, in order, each the one that was recorded. Raises ApiError 409 `parts missing` and `integrity`."""
        listed = {part.number: part for part in await self._objects.list_parts(work.upload)}
        known = {entry.index + 1: entry for entry in await self._sessions.chunks(who, work.session_id)}
        receipts, missing = [], []
        for chunk in work.layout:
            part, entry = listed.get(chunk.number), known.get(chunk.number)
            recorded = entry.etag if entry is not None and entry.status == "completed" else ""
            if part is None or part.size != chunk.length or recorded not in ("", part.etag):
                missing.append(chunk.number)
                continue
            crc64 = part.crc64 if part.crc64 is not None else uploads.crc_of(entry) if recorded else None
            receipts.append(Receipt(part.number, part.size, part.etag, crc64))
        if missing:
            raise failures.conflict(
                "parts missing", f"{len(missing)} parts are to be sent (again).", missing=missing[:MOST_MISSING]
            )
        if _whole(receipts) not in (None, finish.crc64):
            raise failures.conflict("integrity", "The parts are not the file whose checksum was given.")
        return receipts

    async def _record(self, work: Work, made: _Made) -> Mapping[str, Any]:
        for tries_left in reversed(range(RECORD_TRIES)):
            try:
                async with self._database.begin() as connection:
                    answer = await self._record_in(connection, work, made)
                break
            except DatabaseDown:
                if not tries_left:
                    raise
                await asyncio.sleep(LOOK_SECONDS)
        await self._sessions.forget(work.session_id)
        return answer

    async def _record_in(self, connection: AsyncConnection, work: Work, made: _Made) -> Mapping[str, Any]:
        if known := await self._recorded(connection, work):
            return known
        finish, options, now = made.finish, uploads.options_of(work), datetime.now(UTC)
        stored = Made(
            storage_key=work.storage_key,
            tenant_id=work.tenant_id,
            user_id=work.user_id,
            object_key=work.object_key,
            session_id=work.session_id,
            file_name=work.file_name,
            file_hash=finish.file_hash,
            size=work.size,
            etag=made.info.etag,
            crc64=f"{finish.crc64:016x}",
            mime_type=options.content_type or "",
            metadata=options.metadata,
        )
        answer = {
            "sessionId": work.session_id,
            "fileId": await record(connection, self._database, stored, work.file_id),
            "url": url_of(made.base_url, work.object_key),
            "size": work.size,
            "etag": stored.etag,
            "crc64": stored.crc64,
            "fileHash": finish.file_hash,
            "status": "completed",
        }
        await self._close_session(connection, work, made, answer, now)
        await add_pattern(connection, self._database, work.user_id, size=work.size, edges=made.edges, at=now)
        await enqueue(connection, self._database, VERIFY, work.storage_key)
        return answer

    @staticmethod
    async def _recorded(connection: AsyncConnection, work: Work) -> Mapping[str, Any] | None:
        """The answer, if a commit whose reply was lost has written it."""
        query = select(session_states.c.options).where(session_states.c.session_id == work.session_id)
        options: Mapping[str, Any] = (await connection.execute(query.with_for_update())).scalar_one()
        answer: Mapping[str, Any] | None = options.get("answer")
        return answer

    @staticmethod
    async def _close_session(
        connection: AsyncConnection, work: Work, made: _Made, answer: Mapping[str, Any], now: datetime
    ) -> None:
        s, u = session_states.c, upload_sessions.c
        began = (await connection.execute(select(u.started_at).where(u.id == work.session_id))).scalar_one()
        seconds = max(0.001, (now - began).total_seconds())
        await connection.execute(
            update(upload_sessions)
            .where(u.id == work.session_id)
            .values(
                file_id=answer["fileId"],
                file_hash=answer["fileHash"],
                edges_used=list(made.edges),
                chunks_completed=work.layout.count,
                bytes_uploaded=work.size,
                completed_at=now,
                duration_seconds=seconds,
                avg_speed_mbps=work.size * 8 / seconds / 1e6,
                actual_cost=cost_of(work.size),
                status="completed",
                error_message="",
                updated_at=now,
            )
        )
        known = {**work.options, "answer": answer, "completed_by": {"fence": made.finish.fence, "host": work.host}}
        await connection.execute(
            update(session_states)
            .where(s.session_id == work.session_id)
            .values(options=known, completing_until=None, updated_at=now)
        )


class _Claimed:
    """A claim that is in use."""

    def __init__(self, database: Database, claim: Claim, fence: int) -> None:
        self.work = claim.work
        self._database = database
        self._until = claim.until
        self._fence = fence
        self._changing = asyncio.Lock()

    async def confirm(self) -> None:
        """Renew it, if the fence is the current one still. Raises ApiError 409 otherwise, 503 if the claim is another's."""
        await self._renew(session_states.c.fence == self._fence)

    async def keep(self) -> None:
        """Renew it whatever the fence is: as long as a Complete is under way, nobody else may send one."""
        await self._renew()

    async def release(self) -> None:
        with contextlib.suppress(DatabaseDown):  # it runs out by itself
            async with self._changing, self._database.begin() as connection:
                await connection.execute(update(session_states).where(self._mine()).values(completing_until=None))

    async def _renew(self, *conditions: ColumnElement[bool]) -> None:
        s = session_states.c
        async with self._changing:
            renewed = (
                update(session_states)
                .where(self._mine(), *conditions)
                .values(completing_until=server_time(self._database, CLAIM_SECONDS))
                .returning(s.completing_until)
            )
            async with self._database.begin() as connection:
                until = (await connection.execute(renewed)).scalar()
                if until is None:
                    holding = select(s.fence, s.lease_host).where(s.session_id == self.work.session_id)
                    fence, host = (await connection.execute(holding)).one()
                    # With the same fence it ran out, and another call of the holder has it: that one gives the answer.
                    raise _under_way() if fence == self._fence else leases.stale(host)
            self._until = until

    def _mine(self) -> ColumnElement[bool]:
        s = session_states.c
        return and_(s.session_id == self.work.session_id, s.completing_until == self._until)


@asynccontextmanager
async def _claimed(database: Database, claim: Claim, fence: int) -> AsyncIterator[_Claimed]:
    """The claim, renewed while the context lasts, given back after."""
    claimed = _Claimed(database, claim, fence)
    async with renewing(claimed.keep, CLAIM_SECONDS / 3):
        try:
            yield claimed
        finally:
            await claimed.release()


def url_of(base_url: str, key: str) -> str:
    """The address of an object's bytes."""
    return f"{base_url}/api/jetty/object/content?key={quote(key, safe='/')}"


def file_url(base_url: str, object_key: str, file_id: str) -> str:
    """The address of a file's bytes, also where the object it stands for has no name of its own."""
    return url_of(base_url, object_key) if object_key else f"{base_url}/api/jetty/object/content?fileId={file_id}"


def _whole(receipts: Sequence[Receipt]) -> int | None:
    """The CRC64NVME of all parts together; None where one of them is not known."""
    if any(receipt.crc64 is None for receipt in receipts):
        return None
    return reduce(lambda whole, part: combine(whole, part.crc64 or 0, part.size) if part.size else whole, receipts, 0)


def _under_way() -> ApiError:
    return ApiError(503, "busy", "The upload is being completed. Call again for the answer.", headers={"Retry-After": "2"})

"""Uploads through the service: beginning one, its parts, ending it without an object.

What is meant is committed before the store is asked, what it answered before the client hears of it:

1. the session's rows, 2. the store's Create, 3. its upload id: *killed between 2 and 3, the same call begins another
upload; the one that nobody knows is swept away when it is old*.
4. a part's PUT, 5. its receipt: *killed in between, ListParts knows it*.
6. status failed, 7. Abort: *killed in between, the same call aborts*.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.core.model import SESSION_METADATA, Layout, ObjectOptions, Receipt, Upload
from jettyctl.files.content_type import guess_content_type
from jettyctl.server.control import failures, leases
from jettyctl.server.control.blobs import Blobs, Ticket
from jettyctl.server.control.database import Database
from jettyctl.server.control.duty import server_time
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.leases import UNFINISHED, Work
from jettyctl.server.control.objects import Objects
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.recording import cost_of
from jettyctl.server.control.sessions import ChunkEntry, SessionStore
from jettyctl.server.control.tables import session_states, stored_objects, upload_sessions
from jettyctl.storage.base import PRESIGNED_SECONDS, PartClaim

DEFAULT_THREADS = 16
ENDING_SECONDS = 10.0  # of a call that finds an upload neither at the store nor completed
LOOK_SECONDS = 0.1
_CRC = "crc64nvme:"  # what our chunk hashes begin with


@dataclass(frozen=True, slots=True)
class Wish:
    """An upload that somebody wants. `options` are those of `options_of`."""

    session_id: str
    key: str
    file_name: str
    size: int
    chunk_size: int
    threads: int
    file_hash: str
    options: Mapping[str, Any]
    if_absent: bool
    holder: str
    host: str


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload that can be worked on. `new`: it was not there before this call."""

    work: Work
    new: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was received, as its sender says."""

    number: int
    etag: str
    crc64: str
    length: int
    edge_id: str = ""


@dataclass(frozen=True, slots=True)
class Signed:
    """A request that stores one part."""

    number: int
    url: str
    headers: Mapping[str, str] = field(repr=False)
    expires_at: float


class Uploads:
    """The uploads of all users."""

    def __init__(
        self, database: Database, objects: Objects, sessions: SessionStore, blobs: Blobs | None, lease_seconds: float
    ) -> None:
        self._database = database
        self._objects = objects
        self._sessions = sessions
        self._blobs = blobs
        self._lease_seconds = lease_seconds

    async def begin(self, who: Principal, wish: Wish) -> Begun:
        """Begin an upload, or go on with it: a repeat changes nothing. Raises ApiError 400, 404, 409, 410."""
        self._check(wish)
        storage_key = self._objects.storage_key(who.tenant_id, wish.key)
        work, new = await self._intend(who, wish, storage_key)
        if not work.upload_id:
            if wish.if_absent and await self._objects.head(storage_key) is not None:
                await self._fail(work, "there is an object with this key")
                raise failures.conflict("exists", "There is an object with this key.")
            work = await self._create(who, work)
        return Begun(work, new)

    async def parts(
        self, who: Principal, session_id: str, fence: int, completed: Sequence[Part], wanted: Sequence[tuple[int, PartClaim]],
        base_url: str,
    ) -> list[Signed]:  # fmt: skip
        """Keep receipts, durably, and sign requests for parts. Raises ApiError 400, 404, 409, 410."""
        work = await leases.renew(self._database, who, session_id, fence, self._lease_seconds)
        _must_be_open(work)
        check_lengths(work, [(part.number, part.length) for part in completed])
        check_lengths(work, [(number, claim.length) for number, claim in wanted])
        if completed:
            await self._sessions.put_chunks(who, session_id, entries(completed), fence=fence)
        return await self._sign(work, wanted, base_url) if wanted else []

    async def stored_parts(self, who: Principal, session_id: str) -> list[Receipt]:
        """What the store has, whatever we know: its list, with checksums where they are sure. Raises ApiError 404, 409, 410."""
        async with self._database.read() as connection:
            work = await leases.find(connection, who, session_id)
        _must_be_open(work)
        try:
            listed = await self._objects.list_parts(work.upload)
        except ApiError as error:
            if error.status == 410:
                await self._must_not_end(who, session_id)
            raise
        if self._objects.checksum != "crc64nvme" or all(part.crc64 is not None for part in listed):
            return listed
        known = {entry.index + 1: entry for entry in await self._sessions.chunks(who, session_id)}
        return [_with_checksum(part, known.get(part.number)) for part in listed]

    async def _must_not_end(self, who: Principal, session_id: str) -> None:
        """An upload that the store does not know any more may be completed, and about to be recorded: wait for that.

        Raises ApiError 409 if it was, 503 if it takes long.
        """
        s = session_states.c
        ending = select(s.completing_until > server_time(self._database)).where(leases.owned(who, session_id))
        deadline = time.monotonic() + ENDING_SECONDS
        while True:
            async with self._database.read() as connection:
                under_way = (await connection.execute(ending)).scalar()
                work = await leases.find(connection, who, session_id)  # after that: what ended before is recorded
            _must_be_open(work)
            if not under_way:
                return
            if time.monotonic() >= deadline:
                raise busy()
            await asyncio.sleep(LOOK_SECONDS)

    async def abort(self, who: Principal, session_id: str) -> None:
        """End an upload without an object. Idempotent. Raises ApiError 404, 409 `already completed`, 503 while it is."""
        s, u = session_states.c, upload_sessions.c
        idle = or_(s.completing_until.is_(None), s.completing_until <= server_time(self._database))
        fencing = (
            update(session_states)
            .where(leases.owned(who, session_id), s.storage_key != "", idle)
            .values(fence=s.fence + 1, lease_holder="", lease_host="", lease_expires_at=None)
        )
        failing = (
            update(upload_sessions)
            .where(u.id == session_id, u.status.in_(UNFINISHED))
            .values(status="failed", error_message="aborted", updated_at=datetime.now(UTC))
        )
        async with self._database.begin() as connection:
            work = await leases.find(connection, who, session_id)
            if work.status == "completed":
                raise leases.already_completed(work)
            if (await connection.execute(fencing)).rowcount != 1:
                raise busy()
            if (await connection.execute(failing)).rowcount != 1:  # it ended while this call waited for the session's row
                work = await leases.find(connection, who, session_id)
                if work.status == "completed":
                    raise leases.already_completed(work)
        await self._sessions.forget(session_id)
        if work.upload_id:
            await self._objects.abort(work.upload)

    def _check(self, wish: Wish) -> None:
        """That the store takes such parts, and so many. Raises ApiError 400."""
        limits, count = self._objects.limits, Layout(wish.size, wish.chunk_size).count
        if wish.chunk_size > limits.max_part or (count > 1 and wish.chunk_size < limits.min_part):
            raise failures.bad_request(f"chunkSize: the store takes {limits.min_part} to {limits.max_part} bytes.")
        if count > limits.max_parts:
            raise failures.bad_request(f"chunkSize: the store takes {limits.max_parts} parts, these are {count}.")
        if wish.size > limits.max_object:
            raise failures.bad_request(f"fileSize: the store takes {limits.max_object} bytes.")

    async def _intend(self, who: Principal, wish: Wish, storage_key: str) -> tuple[Work, bool]:
        """The session's rows, committed, with the lease in the holder's hands."""
        async with self._database.begin() as connection:
            await refuse_anothers(connection, who, storage_key)
            new = await self._insert(connection, who, wish, storage_key)
            work = await leases.find(connection, who, wish.session_id)
            if (work.object_key, work.size, work.chunk_size) != (wish.key, wish.size, wish.chunk_size):
                raise failures.conflict("another upload", "This session is of another file, key or chunk size.")
            _must_be_open(work)
            await leases.take_in(
                connection, self._database, who, wish.session_id,
                holder=wish.holder, host=wish.host, take_over=False, seconds=self._lease_seconds,
            )  # fmt: skip
            return await leases.find(connection, who, wish.session_id), new

    async def _insert(self, connection: AsyncConnection, who: Principal, wish: Wish, storage_key: str) -> bool:
        """Whether the session became an upload now. A session that was only tracked becomes one."""
        s, now = session_states.c, datetime.now(UTC)
        owner = {"user_id": who.user_id, "tenant_id": who.tenant_id}
        row = self._database.insert(session_states).values(session_id=wish.session_id, updated_at=now, **owner)
        await connection.execute(row.on_conflict_do_nothing())
        becoming = (
            update(session_states)
            .where(leases.owned(who, wish.session_id), s.storage_key == "")
            .values(object_key=wish.key, storage_key=storage_key, options={**wish.options, "if_absent": wish.if_absent})
        )
        if (await connection.execute(becoming)).rowcount != 1:
            return False
        about = {
            **owner,
            "file_id": str(uuid.uuid4()),
            "file_name": wish.file_name,
            "file_hash": wish.file_hash,
            "file_size": wish.size,
            "chunk_size": wish.chunk_size,
            "threads": wish.threads,
            "edges_used": [],
            "chunks_total": Layout(wish.size, wish.chunk_size).count,
            "started_at": now,
            "estimated_cost": cost_of(wish.size),
            "upload_via": "cli",
            "status": "in_progress",
            "updated_at": now,
        }
        tracked = self._database.insert(upload_sessions).values(id=wish.session_id, created_at=now, **about)
        u = upload_sessions.c  # what was tracked outlives the session's state, and is its owner's for ever
        own = and_(u.user_id == who.user_id, u.tenant_id == who.tenant_id)
        tracked = tracked.on_conflict_do_update(index_elements=["id"], set_=about, where=own)
        if (await connection.execute(tracked.returning(u.id))).first() is None:
            raise failures.not_found("session")
        return True

    async def _create(self, who: Principal, work: Work) -> Work:
        """Begin the upload at the store and write its id down. Of two that do so, one is aborted."""
        options = options_of(work)
        upload_id = await self._objects.create(work.storage_key, options, work.size, work.chunk_size)
        s = session_states.c
        writing = (
            update(session_states)
            .where(leases.owned(who, work.session_id), s.upload_id == "", s.fence == work.fence)
            .values(upload_id=upload_id)
        )
        async with self._database.begin() as connection:
            written = (await connection.execute(writing)).rowcount == 1
            known = await leases.find(connection, who, work.session_id)
        if not written:
            await self._objects.abort(Upload(work.storage_key, upload_id, 0.0))
            if known.fence != work.fence:
                raise leases.stale(known.host)
        return known

    async def _fail(self, work: Work, why: str) -> None:
        u = upload_sessions.c
        failing = update(upload_sessions).where(u.id == work.session_id, u.status.in_(UNFINISHED))
        async with self._database.begin() as connection:
            await connection.execute(failing.values(status="failed", error_message=why, updated_at=datetime.now(UTC)))

    async def _sign(self, work: Work, wanted: Sequence[tuple[int, PartClaim]], base_url: str) -> list[Signed]:
        if self._blobs is None:
            signed = await self._objects.sign_parts(work.upload, wanted)
            pairs = zip(wanted, signed, strict=True)
            return [Signed(number, request.url, request.headers, request.expires_at) for (number, _), request in pairs]
        return [self._blob(work, number, claim, base_url) for number, claim in wanted]

    def _blob(self, work: Work, number: int, claim: PartClaim, base_url: str) -> Signed:
        assert self._blobs is not None
        until = int(datetime.now(UTC).timestamp()) + PRESIGNED_SECONDS
        crc64 = f"{claim.crc64:016x}"
        token = self._blobs.tickets.sign(
            Ticket(work.session_id, work.upload.upload_id, number, claim.length, crc64, work.fence, until)
        )
        return Signed(number, f"{base_url}/api/jetty/blobs/{token}", {"content-length": str(claim.length)}, until)


def options_of(work: Work) -> ObjectOptions:
    """What the store is told of the object that an upload makes."""
    known = work.options
    return ObjectOptions(
        content_type=known.get("content_type") or guess_content_type(work.file_name),
        cache_control=known.get("cache_control"),
        storage_class=known.get("storage_class"),
        metadata={**known.get("metadata", {}), SESSION_METADATA: work.session_id},
    )


def entries(parts: Sequence[Part]) -> list[ChunkEntry]:
    """Receipts as chunk records."""
    now = datetime.now(UTC).timestamp()
    return [
        ChunkEntry(
            index=part.number - 1,
            status="completed",
            chunk_hash=_CRC + part.crc64,
            edge_id=part.edge_id,
            bytes_uploaded=part.length,
            etag=part.etag,
            timestamp=now,
        )
        for part in parts
    ]


def crc_of(entry: ChunkEntry | None) -> int | None:
    """The CRC64NVME that a chunk record holds."""
    if entry is None or not entry.chunk_hash.startswith(_CRC):
        return None
    return int(entry.chunk_hash.removeprefix(_CRC), 16)


def busy() -> ApiError:
    """A Complete is under way."""
    return ApiError(503, "busy", "The upload is being completed. Look again.", headers={"Retry-After": "2"})


def _must_be_open(work: Work) -> None:
    if work.status == "completed":
        raise leases.already_completed(work)
    if work.status not in UNFINISHED:
        raise leases.gone()


def check_lengths(work: Work, parts: Sequence[tuple[int, int]]) -> None:
    """That each of the parts, by number and length, is one of the upload. Raises ApiError 400."""
    layout = work.layout
    for number, length in parts:
        if number > layout.count or layout.chunk(number - 1).length != length:
            raise failures.bad_request(f"part {number} of {length} bytes is not one of this upload")


def _with_checksum(part: Receipt, known: ChunkEntry | None) -> Receipt:
    """The part with our record's checksum, which the store has verified, if it is of the same bytes."""
    if part.crc64 is None and known is not None and known.etag == part.etag:
        return Receipt(part.number, part.size, part.etag, crc_of(known))
    return part


async def refuse_anothers(connection: AsyncConnection, who: Principal, storage_key: str) -> None:
    """Users of a tenant share its names, but nobody replaces another's object. Raises ApiError 409."""
    o = stored_objects.c
    owner = (await connection.execute(select(o.user_id).where(o.storage_key == storage_key))).scalar()
    if owner not in (None, who.user_id):
        raise failures.conflict("key taken", "This key belongs to another user of the tenant. Choose another.")

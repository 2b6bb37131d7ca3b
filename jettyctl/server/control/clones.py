"""Clones: content that the service has already becomes the user's without being sent, for who proves to have it.

Only content that `verifier` has read is offered, only in the scope of the settings, and only against a proof over a seed
that nobody was given before. From outside, content that is not known looks like content that is, until the proof: and
then every refusal looks like every other. Why one was made is in the log.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.core import possession
from jettyctl.core.model import MIB, SESSION_METADATA, SHA256_METADATA, ObjectInfo, ObjectOptions
from jettyctl.errors import StoreError
from jettyctl.files.content_type import guess_content_type
from jettyctl.server.control import failures, log
from jettyctl.server.control.database import Database
from jettyctl.server.control.duty import server_time
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.finalize import file_url
from jettyctl.server.control.keylocks import Held, writing
from jettyctl.server.control.objects import Objects
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.recording import (
    VERIFY,
    Made,
    cost_of,
    enqueue,
    forget_references,
    record,
    refer,
)
from jettyctl.server.control.settings import DedupScope
from jettyctl.server.control.tables import possession_nonces, possession_seeds, session_states, stored_objects
from jettyctl.server.control.uploads import refuse_anothers
from jettyctl.server.control.verifier import FEWEST_SEEDS, SEED_BYTES, count_seeds

SMALLEST = 4 * MIB  # smaller content can be guessed: for other users it is never known
NONCE_SECONDS = 60
REFILL_SECONDS = 900.0  # no object is read for new seeds more often: asking for them must not cost more than answering


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a client is to prove. Both in hex."""

    nonce: str
    seed: str


@dataclass(frozen=True, slots=True)
class Wish:
    """A clone that somebody wants. `key` None: a reference to a copy that is shared."""

    nonce: str
    proof: str
    key: str | None
    file_name: str
    session_id: str
    options: Mapping[str, Any]
    if_absent: bool


@dataclass(frozen=True, slots=True)
class _Asked:
    """A challenge that was under way."""

    seed: bytes
    answer: bytes
    blake3: str
    size: int
    known: bool
    in_time: bool


@dataclass(frozen=True, slots=True)
class _Source:
    """A verified object."""

    storage_key: str
    session_id: str
    file_hash: str
    size: int
    etag: str
    crc64: str
    blake3: str
    sample: str


class Clones:
    """The clones of all users."""

    def __init__(self, database: Database, objects: Objects, scope: DedupScope) -> None:
        self._database = database
        self._objects = objects
        self._scope = scope
        self._refilling: set[asyncio.Task[None]] = set()

    async def may_be_known(self, who: Principal, size: int, sample: str) -> bool:
        """Whether hashing a whole file is worth it. Among all tenants the answer is always yes, and tells nothing."""
        if self._scope == "all" and size >= SMALLEST:
            return True
        o = stored_objects.c
        found = exists(select(1).where(o.sample == sample, o.size == size, self._in_scope(who, size)))
        async with self._database.read() as connection:
            return bool((await connection.execute(select(found))).scalar())

    async def challenge(self, who: Principal, size: int, blake3: str) -> Challenge:
        """A challenge that was never given before; for content that is not known, one that nobody can answer."""
        nonce = secrets.token_hex(32)
        unknown_seed, unknown_answer = secrets.token_hex(SEED_BYTES), secrets.token_bytes(32)
        async with self._database.begin() as connection:
            taken = (await connection.execute(self._taking(who, size, blake3))).first()
            seed, answer = (taken.seed, taken.answer) if taken else (unknown_seed, unknown_answer)
            row = {
                "nonce": nonce,
                "user_id": who.user_id,
                "tenant_id": who.tenant_id,
                "seed": seed,
                "answer": answer,
                "blake3": blake3,
                "size": size,
                "storage_key": "known" if taken else "",
                "expires_at": server_time(self._database, NONCE_SECONDS),
            }
            await connection.execute(self._database.insert(possession_nonces).values(**row))
        refilling = asyncio.create_task(self._refill(who, size, blake3))  # after the answer, which must not tell of it
        self._refilling.add(refilling)
        refilling.add_done_callback(self._refilling.discard)
        return Challenge(nonce, seed)

    async def clone(self, who: Principal, wish: Wish, base_url: str) -> Mapping[str, Any]:
        """The content as an object of the user. Raises ApiError 404 `no clone`, 400 and 409 for the key."""
        target = self._objects.storage_key(who.tenant_id, wish.key) if wish.key is not None else None
        if target is not None:
            await self._may_write(who, target, wish)
        source = await self._proven(who, wish)
        wish = replace(wish, session_id=await self._free_session(who, wish.session_id))
        storage_key = target or self._objects.shared_key(who.tenant_id, source.file_hash.removeprefix("sha256:"))
        async with writing(self._database, storage_key) as held:
            if target is not None:  # another may have had the lock until now
                await self._may_write(who, target, wish)
            file_id, made = await self._make(who, wish, source, storage_key, held)
        return {
            "fileId": file_id,
            "url": file_url(base_url, wish.key or "", file_id),
            "size": made.size,
            "etag": made.etag,
            "crc64": made.crc64,
            "fileHash": made.file_hash,
            "savedBytes": made.size,
            "savedCost": cost_of(made.size),
        }

    async def close(self) -> None:
        if self._refilling:
            await asyncio.wait(self._refilling)

    async def _may_write(self, who: Principal, target: str, wish: Wish) -> None:
        """That the key can be had: asked before the nonce is spent, and by who has the key's lock."""
        async with self._database.read() as connection:
            await refuse_anothers(connection, who, target)
        if wish.if_absent and await self._objects.head(target) is not None:
            raise failures.conflict("exists", "There is an object with this key.")

    async def _free_session(self, who: Principal, session_id: str) -> str:
        """The session that the clone is to be known by: another user's upload would take the clone for what it made."""
        s = session_states.c
        theirs = or_(s.user_id != who.user_id, s.tenant_id != who.tenant_id)
        async with self._database.read() as connection:
            taken = (await connection.execute(select(exists().where(s.session_id == session_id, theirs)))).scalar()
        return str(uuid.uuid4()) if taken or not session_id else session_id

    async def _proven(self, who: Principal, wish: Wish) -> _Source:
        """What may be cloned. The same is done whatever is wrong, and the same said. Raises ApiError 404."""
        asked = await self._spend(who, wish.nonce)
        what = asked or _Asked(b"", secrets.token_bytes(32), "", 0, known=False, in_time=False)
        proven = possession.proven(
            wish.proof, what.answer, nonce=wish.nonce, user_id=who.user_id, size=what.size, blake3=what.blake3, seed=what.seed
        )
        source = await self._source(who, what)
        reasons = {
            "no such nonce": asked is None,
            "expired": not what.in_time,
            "unknown content": not what.known,
            "failed proof": not proven,
            "no object any more": source is None,
        }
        reason = next((name for name, applies in reasons.items() if applies), None)
        if reason or source is None:
            raise self._refused(who, reason or "")
        return source

    def _refused(self, who: Principal, reason: str) -> ApiError:
        log.write("warning", event="clone refused", reason=reason, userId=who.user_id, tenantId=who.tenant_id)
        return ApiError(404, "no clone", "Send the file.")

    async def _spend(self, who: Principal, nonce: str) -> _Asked | None:
        """The challenge of a nonce, which is gone with it."""
        n = possession_nonces.c
        mine = and_(n.nonce == nonce, n.user_id == who.user_id, n.tenant_id == who.tenant_id)
        spending = delete(possession_nonces).where(mine)
        in_time = (n.expires_at > server_time(self._database)).label("in_time")
        async with self._database.begin() as connection:
            returned = spending.returning(n.seed, n.answer, n.blake3, n.size, n.storage_key, in_time)
            row = (await connection.execute(returned)).first()
        if row is None:
            return None
        return _Asked(bytes.fromhex(row.seed), row.answer, row.blake3, row.size, row.storage_key != "", bool(row.in_time))

    async def _source(self, who: Principal, asked: _Asked) -> _Source | None:
        """A verified object with the content, the user's own first."""
        async with self._database.read() as connection:
            return await _find_source(connection, self._in_scope(who, asked.size), who, asked.blake3, asked.size)

    async def _make(self, who: Principal, wish: Wish, source: _Source, storage_key: str, held: Held) -> tuple[str, Made]:
        """The object and its record. A shared copy that is there is used as it is."""
        sha256 = source.file_hash.removeprefix("sha256:")
        session_id = sha256 if wish.key is None else wish.session_id  # all who make one copy name it alike
        content_type = wish.options.get("content_type") or guess_content_type(wish.file_name)
        known = {} if wish.key is None else wish.options.get("metadata", {})
        metadata = {**known, SESSION_METADATA: session_id, SHA256_METADATA: sha256}
        there = await self._shared(storage_key) if wish.key is None else None
        itself = storage_key == source.storage_key
        here = itself or there is not None
        if itself and not await self._still(source):  # removed, or replaced, by who had the lock before
            raise self._refused(who, "no object any more")
        info = there
        if not here:
            options = ObjectOptions(
                content_type=content_type,
                cache_control=wish.options.get("cache_control"),
                storage_class=wish.options.get("storage_class"),
                metadata=metadata,
            )
            await held.confirm()
            info = await self._copy(who, source, storage_key, options, wish)
        made = Made(
            storage_key=storage_key,
            tenant_id=who.tenant_id,
            user_id=who.user_id,
            object_key=wish.key or "",
            session_id=session_id,
            file_name=wish.file_name,
            file_hash=source.file_hash,
            size=source.size,
            etag=info.etag if info else source.etag,
            crc64=source.crc64,
            mime_type=content_type,
            metadata=metadata,
            blake3=source.blake3,
            sample=source.sample,
            verified_at=datetime.now(UTC),
        )
        async with self._database.begin() as connection:
            write = refer if here else record
            return await write(connection, self._database, made, str(uuid.uuid4()), saved=source.size), made

    async def _shared(self, storage_key: str) -> ObjectInfo | None:
        """The shared copy, if it is there, and recorded."""
        o = stored_objects.c
        async with self._database.read() as connection:
            etag = (await connection.execute(select(o.etag).where(o.storage_key == storage_key))).scalar()
        info = None if etag is None else await self._objects.head(storage_key)
        return info if info is not None and info.etag == etag else None

    async def _copy(
        self, who: Principal, source: _Source, storage_key: str, options: ObjectOptions, wish: Wish
    ) -> ObjectInfo:
        """Copy, then look whether the source still is what was proven: its owner may have replaced it meanwhile."""
        absent = wish.if_absent and wish.key is not None
        try:
            made = await self._objects.copy(source.storage_key, storage_key, options, source.size, if_absent=absent)
        except ApiError as error:
            if isinstance(error.__cause__, StoreError) and not await self._still(source):
                raise self._refused(who, "no object any more") from error
            raise
        if not await self._still(source):
            await self._undo(storage_key)
            raise self._refused(who, "replaced while it was copied")
        return made

    async def _still(self, source: _Source) -> bool:
        info = await self._objects.head(source.storage_key)
        if info is None or (info.etag, info.size) != (source.etag, source.size):
            return False
        return info.metadata.get(SESSION_METADATA, source.session_id) == source.session_id

    async def _undo(self, storage_key: str) -> None:
        """Nobody may keep a copy of what was not proven, nor a record of what it replaced."""
        async with self._database.begin() as connection:
            await forget_references(connection, storage_key)
            await connection.execute(delete(stored_objects).where(stored_objects.c.storage_key == storage_key))
        await self._objects.delete(storage_key)

    def _taking(self, who: Principal, size: int, blake3: str) -> Any:  # noqa: ANN401 - a statement
        """Take a seed of the content out, if the content is in scope."""
        p, o = possession_seeds.c, stored_objects.c
        known = exists(select(1).where(o.blake3 == blake3, o.size == size, self._in_scope(who, size)))
        one = select(p.seed).where(p.blake3 == blake3, p.size == size, known).limit(1).with_for_update(skip_locked=True)
        return delete(possession_seeds).where(p.seed == one.scalar_subquery()).returning(p.seed, p.answer)

    async def _refill(self, who: Principal, size: int, blake3: str) -> None:
        """Have the content read again when few seeds are left. Asks for the object first: a foreign one costs what none does."""
        o = stored_objects.c
        query = select(o.storage_key, o.verified_at).where(o.blake3 == blake3, o.size == size, self._in_scope(who, size))
        async with self._database.begin() as connection:
            row = (await connection.execute(query.limit(1))).first()
            if row is not None and await count_seeds(connection, blake3, size) < FEWEST_SEEDS:
                age = (datetime.now(UTC) - row.verified_at).total_seconds()
                later = max(0.0, REFILL_SECONDS - age)
                await enqueue(connection, self._database, VERIFY, row.storage_key, later=later, again=False)

    def _in_scope(self, who: Principal, size: int) -> ColumnElement[bool]:
        """Verified objects that this user may clone."""
        o = stored_objects.c
        own = and_(o.tenant_id == who.tenant_id, o.user_id == who.user_id)
        if size < SMALLEST or self._scope == "user":
            among = own
        else:
            among = o.tenant_id == who.tenant_id if self._scope == "tenant" else true()
        return and_(o.verified_at.is_not(None), among)


async def _find_source(
    connection: AsyncConnection, in_scope: ColumnElement[bool], who: Principal, blake3: str, size: int
) -> _Source | None:
    o = stored_objects.c
    columns = (o.storage_key, o.session_id, o.file_hash, o.size, o.etag, o.crc64, o.blake3, o.sample)
    query = select(*columns).where(o.blake3 == blake3, o.size == size, in_scope)
    order = or_(o.user_id != who.user_id, o.tenant_id != who.tenant_id)
    row = (await connection.execute(query.order_by(order, o.storage_key).limit(1))).first()
    return None if row is None else _Source(*row)


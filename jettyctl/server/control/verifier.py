"""What stored objects really are: each is read once, and its claimed hash replaced by the computed one.

Only what was verified here can be cloned. A hash that was a lie costs its content's row what the lie gave it, and the
liar's reference names what they really stored. While an object is read, the answers to challenges are computed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.core.model import MIB, SESSION_METADATA, ObjectInfo
from jettyctl.errors import IntegrityError, Interrupted, JettyError
from jettyctl.files.object_digest import Content, ObjectDigest
from jettyctl.server.control import log
from jettyctl.server.control.database import Database
from jettyctl.server.control.jobqueue import Later
from jettyctl.server.control.objects import Objects
from jettyctl.server.control.recording import Made, correct
from jettyctl.server.control.tables import possession_seeds, stored_objects, upload_sessions
from jettyctl.storage.base import Store

SEEDS = 32  # challenges that are computed for a content
FEWEST_SEEDS = 8  # then it is read again
SEED_BYTES = 32
_PIECE = MIB  # bytes; hashing less at a time costs more
_NICE = 10  # hashing leaves the processor to requests


@dataclass(frozen=True, slots=True)
class Stored:
    """An object, as the database has it."""

    storage_key: str
    tenant_id: str
    user_id: str
    object_key: str
    session_id: str
    file_hash: str
    size: int
    etag: str
    crc64: str
    blake3: str
    mime_type: str
    verified_at: datetime | None


class Verifier:
    """Reads objects."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database = database
        self._objects = objects
        self._thread = ThreadPoolExecutor(1, "verifier", initializer=_step_back)
        self._stopping = threading.Event()

    async def verify(self, storage_key: str) -> None:
        """Make the object's row true, and its seeds enough. Idempotent. Raises Later if the object did not hold still."""
        async with self._database.read() as connection:
            row = await _find(connection, storage_key)
            left = 0 if row is None or row.verified_at is None else await count_seeds(connection, row.blake3, row.size)
        if row is None or (row.verified_at is not None and left >= FEWEST_SEEDS):
            return
        before = await self._objects.head(storage_key)
        if before is None:
            raise Later("there is no such object")
        if not _is(before, row):
            raise Later("the object is another than the one that was recorded")
        content = await self._read(row, [secrets.token_bytes(SEED_BYTES) for _ in range(SEEDS - left)])
        after = await self._objects.head(storage_key)
        if after is None or (after.etag, after.size) != (before.etag, before.size) or not _is(after, row):
            raise Later("the object was replaced while it was read")
        await self._record(row, content)

    def stop(self) -> None:
        """Give up what is being read: it is read again by whoever finds the job."""
        self._stopping.set()

    async def close(self) -> None:
        self.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    async def _read(self, row: Stored, seeds: list[bytes]) -> Content:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, digest, self._objects.store, row.storage_key, row.size, seeds, self._stopping
            )
        except IntegrityError as error:
            raise Later("the object was replaced while it was read") from error
        except JettyError as error:
            raise Later(error.message) from error

    async def _record(self, row: Stored, content: Content) -> None:
        true_hash, o = f"sha256:{content.digests.sha256}", stored_objects.c
        unchanged = (o.storage_key == row.storage_key) & (o.session_id == row.session_id) & (o.etag == row.etag)
        found = {
            "file_hash": true_hash,
            "crc64": f"{content.digests.crc64:016x}",
            "blake3": content.digests.blake3,
            "sample": content.sample,
            "verified_at": datetime.now(UTC),
        }
        async with self._database.begin() as connection:
            if (await connection.execute(update(stored_objects).where(unchanged).values(**found))).rowcount != 1:
                raise Later("the object was replaced while it was read")
            if true_hash != row.file_hash:
                await self._correct(connection, row, true_hash)
            seeds = [
                {"seed": seed.hex(), "blake3": content.digests.blake3, "size": row.size, "answer": answer}
                for seed, answer in content.answers.items()
            ]
            await connection.execute(self._database.insert(possession_seeds).on_conflict_do_nothing(), seeds)

    async def _correct(self, connection: AsyncConnection, row: Stored, true_hash: str) -> None:
        log.write(
            "warning", event="poisoned", tenantId=row.tenant_id, userId=row.user_id, sessionId=row.session_id,
            claimed=row.file_hash, computed=true_hash,
        )  # fmt: skip
        claimed = Made(
            storage_key=row.storage_key,
            tenant_id=row.tenant_id,
            user_id=row.user_id,
            object_key=row.object_key,
            session_id=row.session_id,
            file_name="",
            file_hash=row.file_hash,
            size=row.size,
            etag=row.etag,
            crc64=row.crc64,
            mime_type=row.mime_type,
        )
        await correct(connection, self._database, claimed, true_hash)
        u = upload_sessions.c
        told = update(upload_sessions).where(u.id == row.session_id, u.file_hash == row.file_hash)
        await connection.execute(told.values(file_hash=true_hash))


def digest(store: Store, key: str, size: int, seeds: list[bytes], stopping: threading.Event) -> Content:
    """Read an object in this thread. Raises JettyError; IntegrityError if it has another size."""
    with ObjectDigest(size, seeds) as whole:
        for piece in _gathered(store.read(key)):
            if stopping.is_set():
                raise Interrupted("stopped on request")
            whole.update(piece)
        return whole.content()


async def count_seeds(connection: AsyncConnection, blake3: str, size: int) -> int:
    """Challenges that are left for a content."""
    p = possession_seeds.c
    counting = select(func.count()).select_from(possession_seeds).where(p.blake3 == blake3, p.size == size)
    return int((await connection.execute(counting)).scalar_one())


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are worth hashing."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield waiting[0] if len(waiting) == 1 else b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


async def _find(connection: AsyncConnection, storage_key: str) -> Stored | None:
    o = stored_objects.c
    columns = (
        o.storage_key, o.tenant_id, o.user_id, o.object_key, o.session_id, o.file_hash, o.size, o.etag, o.crc64, o.blake3,
        o.mime_type, o.verified_at,
    )  # fmt: skip
    row = (await connection.execute(select(*columns).where(o.storage_key == storage_key))).mappings().first()
    return None if row is None else Stored(**row)


def _is(info: ObjectInfo, row: Stored) -> bool:
    """Whether the store's object is the recorded one. A store that keeps no metadata has only the ETag to say so."""
    made_by = info.metadata.get(SESSION_METADATA, row.session_id)
    return (info.size, info.etag, made_by) == (row.size, row.etag, row.session_id)


def _step_back() -> None:
    with contextlib.suppress(OSError, AttributeError):  # on Linux a thread's own; elsewhere not at all
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)

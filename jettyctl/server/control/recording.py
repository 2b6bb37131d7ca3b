"""What the database says of an object once it is in the store: the object, its content, whose it is.

All of it is written in the transaction of the caller, who holds the key's lock: the rows never tell of an object that is
not there, and an object that replaced another takes its place in every row.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.core.model import GIB
from jettyctl.core.scoring import COST_PER_GIB
from jettyctl.server.control.database import Database
from jettyctl.server.control.duty import server_time
from jettyctl.server.control.tables import file_hashes, jobs, stored_objects, user_file_references

VERIFY, REMOVE = "verify", "remove"


@dataclass(frozen=True, slots=True)
class Made:
    """An object that is in the store now. `file_hash` is a claim unless `verified_at` says when it was computed."""

    storage_key: str
    tenant_id: str
    user_id: str
    object_key: str
    session_id: str
    file_name: str
    file_hash: str
    size: int
    etag: str
    crc64: str
    mime_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    blake3: str = ""
    sample: str = ""
    verified_at: datetime | None = None


def cost_of(size: int) -> float:
    """USD."""
    return round(size / GIB * COST_PER_GIB, 6)


async def record(connection: AsyncConnection, database: Database, made: Made, file_id: str, *, saved: int = 0) -> str:
    """The object, its content's row, and the user's reference, whose id is returned: `file_id`, or that of an older one."""
    await forget_references(connection, made.storage_key, keep=made.file_hash)
    await _store(connection, database, made)
    return await refer(connection, database, made, file_id, saved=saved)


async def refer(connection: AsyncConnection, database: Database, made: Made, file_id: str, *, saved: int = 0) -> str:
    """One more upload of a content, and the user's reference to the object that has it already. As `record`."""
    await _count(connection, database, made, file_id, saved)
    return await _refer(connection, database, made, file_id)


async def forget_references(connection: AsyncConnection, storage_key: str, *, keep: str = "") -> None:
    """An object is replaced or removed: what referred to its content, except to the content `keep`, refers to nothing."""
    r = user_file_references.c
    lost = (r.storage_key == storage_key) & (r.file_hash != keep)
    counted = select(r.tenant_id, r.file_hash, func.count().label("count")).where(lost).group_by(r.tenant_id, r.file_hash)
    for row in (await connection.execute(counted.order_by(r.tenant_id, r.file_hash))).all():
        await uncount(connection, row.tenant_id, row.file_hash, row[2])
    await connection.execute(delete(user_file_references).where(lost))
    await leave_hashes(connection, storage_key, keep=keep)


async def correct(connection: AsyncConnection, database: Database, claimed: Made, true_hash: str) -> None:
    """The object is not what its uploader said: its references, and its count, go over to the content that it is."""
    r, f = user_file_references.c, file_hashes.c
    referred = (r.storage_key == claimed.storage_key) & (r.file_hash == claimed.file_hash)
    rows = (await connection.execute(select(r.id, r.user_id, r.file_name).where(referred))).all()
    await forget_references(connection, claimed.storage_key)
    lied = (f.tenant_id == claimed.tenant_id) & (f.file_hash == claimed.file_hash)
    await connection.execute(update(file_hashes).where(lied).values(upload_count=f.upload_count - 1))
    await connection.execute(delete(file_hashes).where(lied, f.upload_count <= 0))
    for row in rows:
        made = replace(claimed, file_hash=true_hash, user_id=row.user_id, file_name=row.file_name)
        await refer(connection, database, made, row.id)


async def uncount(connection: AsyncConnection, tenant_id: str, file_hash: str, references: int) -> None:
    """So many references to a content are gone."""
    f = file_hashes.c
    left = f.reference_count - references
    await connection.execute(
        update(file_hashes)
        .where(f.tenant_id == tenant_id, f.file_hash == file_hash)
        .values(reference_count=case((left > 0, left), else_=0))
    )


async def leave_hashes(connection: AsyncConnection, storage_key: str, *, keep: str = "") -> None:
    """Contents whose row names this object name another object with the same content, or none."""
    f, o = file_hashes.c, stored_objects.c
    another = (
        select(o.storage_key)
        .where(o.tenant_id == f.tenant_id, o.file_hash == f.file_hash, o.storage_key != storage_key)
        .limit(1)
        .scalar_subquery()
    )
    await connection.execute(
        update(file_hashes)
        .where(f.storage_key == storage_key, f.file_hash != keep)
        .values(storage_key=func.coalesce(another, ""))
    )


async def enqueue(
    connection: AsyncConnection, database: Database, kind: str, subject: str, *, later: float = 0.0, again: bool = True
) -> None:
    """A job, `later` seconds from now. `again`: one that is there already is due anew, also if somebody is at it."""
    due = server_time(database, later)
    job = database.insert(jobs).values(
        id=uuid.uuid4().hex, kind=kind, subject=subject, attempts=0, due_at=due, created_at=server_time(database)
    )
    anew = {"due_at": job.excluded.due_at, "attempts": 0}
    index = ["kind", "subject"]
    await connection.execute(
        job.on_conflict_do_update(index_elements=index, set_=anew) if again else job.on_conflict_do_nothing(index_elements=index)
    )


async def _store(connection: AsyncConnection, database: Database, made: Made) -> None:
    values = {
        "tenant_id": made.tenant_id,
        "user_id": made.user_id,
        "object_key": made.object_key,
        "session_id": made.session_id,
        "file_hash": made.file_hash,
        "size": made.size,
        "etag": made.etag,
        "crc64": made.crc64,
        "blake3": made.blake3,
        "sample": made.sample,
        "mime_type": made.mime_type,
        "metadata": dict(made.metadata),
        "created_at": datetime.now(UTC),
        "verified_at": made.verified_at,
    }
    write = database.insert(stored_objects).values(storage_key=made.storage_key, **values)
    await connection.execute(write.on_conflict_do_update(index_elements=["storage_key"], set_=values))


async def _count(connection: AsyncConnection, database: Database, made: Made, file_id: str, saved: int) -> None:
    now, f = datetime.now(UTC), file_hashes.c
    write = database.insert(file_hashes).values(
        tenant_id=made.tenant_id,
        file_hash=made.file_hash,
        file_id=file_id,
        user_id=made.user_id,
        file_name=made.file_name,
        file_size=made.size,
        storage_key=made.storage_key,
        mime_type=made.mime_type,
        upload_count=1,
        reference_count=0,
        first_uploaded_at=now,
        last_accessed_at=now,
        total_bytes_saved=saved,
        total_cost_saved=cost_of(saved),
    )
    more = {
        "upload_count": f.upload_count + 1,
        "last_accessed_at": now,
        "storage_key": case((f.storage_key == "", made.storage_key), else_=f.storage_key),
        "file_size": made.size,  # of a tracked claim: now it is known
        "total_bytes_saved": f.total_bytes_saved + saved,
        "total_cost_saved": f.total_cost_saved + cost_of(saved),
    }
    await connection.execute(write.on_conflict_do_update(index_elements=["tenant_id", "file_hash"], set_=more))


async def _refer(connection: AsyncConnection, database: Database, made: Made, file_id: str) -> str:
    """The user's reference to this object. A name that already stands for another of their objects stays that one's."""
    r = user_file_references.c
    for wanted, name in _names(made, file_id):
        row = {
            "user_id": made.user_id,
            "tenant_id": made.tenant_id,
            "file_hash": made.file_hash,
            "file_name": name,
            "storage_key": made.storage_key,
            "file_size": made.size,
            "mime_type": made.mime_type,
        }
        write = database.insert(user_file_references).values(id=wanted, created_at=datetime.now(UTC), **row)
        inserted = await connection.execute(write.on_conflict_do_nothing().returning(r.id))
        if inserted.first() is not None:
            await uncount(connection, made.tenant_id, made.file_hash, -1)
            return wanted
        mine = (r.user_id == made.user_id) & (r.tenant_id == made.tenant_id) & (r.file_hash == made.file_hash)
        same = mine & (r.file_name == name) & r.storage_key.in_(("", made.storage_key))
        found = await connection.execute(
            update(user_file_references)
            .where(same)
            .values(
                storage_key=made.storage_key, file_size=made.size, mime_type=made.mime_type, upload_count=r.upload_count + 1
            )
            .returning(r.id)
        )
        if (known := found.scalar()) is not None:
            return str(known)
    raise AssertionError("a random name is always free")


def _names(made: Made, file_id: str) -> Iterator[tuple[str, str]]:
    """Ids and names to try: clients of the contract choose both, and may have taken them."""
    other = str(uuid.uuid4())
    yield file_id, made.file_name
    yield other, made.file_name
    if made.object_key:
        yield other, made.object_key
    yield other, f"{made.file_name} ({other})"

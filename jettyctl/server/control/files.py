"""The index of what users have: their references to contents.

A reference is one user's word that a file is content of a hash, with the name, size and type that this user gave it.
Answers describe the user's own references: who else has the content, under which name and since when, nobody learns.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import RowMapping, Select, and_, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.files.content_type import guess_content_type
from jettyctl.server.control import failures
from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.recording import uncount
from jettyctl.server.control.tables import file_hashes, stored_objects, user_file_references


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that a user has. `object_key` names the object that it stands for ("": one that has no name of its own);
    None: the service does not hold the bytes.
    """

    file_id: str
    file_name: str
    file_hash: str
    size: int
    mime_type: str
    upload_count: int  # how often this user has sent, or cloned, the content
    first_uploaded_at: datetime
    object_key: str | None
    storage_key: str  # "": only a claim


async def find_own(database: Database, tenant_id: str, user_id: str, file_hash: str) -> KnownFile | None:
    """The user's first reference to a content, in one query; None if the user has none."""
    values = {"tenant": tenant_id, "user": user_id, "hash": file_hash}
    async with database.read() as connection:
        row = (await connection.execute(_own(), values)).mappings().first()
    return _file(row) if row else None


async def list_own(database: Database, who: Principal, limit: int) -> list[KnownFile]:
    """The user's references, the newest first, each with its own count."""
    r = user_file_references.c
    query = _known(r.upload_count).where(r.tenant_id == who.tenant_id, r.user_id == who.user_id)
    async with database.read() as connection:
        rows = (await connection.execute(query.order_by(r.created_at.desc(), r.id).limit(limit))).mappings().all()
    return [_file(row) for row in rows]


async def claim(
    connection: AsyncConnection,
    database: Database,
    *,
    tenant_id: str,
    user_id: str,
    file_id: str,
    file_hash: str,
    file_name: str,
    size: int,
    now: datetime,
) -> str:
    """Record that a user has sent a content to where the service does not see it: the id of the reference.

    It is `file_id` if the reference is new and the id is free. Counts the upload; makes nothing clonable.
    """
    f = file_hashes.c
    about = {
        "tenant_id": tenant_id,
        "user_id": user_id,
        "file_hash": file_hash,
        "file_size": size,
        "mime_type": guess_content_type(file_name),
    }
    seen = {"first_uploaded_at": now, "last_accessed_at": now}
    write = database.insert(file_hashes).values(file_id=file_id, file_name=file_name, **about, **seen)
    again = {"upload_count": f.upload_count + 1, "last_accessed_at": now}
    await connection.execute(write.on_conflict_do_update(index_elements=["tenant_id", "file_hash"], set_=again))
    return await _refer(connection, database, about, file_id, file_name, now)


async def remove(connection: AsyncConnection, who: Principal, file_id: str) -> list[str]:
    """Remove a user's reference: the storage keys that may have no reference now. Raises ApiError 404.

    Whoever deletes the object looks once more: two references may be removed at the same time.
    """
    r = user_file_references.c
    own = and_(r.id == file_id, r.user_id == who.user_id, r.tenant_id == who.tenant_id)
    row = (await connection.execute(delete(user_file_references).where(own).returning(r.file_hash, r.storage_key))).first()
    if row is None:
        raise failures.not_found("file")
    await uncount(connection, who.tenant_id, row.file_hash, 1)
    return [row.storage_key] if row.storage_key else []


async def _refer(
    connection: AsyncConnection, database: Database, about: dict[str, Any], file_id: str, file_name: str, now: datetime
) -> str:
    """The reference of this name, made or counted. An id or a name may be taken: clients choose both."""
    r = user_file_references.c
    other = str(uuid.uuid4())
    for wanted, name in ((file_id, file_name), (other, file_name), (other, f"{file_name} ({other})")):
        write = database.insert(user_file_references).values(id=wanted, file_name=name, created_at=now, **about)
        if (await connection.execute(write.on_conflict_do_nothing().returning(r.id))).first() is not None:
            await uncount(connection, about["tenant_id"], about["file_hash"], -1)
            return wanted
        same = and_(
            r.tenant_id == about["tenant_id"],
            r.user_id == about["user_id"],
            r.file_hash == about["file_hash"],
            r.file_name == name,
        )
        count = update(user_file_references).where(same).values(upload_count=r.upload_count + 1)
        if (known := (await connection.execute(count.returning(r.id))).scalar()) is not None:
            return str(known)
    raise AssertionError("a random id and name are always free")


@cache
def _own() -> Select[Any]:
    """Made once: every check for a duplicate asks it, and making it takes longer than asking."""
    r = user_file_references.c
    owned = (r.tenant_id == bindparam("tenant"), r.user_id == bindparam("user"), r.file_hash == bindparam("hash"))
    return _known(func.sum(r.upload_count).over()).where(*owned).order_by(r.created_at, r.id).limit(1)


def _known(uploads: Any) -> Select[Any]:  # noqa: ANN401 - an expression
    r, o = user_file_references, stored_objects
    own = [r.c.id, r.c.file_name, r.c.file_hash, r.c.file_size, r.c.mime_type, r.c.created_at, r.c.storage_key]
    held = r.outerjoin(o, and_(o.c.storage_key == r.c.storage_key, r.c.storage_key != ""))
    return select(*own, o.c.object_key, uploads.label("uploads")).select_from(held)


def _file(row: RowMapping) -> KnownFile:
    return KnownFile(
        file_id=row["id"],
        file_name=row["file_name"],
        file_hash=row["file_hash"],
        size=row["file_size"],
        mime_type=row["mime_type"],
        upload_count=int(row["uploads"]),
        first_uploaded_at=row["created_at"],
        object_key=row["object_key"],
        storage_key=row["storage_key"],
    )

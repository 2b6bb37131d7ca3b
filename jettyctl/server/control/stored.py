"""Objects of users, as the database has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, select

from jettyctl.server.control import failures
from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.tables import stored_objects, user_file_references


@dataclass(frozen=True, slots=True)
class StoredObject:
    """`file_hash` is a claim unless `verified`. `file_id` is that of a reference of the user."""

    storage_key: str
    object_key: str
    size: int
    etag: str
    crc64: str
    file_hash: str
    metadata: Mapping[str, str]
    verified: bool
    file_id: str


async def find(database: Database, who: Principal, *, key: str | None, file_id: str | None) -> StoredObject:
    """A user's own object by one of the two, or one that a file of theirs stands for. Raises ApiError 400 and 404."""
    if (key is None) == (file_id is None):
        raise failures.bad_request("Give key or fileId.")
    o, r = stored_objects.c, user_file_references.c
    mine = and_(r.storage_key == o.storage_key, r.user_id == who.user_id, r.tenant_id == who.tenant_id)
    asked: ColumnElement[bool] = r.id == file_id
    if key is not None:
        asked = and_(o.tenant_id == who.tenant_id, o.user_id == who.user_id, o.object_key == key, o.object_key != "")
    query = (
        select(
            o.storage_key, o.object_key, o.size, o.etag, o.crc64, o.file_hash, o.metadata, o.verified_at, r.id.label("file_id")
        )
        .join_from(stored_objects, user_file_references, mine)  # without a reference it is about to be removed
        .where(asked)
        .limit(1)
    )
    async with database.read() as connection:
        row = (await connection.execute(query)).first()
    if row is None:
        raise failures.not_found("object")
    return StoredObject(
        row.storage_key, row.object_key, row.size, row.etag, row.crc64, row.file_hash, row.metadata,
        row.verified_at is not None, row.file_id,
    )  # fmt: skip

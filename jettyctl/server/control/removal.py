"""Removing files: a reference goes at once, an object when nobody refers to it any more.

1. the reference is deleted and a job left, in one transaction, 2. the object is deleted, 3. its row. *Killed before 3:
the job does it again.* An object that is newer than the row, made by an upload that was killed before its record, stays:
that upload can still be finalized.
"""

from __future__ import annotations

from sqlalchemy import Exists, delete, exists, select

from jettyctl.core.model import SESSION_METADATA
from jettyctl.server.control import files
from jettyctl.server.control.database import Database
from jettyctl.server.control.keylocks import writing
from jettyctl.server.control.objects import Objects
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.recording import REMOVE, enqueue, leave_hashes
from jettyctl.server.control.tables import stored_objects, user_file_references


class Removal:
    """Removes files of users."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database = database
        self._objects = objects

    async def delete_file(self, who: Principal, file_id: str) -> None:
        """Delete a user's reference. Raises ApiError 404."""
        async with self._database.begin() as connection:
            for storage_key in await files.remove(connection, who, file_id):
                await enqueue(connection, self._database, REMOVE, storage_key)

    async def remove(self, storage_key: str) -> None:
        """Delete an object that nobody refers to. Idempotent. Raises ApiError when it cannot be done now."""
        o = stored_objects.c
        async with writing(self._database, storage_key) as held:
            async with self._database.read() as connection:
                row = (await connection.execute(select(o.session_id).where(o.storage_key == storage_key))).first()
                kept = (await connection.execute(select(_referred(storage_key)))).scalar()
            if row is None or kept:
                return
            info = await self._objects.head(storage_key)
            if info is not None and info.metadata.get(SESSION_METADATA, row.session_id) == row.session_id:
                await held.confirm()
                await self._objects.delete(storage_key)
            async with self._database.begin() as connection:
                await leave_hashes(connection, storage_key)
                await connection.execute(delete(stored_objects).where(o.storage_key == storage_key))


def _referred(storage_key: str) -> Exists:
    return exists(select(1).where(user_file_references.c.storage_key == storage_key))

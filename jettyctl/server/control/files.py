"""The index of what users have: their references to contents, and what not sending a content again has saved.

A reference is one user's word that a file is content of a hash. Answers describe the user's own reference and show
nothing of other users: who else has the content, under which name and since when stays theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import Principal


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that a user has. `object_key` is the name of the object that it stands for; None: the service has no bytes."""

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
    raise NotImplementedError


async def list_own(database: Database, who: Principal, limit: int) -> list[KnownFile]:
    """The user's references, the newest first."""
    raise NotImplementedError


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
    """Record that a user sent a content somewhere that the service does not see: the id of the reference, `file_id` if new.

    Counts the upload. It makes nothing clonable.
    """
    raise NotImplementedError


async def saved(connection: AsyncConnection, tenant_id: str, file_hash: str, size: int) -> None:
    """Count what not sending a content again saved: bytes, and USD."""
    raise NotImplementedError


async def remove(connection: AsyncConnection, who: Principal, file_id: str) -> list[str]:
    """Remove a user's reference: the storage keys that nobody refers to any more. Raises ApiError 404."""
    raise NotImplementedError

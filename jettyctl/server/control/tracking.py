"""Uploads as clients tell of them: they begin, go on, and end; and when a user usually sends what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import Principal

SessionJson = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload that begins. `user_id` is whose it is: the key's user, or one that its admin acts for."""

    user_id: str
    file_name: str
    file_hash: str
    file_size: int
    file_id: str  # made by the caller where the client names none
    chunk_size: int
    threads: int
    chunks_total: int
    edges_used: Sequence[str] = ()
    estimated_cost: float | None = None
    upload_via: str = "api"
    jetty_speed_enabled: bool = True


# Each call returns the session as `SessionStore.save` keeps it: the fields of `jetty:session:{id}` (camelCase, times in
# seconds since the epoch). A key acts for sessions of its own user; an admin's for all of its tenant.


async def start(database: Database, who: Principal, upload: NewUpload) -> SessionJson:
    """A new session, of `upload.user_id`, whose id is a random UUID."""
    raise NotImplementedError


async def progress(
    database: Database, who: Principal, session_id: str, *, chunks_completed: int, bytes_uploaded: int
) -> SessionJson:
    """Keep what is done; a session that has ended stays as it is. Raises ApiError 404."""
    raise NotImplementedError


async def complete(database: Database, who: Principal, session_id: str, *, actual_cost: float | None) -> SessionJson:
    """The upload is done: duration, speed, the user's pattern, and the claim that the user has the content.

    Idempotent. Raises ApiError 404, and 409 `not tracked` for an upload through the service, which finalize completes.
    """
    raise NotImplementedError


async def fail(
    database: Database,
    who: Principal,
    session_id: str,
    *,
    chunks_completed: int | None,
    bytes_uploaded: int | None,
    error_message: str,
) -> SessionJson:
    """The upload has failed; a completed one stays completed. Idempotent. Raises ApiError 404."""
    raise NotImplementedError


async def list_sessions(
    database: Database, who: Principal, *, user_id: str, status: str | None, limit: int
) -> list[SessionJson]:
    """A user's sessions, changed last first. With the fields of `show`."""
    raise NotImplementedError


async def show(database: Database, who: Principal, session_id: str) -> SessionJson:
    """A session, with `key`, `tenantId`, `host` and `leaseExpiresIn` (seconds; None without a lease). Raises ApiError 404."""
    raise NotImplementedError


async def add_pattern(
    connection: AsyncConnection, database: Database, user_id: str, *, size: int, edges: Sequence[str], at: datetime
) -> None:
    """Count a completed upload into the user's pattern of that hour and weekday (0: Monday), UTC."""
    raise NotImplementedError

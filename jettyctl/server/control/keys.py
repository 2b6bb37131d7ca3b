"""Keys: `jty_` and 256 random bits. The database has their SHA-256 only, so that who reads it cannot use any."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, select, update

from jettyctl.core.names import printable
from jettyctl.errors import UsageError
from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import SCOPES
from jettyctl.server.control.tables import api_keys

PREFIX = "jty_"
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_USER_LENGTH = 256


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key, which is not the key."""

    id: str
    digest: str
    user_id: str
    tenant_id: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def active(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def digest_of(key: str) -> str:
    """What the database knows a key by: 64 hex digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


async def create(
    database: Database, *, user_id: str, tenant_id: str, scopes: Iterable[str], expires_at: datetime | None
) -> tuple[KeyRecord, str]:
    """Make a key: its record and the key, which nothing can show again. Raises UsageError for names that cannot be."""
    key = PREFIX + secrets.token_urlsafe(32)
    record = KeyRecord(
        id=secrets.token_hex(8),
        digest=digest_of(key),
        user_id=_user(user_id),
        tenant_id=_tenant(tenant_id),
        scopes=_scopes(scopes),
        created_at=datetime.now(UTC),
        expires_at=expires_at,
        revoked_at=None,
    )
    async with database.begin() as connection:
        await connection.execute(
            api_keys.insert().values(
                id=record.id,
                digest=record.digest,
                user_id=record.user_id,
                tenant_id=record.tenant_id,
                scopes=sorted(record.scopes),
                created_at=record.created_at,
                expires_at=expires_at,
            )
        )
    return record, key


_REVOKED = select(api_keys.c.digest).where(api_keys.c.revoked_at > bindparam("since"))
_BY_DIGEST = select(api_keys).where(api_keys.c.digest == bindparam("digest"))  # asked all the time: put together once


async def lookup(database: Database, digest: str) -> KeyRecord | None:
    """The record of a digest, also of a key that is revoked or expired."""
    async with database.read() as connection:
        row = (await connection.execute(_BY_DIGEST, {"digest": digest})).first()
    return _record(row) if row else None


async def list_keys(database: Database) -> list[KeyRecord]:
    """All keys, the oldest first."""
    async with database.read() as connection:
        rows = (await connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))).all()
    return [_record(row) for row in rows]


async def revoke(database: Database, key_id: str) -> bool:
    """End a key. False if there is none of this id. Idempotent."""
    async with database.begin() as connection:
        found = await connection.execute(select(api_keys.c.id).where(api_keys.c.id == key_id))
        if found.first() is None:
            return False
        fresh = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
        await connection.execute(update(api_keys).where(fresh).values(revoked_at=datetime.now(UTC)))
    return True


async def lately_revoked(database: Database) -> frozenset[str]:
    """The digests of keys that were revoked within a day: longer than anybody keeps a record that says otherwise."""
    async with database.read() as connection:
        rows = await connection.execute(_REVOKED, {"since": datetime.now(UTC) - timedelta(days=1)})
        return frozenset(row.digest for row in rows)


async def tenants_of(database: Database, user_id: str) -> frozenset[str]:
    """The tenants that a user has or had keys of."""
    async with database.read() as connection:
        rows = (await connection.execute(select(api_keys.c.tenant_id).where(api_keys.c.user_id == user_id).distinct())).all()
    return frozenset(row.tenant_id for row in rows)


def _record(row: Any) -> KeyRecord:  # noqa: ANN401 - a row, whose columns are known at run time only
    return KeyRecord(
        row.id,
        row.digest,
        row.user_id,
        row.tenant_id,
        frozenset(row.scopes),
        row.created_at,
        row.expires_at,
        row.revoked_at,
    )


def _user(user_id: str) -> str:
    if user_id and len(user_id) <= _USER_LENGTH and user_id == printable(user_id):
        return user_id
    raise UsageError(
        f"{printable(user_id)[:60]!r} cannot be a user", hint=f"Use 1 to {_USER_LENGTH} printable characters, like usr_abc."
    )


def _tenant(tenant_id: str) -> str:
    if _TENANT.fullmatch(tenant_id):
        return tenant_id
    raise UsageError(
        f"{printable(tenant_id)[:60]!r} cannot be a tenant",
        hint="Use lower-case letters, digits, - and _, at most 64, like acme.",
    )


def _scopes(scopes: Iterable[str]) -> frozenset[str]:
    wanted = frozenset(scopes)
    if wanted and wanted <= set(SCOPES):
        return wanted
    raise UsageError(f"scopes are {', '.join(SCOPES)}", hint="Write --scopes read,write.")

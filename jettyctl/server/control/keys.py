"""Keys of clients: 256 random bits, of which only a digest is kept. Each belongs to a user and a tenant."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import RowMapping, select, update

from jettyctl.core.names import printable
from jettyctl.errors import UsageError
from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import SCOPES
from jettyctl.server.control.tables import api_keys

PREFIX = "jty_"
_BYTES = 32
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LONGEST_USER = 256


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is kept of a key. Times are UTC."""

    id: str
    digest: str
    user_id: str
    tenant_id: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def active(self, now: datetime) -> bool:
        """Whether the key opens anything at that time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def digest_of(key: str) -> str:
    """The SHA-256 of a key as it was sent, in hex: the name by which its record is found."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


async def create(
    database: Database, *, user_id: str, tenant_id: str, scopes: Iterable[str], expires_at: datetime | None
) -> tuple[KeyRecord, str]:
    """Make a key: its record, and the key, which nobody can show again. Raises UsageError for what cannot be."""
    wanted = _checked(user_id, tenant_id, scopes)
    key = PREFIX + secrets.token_urlsafe(_BYTES)
    record = KeyRecord(secrets.token_hex(8), digest_of(key), user_id, tenant_id, wanted, datetime.now(UTC), expires_at)
    async with database.begin() as connection:
        await connection.execute(
            api_keys.insert().values(
                id=record.id,
                digest=record.digest,
                user_id=user_id,
                tenant_id=tenant_id,
                scopes=list(wanted),
                created_at=record.created_at,
                expires_at=expires_at,
            )
        )
    return record, key


async def lookup(database: Database, digest: str) -> KeyRecord | None:
    """The record of a key, active or not. The caller compares the digests once more, in constant time."""
    async with database.read() as connection:
        row = (await connection.execute(select(api_keys).where(api_keys.c.digest == digest))).mappings().first()
    return _record(row) if row else None


async def list_keys(database: Database) -> list[KeyRecord]:
    """All keys, the oldest first."""
    async with database.read() as connection:
        rows = (await connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))).mappings().all()
    return [_record(row) for row in rows]


async def revoke(database: Database, key_id: str) -> bool:
    """Revoke a key for good; False if there is none of that id. The first revocation's time stays."""
    k = api_keys.c
    async with database.begin() as connection:
        known = (await connection.execute(select(k.id).where(k.id == key_id))).first()
        await connection.execute(
            update(api_keys).where(k.id == key_id, k.revoked_at.is_(None)).values(revoked_at=datetime.now(UTC))
        )
    return known is not None


async def tenants_of(database: Database, user_id: str) -> frozenset[str]:
    """The tenants in which a user has, or had, a key."""
    k = api_keys.c
    async with database.read() as connection:
        return frozenset((await connection.execute(select(k.tenant_id).where(k.user_id == user_id))).scalars())


def _record(row: RowMapping) -> KeyRecord:
    return KeyRecord(**{**row, "scopes": tuple(row["scopes"])})


def _checked(user_id: str, tenant_id: str, scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes in their own order, each once."""
    if not _TENANT.fullmatch(tenant_id):
        raise UsageError(
            f"{printable(tenant_id)} cannot be a tenant's id",
            hint="Use up to 64 small letters, digits, '-' and '_', a letter or digit first.",
        )
    if not user_id.isprintable() or not 1 <= len(user_id) <= _LONGEST_USER:
        raise UsageError(
            f"{printable(user_id[:60])!r} cannot be a user's id", hint=f"Use 1 to {_LONGEST_USER} printable characters."
        )
    wanted = set(scopes)
    if not wanted or wanted - {*SCOPES}:
        raise UsageError("a key needs scopes, of those that there are", hint=f"Give one or more of: {', '.join(SCOPES)}.")
    return tuple(scope for scope in SCOPES if scope in wanted)

"""Keys, as the database keeps them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from jettyctl.errors import UsageError
from jettyctl.server.control import keys
from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import api_keys
from tests.server.playing import play
from tests.support.databases import Backend

WHO = {"user_id": "usr_1", "tenant_id": "acme"}


def test_a_key(backend: Backend) -> None:
    """A key has 256 random bits and is found by its digest; the key itself is nowhere in the database."""

    async def story(database: Database) -> None:
        record, key = await keys.create(database, **WHO, scopes=["write", "read"], expires_at=None)
        assert re.fullmatch(r"jty_[A-Za-z0-9_-]{43}", key)
        assert record.digest == keys.digest_of(key)
        assert await keys.lookup(database, keys.digest_of(key)) == record
        assert await keys.lookup(database, keys.digest_of(key + "x")) is None
        assert (record.user_id, record.tenant_id, record.scopes) == ("usr_1", "acme", frozenset({"read", "write"}))
        async with database.read() as connection:
            row = (await connection.execute(select(api_keys))).one()
        assert key not in str(row)
        assert key[4:] not in str(row)

    play(backend, story)


def test_an_end(backend: Backend) -> None:
    """A key is good until it expires or is revoked; revoking twice is no failure, and of an unknown id it says so."""

    async def story(database: Database) -> None:
        now = datetime.now(UTC)
        record, key = await keys.create(database, **WHO, scopes=["read"], expires_at=now + timedelta(hours=1))
        assert record.active(now)
        assert not record.active(now + timedelta(hours=1))
        assert await keys.revoke(database, record.id)
        ended = await keys.lookup(database, keys.digest_of(key))
        assert ended is not None
        assert not ended.active(now)
        assert await keys.revoke(database, record.id)
        assert await keys.lookup(database, keys.digest_of(key)) == ended
        assert not await keys.revoke(database, "nobody's")

    play(backend, story)


def test_a_list(backend: Backend) -> None:
    """All keys are listed, the oldest first; a user's tenants are those of the keys."""

    async def story(database: Database) -> None:
        assert await keys.list_keys(database) == []
        made = [
            (await keys.create(database, user_id=user, tenant_id=tenant, scopes=["admin"], expires_at=None))[0]
            for user, tenant in (("usr_1", "b"), ("usr_1", "a"), ("usr_2", "c"))
        ]
        assert await keys.list_keys(database) == made
        assert await keys.tenants_of(database, "usr_1") == {"a", "b"}
        assert await keys.tenants_of(database, "nobody") == frozenset()

    play(backend, story)


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": ""},
        {"user_id": "x" * 257},
        {"user_id": "a\nb"},
        {"user_id": "a\x1bb"},
        {"tenant_id": ""},
        {"tenant_id": "Acme"},
        {"tenant_id": "-a"},
        {"tenant_id": "a/b"},
        {"tenant_id": "a\n"},
        {"tenant_id": "a" * 65},
        {"scopes": []},
        {"scopes": ["read", "root"]},
    ],
)
def test_what_cannot_be(backend: Backend, change: dict[str, object]) -> None:
    """A user, tenant or scope that cannot be is refused, and no key is made."""

    async def story(database: Database) -> None:
        wanted: dict[str, object] = {**WHO, "scopes": ["read"], "expires_at": None, **change}
        with pytest.raises(UsageError) as caught:
            await keys.create(database, **wanted)  # type: ignore[arg-type]
        assert caught.value.hint
        assert await keys.list_keys(database) == []

    play(backend, story)

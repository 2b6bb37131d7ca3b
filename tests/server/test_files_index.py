"""The index of what users have."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from jettyctl.server.control import files
from jettyctl.server.control.database import Database
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.recording import Made, record
from jettyctl.server.control.tables import file_hashes
from tests.server.playing import play
from tests.support.databases import Backend

HASH = "sha256:" + "ab" * 32
NOW = datetime.now(UTC)
WHO = Principal("usr_1", "acme", "key", frozenset({"write"}))
OTHER = Principal("usr_2", "acme", "key", frozenset({"write"}))


async def claimed(database: Database, **change: Any) -> str:  # noqa: ANN401 - fields of a claim
    """A claim of usr_1; the reference's id."""
    whose = {"tenant_id": "acme", "user_id": "usr_1"}
    what = {**whose, "file_id": "f1", "file_hash": HASH, "file_name": "a.pdf", "size": 5, "now": NOW}
    async with database.begin() as connection:
        return await files.claim(connection, database, **{**what, **change})


async def content(database: Database) -> dict[str, Any]:
    """The row of the only content."""
    async with database.read() as connection:
        return dict((await connection.execute(select(file_hashes))).mappings().one())


def test_a_claim(backend: Backend) -> None:
    """A content that a user has sent is known to this user, as this user has called it."""

    async def story(database: Database) -> None:
        assert await files.find_own(database, "acme", "usr_1", HASH) is None
        assert await claimed(database) == "f1"
        known = await files.find_own(database, "acme", "usr_1", HASH)
        assert known is not None
        assert (known.file_id, known.file_name, known.file_hash, known.size) == ("f1", "a.pdf", HASH, 5)
        assert (known.mime_type, known.upload_count, known.first_uploaded_at) == ("application/pdf", 1, NOW)
        assert (known.object_key, known.storage_key) == (None, "")
        for tenant, user in (("acme", "usr_2"), ("other", "usr_1")):
            assert await files.find_own(database, tenant, user, HASH) is None

    play(backend, story)


def test_claims_are_counted(backend: Backend) -> None:
    """The same name again is the same reference; another name is another one. The count is the user's own."""

    async def story(database: Database) -> None:
        for change in ({}, {"file_id": "f2"}, {"file_id": "f3", "file_name": "b.pdf", "now": NOW + timedelta(hours=1)}):
            await claimed(database, **change)
        await claimed(database, user_id="usr_2", file_id="f4")
        known = await files.find_own(database, "acme", "usr_1", HASH)
        assert known is not None
        assert (known.file_id, known.upload_count) == ("f1", 3)
        assert [(one.file_id, one.upload_count) for one in await files.list_own(database, WHO, 10)] == [("f3", 1), ("f1", 2)]
        assert len(await files.list_own(database, WHO, 1)) == 1
        row = await content(database)
        assert (row["upload_count"], row["reference_count"]) == (4, 3)

    play(backend, story)


def test_a_claim_tells_nothing_of_others(backend: Backend) -> None:
    """Who claims a hash sees the own name, size and time, not those of who has the content."""

    async def story(database: Database) -> None:
        await claimed(database, size=2**40, file_name="secret.pdf", now=NOW - timedelta(days=9))
        await claimed(database, user_id="usr_2", file_id="f2", file_name="guess.txt", size=1)
        known = await files.find_own(database, "acme", "usr_2", HASH)
        assert known is not None
        assert (known.file_name, known.size, known.mime_type, known.upload_count) == ("guess.txt", 1, "text/plain", 1)
        assert known.first_uploaded_at == NOW
        assert (await content(database))["file_size"] == 2**40

    play(backend, story)


def test_ids_and_names_that_are_taken(backend: Backend) -> None:
    """A client that gives every file one id gets others; a name that the user has in another tenant is made unlike."""

    async def story(database: Database) -> None:
        first = await claimed(database, file_id="same")
        second = await claimed(database, file_id="same", file_hash="sha256:other")
        third = await claimed(database, file_id="same", tenant_id="other")
        assert first == "same"
        assert len({first, second, third}) == 3
        known = await files.find_own(database, "other", "usr_1", HASH)
        assert known is not None
        assert known.file_name.startswith("a.pdf (")

    play(backend, story)


def test_many_claim_at_once(backend: Backend) -> None:
    """Claims of one content at the same time are all counted, and make one reference."""

    async def story(database: Database) -> None:
        made = await asyncio.gather(*(claimed(database, file_id=f"f{number}") for number in range(20)))
        assert len(set(made)) == 1
        row = await content(database)
        assert (row["upload_count"], row["reference_count"]) == (20, 1)

    play(backend, story)


def test_a_stored_object(backend: Backend) -> None:
    """A file that the service holds is named by its key, also where it was claimed before."""

    async def story(database: Database) -> None:
        await claimed(database, size=4)
        made = Made(
            storage_key="acme/dir/a.pdf", tenant_id="acme", user_id="usr_1", object_key="dir/a.pdf", session_id="s",
            file_name="a.pdf", file_hash=HASH, size=5, etag="e", crc64="0" * 16, mime_type="application/x-own",
        )  # fmt: skip
        async with database.begin() as connection:
            assert await record(connection, database, made, "f9") == "f1"
        known = await files.find_own(database, "acme", "usr_1", HASH)
        assert known is not None
        assert (known.object_key, known.storage_key, known.size) == ("dir/a.pdf", "acme/dir/a.pdf", 5)
        assert (known.mime_type, known.upload_count) == ("application/x-own", 2)

    play(backend, story)


def test_removal(backend: Backend) -> None:
    """A reference is removed by its user only, and once; the answer names the object that may be without one now."""

    async def story(database: Database) -> None:
        made = Made(
            storage_key="acme/a", tenant_id="acme", user_id="usr_1", object_key="a", session_id="s", file_name="a",
            file_hash=HASH, size=5, etag="e", crc64="0" * 16, mime_type="",
        )  # fmt: skip
        async with database.begin() as connection:
            stored = await record(connection, database, made, "f1")
        only_claimed = await claimed(database, file_id="f2", file_name="b")
        assert await refused(database, OTHER, stored)
        async with database.begin() as connection:
            assert await files.remove(connection, WHO, stored) == ["acme/a"]
            assert await files.remove(connection, WHO, only_claimed) == []
        assert await refused(database, WHO, stored)
        assert (await content(database))["reference_count"] == 0
        assert await files.list_own(database, WHO, 10) == []

    async def refused(database: Database, who: Principal, file_id: str) -> bool:
        try:
            async with database.begin() as connection:
                await files.remove(connection, who, file_id)
        except ApiError as error:
            return error.status == 404
        return False

    play(backend, story)

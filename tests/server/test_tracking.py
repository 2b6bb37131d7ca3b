"""Uploads that clients tell of, and the end of what is old."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from jettyctl.server.control import files, pruning, tracking
from jettyctl.server.control.counters import SqlCounters
from jettyctl.server.control.database import Database
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.sessions import ChunkEntry
from jettyctl.server.control.sessions_sql import SqlSessions
from jettyctl.server.control.tables import rate_counters, session_states, upload_chunks, upload_patterns, upload_sessions
from jettyctl.server.control.tracking import NewUpload
from tests.server.playing import play
from tests.support.databases import Backend

HASH = "sha256:" + "ab" * 32
WHO = Principal("usr_1", "acme", "key", frozenset({"write"}))
OTHER = replace(WHO, user_id="usr_2")
ADMIN = Principal("usr_3", "acme", "key", frozenset({"admin"}))
STRANGER = replace(ADMIN, tenant_id="other")
UPLOAD = NewUpload("usr_1", "a.pdf", HASH, 1000, "f1", 100, 4, 10, edges_used=["fra-1"], estimated_cost=0.5, upload_via="web")
NO_COUNT = {"chunks_completed": None, "bytes_uploaded": None}


async def status_of(call: Any) -> int:  # noqa: ANN401 - a coroutine
    """The status of the error that a call ends with; 200 if it ends well."""
    try:
        await call
    except ApiError as error:
        return error.status
    return 200


def test_a_life(backend: Backend) -> None:
    """A session begins, goes on and is completed, and each call tells the whole of it."""

    async def story(database: Database) -> None:
        begun = await tracking.start(database, WHO, UPLOAD)
        assert {**begun, "sessionId": "", "startedAt": 0, "lastUpdated": 0} == {
            "sessionId": "", "userId": "usr_1", "fileId": "f1", "fileName": "a.pdf", "fileHash": HASH, "fileSize": 1000,
            "chunkSize": 100, "threads": 4, "edgesUsed": ["fra-1"], "chunksTotal": 10, "chunksCompleted": 0,
            "bytesUploaded": 0, "status": "in_progress", "startedAt": 0, "lastUpdated": 0, "completedAt": None,
            "errorMessage": "",
        }  # fmt: skip
        name = begun["sessionId"]
        half = await tracking.progress(database, WHO, name, chunks_completed=5, bytes_uploaded=500)
        assert (half["chunksCompleted"], half["bytesUploaded"], half["status"]) == (5, 500, "in_progress")
        done = await tracking.complete(database, WHO, name, actual_cost=0.25)
        assert (done["status"], done["chunksCompleted"], done["bytesUploaded"]) == ("completed", 10, 1000)
        assert begun["startedAt"] <= done["completedAt"] == done["lastUpdated"]
        assert await tracking.complete(database, WHO, name, actual_cost=9.0) == done
        assert await tracking.progress(database, WHO, name, chunks_completed=1, bytes_uploaded=1) == done
        assert await tracking.fail(database, WHO, name, error_message="no", **NO_COUNT) == done
        shown = await tracking.show(database, WHO, name)
        assert shown == {**done, "key": "", "tenantId": "acme", "host": "", "leaseExpiresIn": None}
        async with database.read() as connection:
            row = (await connection.execute(select(upload_sessions))).one()
        assert (row.actual_cost, row.estimated_cost, row.upload_via) == (0.25, 0.5, "web")
        assert row.avg_speed_mbps == pytest.approx(1000 * 8e-6 / row.duration_seconds)
        known = await files.find_own(database, "acme", "usr_1", HASH)
        assert known is not None
        assert (known.file_id, known.upload_count) == ("f1", 1)

    play(backend, story)


def test_a_failure(backend: Backend) -> None:
    """A failed upload keeps what was done and why it ended, makes no claim, and may still be completed."""

    async def story(database: Database) -> None:
        name = (await tracking.start(database, WHO, UPLOAD))["sessionId"]
        await tracking.progress(database, WHO, name, chunks_completed=5, bytes_uploaded=500)
        failed = await tracking.fail(database, WHO, name, error_message="no disk", **NO_COUNT)
        assert (failed["status"], failed["errorMessage"], failed["chunksCompleted"]) == ("failed", "no disk", 5)
        again = await tracking.fail(database, WHO, name, chunks_completed=6, bytes_uploaded=600, error_message="still")
        assert (again["status"], again["errorMessage"], again["chunksCompleted"]) == ("failed", "still", 6)
        assert await files.find_own(database, "acme", "usr_1", HASH) is None
        done = await tracking.complete(database, WHO, name, actual_cost=None)
        assert (done["status"], done["errorMessage"]) == ("completed", "")

    play(backend, story)


def test_whose_it_is(backend: Backend) -> None:
    """A session is its user's and the tenant's admin's; to others it looks like one that is not there."""

    async def story(database: Database) -> None:
        name = (await tracking.start(database, ADMIN, UPLOAD))["sessionId"]
        for who, expected in ((OTHER, 404), (STRANGER, 404), (WHO, 200), (ADMIN, 200)):
            calls = (
                tracking.show(database, who, name),
                tracking.progress(database, who, name, chunks_completed=1, bytes_uploaded=1),
                tracking.fail(database, who, name, error_message="", **NO_COUNT),
                tracking.complete(database, who, name, actual_cost=None),
            )
            assert [await status_of(call) for call in calls] == [expected] * 4
        assert await status_of(tracking.show(database, WHO, "nobody's")) == 404
        for who, count in ((WHO, 1), (ADMIN, 1), (OTHER, 0), (STRANGER, 0)):
            assert len(await tracking.list_sessions(database, who, user_id="usr_1", status=None, limit=10)) == count

    play(backend, story)


def test_a_list(backend: Backend) -> None:
    """Sessions are listed changed last first, by status where one is asked for, up to a limit."""

    async def story(database: Database) -> None:
        names = [(await tracking.start(database, WHO, UPLOAD))["sessionId"] for _ in range(3)]
        await tracking.fail(database, WHO, names[0], error_message="", **NO_COUNT)

        async def listed(status: str | None, limit: int) -> list[str]:
            found = await tracking.list_sessions(database, WHO, user_id="usr_1", status=status, limit=limit)
            return [one["sessionId"] for one in found]

        assert await listed(None, 10) == [names[0], names[2], names[1]]
        assert await listed("in_progress", 10) == [names[2], names[1]]
        assert await listed(None, 1) == names[:1]
        assert await listed("paused", 10) == []

    play(backend, story)


def test_chunks_tell_of_progress(backend: Backend) -> None:
    """A session shows the chunks that are kept of it, also those that no progress told of."""

    async def story(database: Database) -> None:
        name = (await tracking.start(database, WHO, UPLOAD))["sessionId"]
        chunks = [ChunkEntry(index, "completed", bytes_uploaded=100) for index in range(3)] + [ChunkEntry(3, "uploading")]
        await SqlSessions(database).put_chunks(WHO, name, chunks, fence=None)
        (listed,) = await tracking.list_sessions(database, WHO, user_id="usr_1", status=None, limit=1)
        for one in (listed, await tracking.show(database, WHO, name)):
            assert (one["chunksCompleted"], one["bytesUploaded"]) == (3, 300)
        largest = [ChunkEntry(index, "completed", bytes_uploaded=2**63 - 1) for index in range(2)]
        await SqlSessions(database).put_chunks(WHO, name, largest, fence=None)
        assert (await tracking.show(database, WHO, name))["bytesUploaded"] >= 2**63

    play(backend, story)


def test_an_upload_through_the_service(backend: Backend) -> None:
    """What the service carries itself, no client completes or fails by its word; the session shows the lease."""

    async def story(database: Database) -> None:
        name = (await tracking.start(database, WHO, UPLOAD))["sessionId"]
        until = datetime.now(UTC) + timedelta(seconds=30)
        carried = {"object_key": "a", "storage_key": "acme/a", "lease_host": "box", "lease_expires_at": until}
        async with database.begin() as connection:
            await connection.execute(update(session_states).values(carried))
        assert await status_of(tracking.complete(database, WHO, name, actual_cost=None)) == 409
        assert await status_of(tracking.fail(database, WHO, name, error_message="", **NO_COUNT)) == 409
        shown = await tracking.show(database, WHO, name)
        assert (shown["status"], shown["key"], shown["host"]) == ("in_progress", "a", "box")
        assert 25 < shown["leaseExpiresIn"] <= 30

    play(backend, story)


def test_patterns(backend: Backend) -> None:
    """A user's uploads of an hour and weekday are counted together: how large they are, and by which edges they went."""
    monday = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)

    async def story(database: Database) -> None:
        for size, edges, at in (
            (100, ["a", "b"], monday),
            (200, ["c"], monday + timedelta(days=7)),
            (600, ["a", "d", "e", "f"], monday + timedelta(minutes=20)),
            (7, [], monday + timedelta(hours=1)),
        ):
            async with database.begin() as connection:
                await tracking.add_pattern(connection, database, "usr_1", size=size, edges=edges, at=at)
        async with database.read() as connection:
            rows = (await connection.execute(select(upload_patterns).order_by(upload_patterns.c.hour))).all()
        found = [(row.hour, row.day_of_week, row.avg_file_size, row.upload_count, row.typical_edges) for row in rows]
        assert found == [(14, 0, 300.0, 3, ["a", "d", "e", "f", "c"]), (15, 0, 7.0, 1, [])]

    play(backend, story)


def test_pruning(backend: Backend) -> None:
    """A week after its last change a session's chunks go, and its state; uploads stay for the views, and what is alive stays."""
    now = datetime.now(UTC)

    async def story(database: Database) -> None:
        sessions = SqlSessions(database)

        async def a_session(name: str, days: float, *, storage_key: str = "", status: str | None = None) -> None:
            await sessions.put_chunks(WHO, name, [ChunkEntry(0, "completed")], fence=None)
            s, u, then = session_states, upload_sessions, now - timedelta(days=days)
            begun = await tracking.start(database, WHO, UPLOAD) if status else None
            async with database.begin() as connection:
                if begun:
                    await connection.execute(s.delete().where(s.c.session_id == begun["sessionId"]))
                    change = {"id": name, "status": status, "updated_at": then}
                    await connection.execute(update(u).where(u.c.id == begun["sessionId"]).values(change))
                values = {"updated_at": then, "storage_key": storage_key}
                await connection.execute(update(s).where(s.c.session_id == name).values(values))

        await a_session("young", 6.9)
        await a_session("old", 7.1)
        await a_session("tracked, old", 7.1, status="completed")
        await a_session("carried, unfinished", 7.1, storage_key="k", status="in_progress")
        await a_session("carried, done", 7.1, storage_key="k", status="completed")
        await SqlCounters(database).add("ended", 1, 0)
        await SqlCounters(database).add("running", 1, 3600)
        for _ in range(2):
            await pruning.prune(database, now + timedelta(seconds=5))
            async with database.read() as connection:
                states = set((await connection.execute(select(session_states.c.session_id))).scalars())
                chunks = set((await connection.execute(select(upload_chunks.c.session_id))).scalars())
                counters = list((await connection.execute(select(rate_counters.c.name))).scalars())
                uploads = await connection.scalar(select(func.count()).select_from(upload_sessions))
            assert states == {"young", "carried, unfinished", "carried, done"}
            assert chunks == {"young", "carried, unfinished"}
            assert (counters, uploads) == (["running"], 3)

    play(backend, story)


def test_pruning_in_batches(backend: Backend) -> None:
    """However many old sessions there are, all go."""

    async def story(database: Database) -> None:
        then = datetime.now(UTC) - timedelta(days=30)
        rows = [
            {"session_id": f"s{number}", "user_id": "u", "tenant_id": "t", "updated_at": then}
            for number in range(2 * pruning.BATCH + 1)
        ]
        async with database.begin() as connection:
            await connection.execute(session_states.insert(), rows)
        await pruning.prune(database, datetime.now(UTC))
        async with database.read() as connection:
            assert await connection.scalar(select(func.count()).select_from(session_states)) == 0

    play(backend, story)

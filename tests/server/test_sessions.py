"""What every session store promises, each of them in each run: the database's on SQLite and on Postgres, and with Valkey."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.sessions import ChunkEntry, SessionStore
from jettyctl.server.control.tables import session_states
from tests.server.playing import OTHER, chunk, play_sessions, status_of
from tests.server.session_writer import OWNER
from tests.support.databases import Backend, postgres_backend, sqlite_backend
from tests.support.running import ROOT
from tests.support.servers import bare_environment

ADMIN = Principal("usr_3", "acme", "key3", frozenset({"admin"}))
STRANGER = Principal("usr_1", "other", "key4", frozenset({"admin"}))
DAY = 86_400.0

@pytest.fixture(params=["sqlite", "postgres", "valkey"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """Each in turn, whatever the run's own backend is."""
    if request.param == "sqlite":
        with sqlite_backend(tmp_path) as made:
            yield made
        return
    with postgres_backend(request.getfixturevalue("postgres"), request.getfixturevalue("valkey")) as made:
        yield made if request.param == "valkey" else replace(made, redis_url=None)


async def lease(database: Database, session_id: str, fence: int) -> None:
    """Somebody takes the session."""
    async with database.begin() as connection:
        await connection.execute(update(session_states).where(session_states.c.session_id == session_id).values(fence=fence))


def test_chunks_come_back(backend: Backend) -> None:
    """What was kept is read by whoever opens the database next, in index order, with every field."""
    kept = [
        chunk(7, chunk_hash="crc64nvme:00", edge_id="fra-1", bytes_uploaded=2**40, etag='"é"'),
        chunk(0, "failed", error_message="no\nroute"),
        chunk(12, "pending"),
    ]

    async def put(sessions: SessionStore, _: Database) -> None:
        await sessions.put_chunks(OWNER, "s", kept, fence=None)

    async def look(sessions: SessionStore, _database: Database) -> None:
        for _ in range(3):  # a copy is made by the first reader at the latest
            assert await sessions.chunks(OWNER, "s") == sorted(kept, key=lambda one: one.index)

    play_sessions(backend, put)
    play_sessions(backend, look)


def test_the_last_state_stays(backend: Backend) -> None:
    """A chunk that is kept again replaces what was known of it, within a call and by the next one."""

    async def story(sessions: SessionStore, _database: Database) -> None:
        await sessions.put_chunks(OWNER, "s", [chunk(1, "uploading"), chunk(1, "failed")], fence=None)
        assert [one.status for one in await sessions.chunks(OWNER, "s")] == ["failed"]
        done = chunk(1, "completed", bytes_uploaded=5)
        for _ in range(2):
            await sessions.put_chunks(OWNER, "s", [done], fence=None)
        assert await sessions.chunks(OWNER, "s") == [done]
        await sessions.put_chunks(OWNER, "s", [], fence=None)
        assert await sessions.chunks(OWNER, "s") == [done]

    play_sessions(backend, story)


def test_a_chunk_without_a_time_was_seen_now(backend: Backend) -> None:
    """Who does not say when gets the time of keeping."""

    async def story(sessions: SessionStore, _: Database) -> None:
        await sessions.put_chunks(OWNER, "s", [ChunkEntry(0, "completed")], fence=None)
        (kept,) = await sessions.chunks(OWNER, "s")
        assert abs(kept.timestamp - time.time()) < 5

    play_sessions(backend, story)


def test_a_session_is_its_users(backend: Backend) -> None:
    """Another user and another tenant neither read nor write it; an admin of the tenant does both."""

    async def story(sessions: SessionStore, _database: Database) -> None:
        mine = chunk(0)
        await sessions.put_chunks(OWNER, "s", [mine], fence=None)
        for who in (OTHER, STRANGER):
            for _ in range(2):
                assert await status_of(sessions.put_chunks(who, "s", [chunk(0, "failed")], fence=None)) == 404
                assert await status_of(sessions.chunks(who, "s")) == 404
        assert await sessions.chunks(OWNER, "s") == await sessions.chunks(ADMIN, "s") == [mine]
        await sessions.put_chunks(ADMIN, "s", [chunk(1)], fence=None)
        assert len(await sessions.chunks(OWNER, "s")) == 2
        assert await sessions.chunks(OTHER, "nobody's") == []

    play_sessions(backend, story)


def test_an_unknown_session_becomes_somebodys(backend: Backend) -> None:
    """Of two users who use an id first at the same time, one owns it and the other is refused."""

    async def story(sessions: SessionStore, _: Database) -> None:
        for number in range(10):
            both = (sessions.put_chunks(who, f"s{number}", [chunk(0)], fence=None) for who in (OWNER, OTHER))
            assert sorted(await asyncio.gather(*map(status_of, both))) == [200, 404]

    play_sessions(backend, story)


def test_fences(backend: Backend) -> None:
    """A session with a lease takes chunks with its own fence only; one without takes any."""

    async def story(sessions: SessionStore, database: Database) -> None:
        await sessions.put_chunks(OWNER, "s", [chunk(0)], fence=None)
        await lease(database, "s", 3)
        answers = {2: 409, 4: 409, None: 409, 3: 200}
        for fence, status in answers.items():
            assert await status_of(sessions.put_chunks(OWNER, "s", [chunk(fence or 9)], fence=fence)) == status
        assert [one.index for one in await sessions.chunks(OWNER, "s")] == [0, 3]

    play_sessions(backend, story)


def test_one_refused_call_does_not_harm_others(backend: Backend) -> None:
    """Calls that come together fail one by one: for a stale fence, a foreign session, or a value that no database takes."""

    async def story(sessions: SessionStore, database: Database) -> None:
        await sessions.put_chunks(OWNER, "leased", [chunk(0)], fence=None)
        await lease(database, "leased", 1)
        good = [sessions.put_chunks(OWNER, f"s{number}", [chunk(0)], fence=None) for number in range(20)]
        stale = sessions.put_chunks(OWNER, "leased", [chunk(5)], fence=None)
        foreign = sessions.put_chunks(OTHER, "leased", [chunk(6)], fence=1)
        odd = sessions.put_chunks(OWNER, "odd", [chunk(0, bytes_uploaded=2**70)], fence=None)
        current = sessions.put_chunks(OWNER, "leased", [chunk(7)], fence=1)
        ended = await asyncio.gather(*good, stale, foreign, odd, current, return_exceptions=True)
        assert ended[:20] == [None] * 20
        assert [getattr(error, "status", error) for error in ended[20:22]] == [409, 404]
        assert isinstance(ended[22], Exception)
        assert ended[23] is None
        assert [one.index for one in await sessions.chunks(OWNER, "leased")] == [0, 7]
        assert await sessions.chunks(OWNER, "odd") == []

    play_sessions(backend, story)


def test_many_at_once(backend: Backend) -> None:
    """Hundreds of calls at once, for one session and for many, are all kept."""

    async def story(sessions: SessionStore, _: Database) -> None:
        calls = [sessions.put_chunks(OWNER, f"s{number % 7}", [chunk(number)], fence=None) for number in range(700)]
        await asyncio.gather(*calls)
        for rest in range(7):
            assert [one.index for one in await sessions.chunks(OWNER, f"s{rest}")] == [*range(rest, 700, 7)]

    play_sessions(backend, story)


@pytest.mark.slow
def test_a_large_call(backend: Backend) -> None:
    """All chunks of a large session fit into one call."""

    async def story(sessions: SessionStore, _database: Database) -> None:
        await sessions.put_chunks(OWNER, "s", [chunk(number) for number in range(10_000)], fence=None)
        for _ in range(2):
            assert len(await sessions.chunks(OWNER, "s")) == 10_000

    play_sessions(backend, story)


def test_a_caller_who_goes_away(backend: Backend) -> None:
    """Calls that were given up end nobody else's."""

    async def story(sessions: SessionStore, _: Database) -> None:
        calls = [asyncio.create_task(sessions.put_chunks(OWNER, "s", [chunk(n)], fence=None)) for n in range(20)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert ended[1::2] == [None] * 10
        known = {one.index for one in await sessions.chunks(OWNER, "s")}
        assert known >= {*range(1, 20, 2)}

    play_sessions(backend, story)


def test_a_week(backend: Backend) -> None:
    """Chunks are known for 7 days after the last change of their session."""

    async def story(sessions: SessionStore, database: Database) -> None:
        for name, days in (("young", 6.9), ("old", 7.1)):
            seen = time.time() - days * DAY
            await sessions.put_chunks(OWNER, name, [ChunkEntry(0, "completed", timestamp=seen)], fence=None)
            await aged(database, name, days)
        for _ in range(2):
            assert len(await sessions.chunks(OWNER, "young")) == 1
            assert await sessions.chunks(OWNER, "old") == []
        await sessions.put_chunks(OWNER, "old", [chunk(1)], fence=None)
        assert 1 in [one.index for one in await sessions.chunks(OWNER, "old")]

    play_sessions(backend, story)


async def aged(database: Database, session_id: str, days: float) -> None:
    """Nothing has happened to the session for so long."""
    async with database.begin() as connection:
        then = datetime.now(UTC) - timedelta(days=days)
        await connection.execute(
            update(session_states).where(session_states.c.session_id == session_id).values(updated_at=then)
        )


@pytest.mark.slow
def test_two_processes_write_one_session(backend: Backend) -> None:
    """Processes that keep chunks of one session at the same time lose none, and what a reader sees is all of it."""
    count = 160
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.server.session_writer", backend.database_url, backend.redis_url or "", "s", name,
             str(begin), str(count)],
            cwd=ROOT, env=bare_environment(), stdout=subprocess.PIPE, text=True,
        )
        for name, begin in (("a", 1), ("b", 1 + count))
    ]  # fmt: skip
    told = [writer.communicate(timeout=60)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    acknowledged = {int(word) for text in told for word in text.split()}
    assert acknowledged == {*range(1, 1 + 2 * count)}

    async def look(sessions: SessionStore, _database: Database) -> None:
        for _ in range(2):
            known = await sessions.chunks(OWNER, "s")
            assert [one.index for one in known] == [0, *sorted(acknowledged)]
            assert known[0].chunk_hash in ("a", "b")

    play_sessions(backend, look)
    play_sessions(replace(backend, redis_url=None), look)


def test_copies_that_nobody_needs(backend: Backend) -> None:
    """Saving and forgetting copies never fails, and takes nothing away."""

    async def story(sessions: SessionStore, _: Database) -> None:
        await sessions.put_chunks(OWNER, "s", [chunk(0)], fence=None)
        await sessions.save("s", {"sessionId": "s", "status": "in_progress"})
        await sessions.forget("s")
        assert len(await sessions.chunks(OWNER, "s")) == 1

    play_sessions(backend, story)

"""A Valkey that is killed, emptied, stopped, old or full of other things, and a Postgres that is killed: nothing acknowledged
is lost, and no answer is wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import delete

from jettyctl.server.control.database import Database, DatabaseDown
from jettyctl.server.control.redis_client import PATIENCE, PAUSE
from jettyctl.server.control.sessions import RETENTION, ChunkEntry, SessionStore
from jettyctl.server.control.tables import session_states, upload_chunks
from tests.server.playing import OTHER, chunk, play_sessions, status_of
from tests.server.session_writer import OWNER
from tests.support.databases import Backend, Postgres, Valkey, postgres_backend, prepare_template

pytestmark = pytest.mark.slow  # they are many, and none is quick


@pytest.fixture
def backend(postgres: Postgres, valkey: Valkey) -> Iterator[Backend]:
    """Postgres and Valkey, whatever the run's own backend is."""
    with postgres_backend(postgres, valkey) as made:
        yield made


async def copied(valkey: Valkey, session_id: str) -> bool:
    """Wait for the copy that is made after an answer."""
    for _ in range(100):
        if valkey.execute("EXISTS", f"jetty:chunks:{session_id}") == b":1\r\n":
            return True
        await asyncio.sleep(0.01)
    return False


def test_what_the_copies_are(backend: Backend, valkey: Valkey) -> None:
    """`jetty:chunks:{id}` holds the chunks by index in the shared JSON, `jetty:session:{id}` the record; both for a week."""

    async def story(sessions: SessionStore, _: Database) -> None:
        kept = chunk(3, chunk_hash="h", edge_id="e", bytes_uploaded=9, etag="t")
        await sessions.put_chunks(OWNER, "s", [kept], fence=None)
        await sessions.save("s", {"sessionId": "s", "fileSize": 5})
        assert await copied(valkey, "s")
        told = valkey.execute("HGET", "jetty:chunks:s", "3").split(b"\r\n")[1]
        assert json.loads(told) == {
            "chunkHash": "h", "edgeId": "e", "status": "completed", "bytesUploaded": 9, "errorMessage": "", "etag": "t",
            "timestamp": kept.timestamp,
        }  # fmt: skip
        assert json.loads(valkey.execute("GET", "jetty:session:s").split(b"\r\n")[1]) == {"sessionId": "s", "fileSize": 5}
        for key in ("jetty:chunks:s", "jetty:session:s"):
            assert RETENTION - 60 < int(valkey.execute("TTL", key)[1:]) <= RETENTION
        await sessions.forget("s")
        assert valkey.execute("EXISTS", "jetty:chunks:s", "jetty:session:s") == b":0\r\n"

    play_sessions(backend, story)


def test_a_copy_is_read(backend: Backend, valkey: Valkey) -> None:
    """Chunks come from the copy where it is of the database's version: that is what it is for."""

    async def story(sessions: SessionStore, database: Database) -> None:
        kept = [chunk(0), chunk(1)]
        for one in kept:
            await sessions.put_chunks(OWNER, "s", [one], fence=None)
        assert await copied(valkey, "s")
        await asyncio.sleep(0.1)
        async with database.begin() as connection:  # which nobody does: only to see where the answer comes from
            await connection.execute(delete(upload_chunks))
        assert await sessions.chunks(OWNER, "s") == kept
        assert await status_of(sessions.chunks(OTHER, "s")) == 404

    play_sessions(backend, story)


def test_valkey_flushed_in_the_middle(backend: Backend, valkey: Valkey) -> None:
    """A Valkey that is emptied again and again under readers and writers makes no answer wrong."""

    async def story(sessions: SessionStore, _: Database) -> None:
        acknowledged: set[int] = set()
        for number in range(60):
            await sessions.put_chunks(OWNER, "s", [chunk(number)], fence=None)
            acknowledged.add(number)
            if number % 3 == 0:
                valkey.execute("FLUSHALL")
            assert {one.index for one in await sessions.chunks(OWNER, "s")} == acknowledged

    play_sessions(backend, story)


def test_valkey_killed_in_the_middle(backend: Backend, valkey: Valkey) -> None:
    """Writers and readers go on without Valkey, and with it when it is back, empty."""

    async def story(sessions: SessionStore, _: Database) -> None:
        acknowledged: set[int] = set()

        async def some(first: int) -> None:
            for number in range(first, first + 20):
                await sessions.put_chunks(OWNER, "s", [chunk(number)], fence=None)
                acknowledged.add(number)
                assert {one.index for one in await sessions.chunks(OWNER, "s")} == acknowledged

        await some(0)
        writing = asyncio.create_task(some(20))
        await asyncio.sleep(0.01)
        valkey.kill()
        await writing
        valkey.restart()
        await some(40)
        async with asyncio.timeout(5 * PAUSE):
            while not await copied(valkey, "s"):
                await sessions.chunks(OWNER, "s")

    play_sessions(backend, story)


def test_a_valkey_that_does_not_answer(backend: Backend, valkey: Valkey) -> None:
    """A Valkey that hangs costs one short wait, then nobody waits for it for a second."""
    process = valkey._process
    assert process

    async def story(sessions: SessionStore, _: Database) -> None:
        await sessions.put_chunks(OWNER, "s", [chunk(0)], fence=None)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            assert len(await sessions.chunks(OWNER, "s")) == 1
            assert time.monotonic() - begun < PATIENCE + 0.5
            begun = time.monotonic()
            for number in range(5):
                await sessions.put_chunks(OWNER, "s", [chunk(number)], fence=None)
                assert len(await sessions.chunks(OWNER, "s")) == number + 1 or number == 0
            assert time.monotonic() - begun < PATIENCE + 0.5
        finally:
            os.kill(process.pid, signal.SIGCONT)

    play_sessions(backend, story)


def test_a_valkey_with_an_old_dump(backend: Backend, valkey: Valkey) -> None:
    """A Valkey that comes back with the state of an hour ago is not believed, also after further writes."""

    async def story(sessions: SessionStore, _: Database) -> None:
        await sessions.put_chunks(OWNER, "s", [chunk(0, "uploading")], fence=None)
        assert await copied(valkey, "s")
        valkey.dump()
        newer = [chunk(0, "completed"), chunk(1)]
        await sessions.put_chunks(OWNER, "s", newer, fence=None)
        valkey.kill()
        valkey.restart()
        await asyncio.sleep(PAUSE)
        assert await copied(valkey, "s")  # the old one
        assert await sessions.chunks(OWNER, "s") == newer
        valkey.restart()  # the old one once more
        last = chunk(2)
        await sessions.put_chunks(OWNER, "s", [last], fence=None)
        assert await sessions.chunks(OWNER, "s") == [*newer, last]

    play_sessions(backend, story)


def test_a_session_id_that_is_used_again(backend: Backend, valkey: Valkey) -> None:
    """A session that the database has forgotten does not come back from a copy when somebody uses its id again."""

    async def story(sessions: SessionStore, database: Database) -> None:
        await sessions.put_chunks(OWNER, "s", [chunk(0), chunk(1)], fence=None)
        assert await copied(valkey, "s")
        async with database.begin() as connection:
            await connection.execute(delete(upload_chunks))
            await connection.execute(delete(session_states))
        assert await sessions.chunks(OWNER, "s") == []
        theirs = chunk(7)
        await sessions.put_chunks(OTHER, "s", [theirs], fence=None)
        for _ in range(3):
            assert await sessions.chunks(OTHER, "s") == [theirs]

    play_sessions(backend, story)


@pytest.mark.parametrize(
    "words",
    [
        ("SET", "jetty:chunks:s", "text"),
        ("HSET", "jetty:chunks:s", "0", "{"),
        ("HSET", "jetty:chunks:s", "0", '{"status": "completed"}'),
        ("HSET", "jetty:chunks:s", "x", "{}"),
        ("HSET", "jetty:chunks:s", "version", "x"),
        ("HSET", "jetty:chunks:s", "version", "-1"),
        ("HDEL", "jetty:chunks:s", "version"),
    ],
)
def test_somebody_elses_writing(backend: Backend, valkey: Valkey, words: tuple[str, ...]) -> None:
    """What others leave in the place of a copy is no answer, and is replaced."""

    async def story(sessions: SessionStore, _: Database) -> None:
        kept = [chunk(0), chunk(1)]
        await sessions.put_chunks(OWNER, "s", kept, fence=None)
        assert await copied(valkey, "s")
        valkey.execute(*words)
        assert await sessions.chunks(OWNER, "s") == kept
        kept.append(chunk(2))
        await sessions.put_chunks(OWNER, "s", kept[-1:], fence=None)
        assert await sessions.chunks(OWNER, "s") == kept

    play_sessions(backend, story)


def test_postgres_killed_in_the_middle(valkey: Valkey) -> None:
    """What was acknowledged before Postgres was killed is there when it is back; the rest is refused, and can be sent again."""
    with Postgres() as postgres:
        prepare_template(postgres)
        acknowledged: set[int] = set()

        async def story(sessions: SessionStore, _: Database) -> None:
            refused = 0

            async def write(lane: int) -> None:
                nonlocal refused
                for number in range(lane, 400, 8):
                    while number not in acknowledged:
                        try:
                            await sessions.put_chunks(OWNER, "s", [ChunkEntry(number, "completed")], fence=None)
                            acknowledged.add(number)
                        except DatabaseDown:
                            refused += 1
                            await asyncio.sleep(0.05)

            writing = asyncio.gather(*map(write, range(8)))
            while len(acknowledged) < 80:
                await asyncio.sleep(0)
            await asyncio.to_thread(postgres.kill)
            await asyncio.sleep(0.2)
            await asyncio.to_thread(postgres.restart)
            await writing
            assert refused
            assert [one.index for one in await sessions.chunks(OWNER, "s")] == [*range(400)]

        with postgres_backend(postgres, valkey) as made:
            play_sessions(made, story)

"""Uploads that nobody goes on with."""

from __future__ import annotations

import asyncio
import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Update, update

from jettyctl.server.control.database import Database
from jettyctl.server.control.objects import open_objects
from jettyctl.server.control.sweeping import sweep
from jettyctl.server.control.tables import session_states, upload_sessions
from tests.server.hosts import Host, change, hosted
from tests.support.databases import Backend
from tests.support.uploading import API, MIB, Sender

WEEK_AGO = datetime.now(UTC) - timedelta(days=8)


def test_an_abandoned_upload_is_swept_away(backend: Backend, tmp_path: Path) -> None:
    """After a week without a change an upload is failed and its parts are gone; one that is worked on stays."""
    with hosted(backend, tmp_path) as host, host.client() as client:
        old, live = (begun(client, f"{uuid.uuid4().hex}.bin") for _ in range(2))
        change(host, aged(old))
        asyncio.run(round_(host))
        assert client.get(f"{API}/sessions/{old.session_id}").json()["status"] == "failed"
        assert len(uploads(tmp_path)) == 1
        assert old.parts(wanted=[2]).status_code == 409
        live.send(2)
        live.finalize().raise_for_status()


@pytest.mark.slow
def test_another_upload_of_the_same_key_goes_on(backend: Backend, tmp_path: Path) -> None:
    """An upload that takes longer than a week keeps its parts when an abandoned one of its key is swept away."""
    with hosted(backend, tmp_path) as host, host.client() as client:
        old, live = (begun(client, "same.bin") for _ in range(2))
        change(host, aged(old))
        for name in uploads(tmp_path):
            os.utime(tmp_path / "objects" / "uploads" / name / "upload.json", (WEEK_AGO.timestamp(),) * 2)
        asyncio.run(round_(host))
        assert len(uploads(tmp_path)) == 1
        live.send(2)
        live.finalize().raise_for_status()


def test_what_a_killed_finalize_left_is_swept_away(backend: Backend, tmp_path: Path) -> None:
    """The claim of a finalize that was killed keeps nobody from sweeping, once it has run out."""
    with hosted(backend, tmp_path) as host, host.client() as client:
        old = begun(client, "killed.bin")
        change(host, aged(old, completing_until=datetime.now(UTC) + timedelta(seconds=60)))
        asyncio.run(round_(host))
        assert len(uploads(tmp_path)) == 1
        change(host, aged(old, completing_until=WEEK_AGO))
        asyncio.run(round_(host))
        assert not uploads(tmp_path)


@pytest.mark.slow
def test_an_abort_that_failed_is_made_good(backend: Backend, tmp_path: Path) -> None:
    """Parts that the store did not give up when their upload was failed are asked for again."""
    with hosted(backend, tmp_path) as host, host.client() as client:
        old = begun(client, "failed.bin")
        change(host, aged(old))
        change(host, update(upload_sessions).where(upload_sessions.c.id == old.session_id).values(status="failed"))
        asyncio.run(round_(host))
        assert not uploads(tmp_path)


def begun(client: httpx.Client, key: str) -> Sender:
    """An upload that has its first part."""
    sender = Sender(client, os.urandom(6 * MIB), key)
    sender.begin().raise_for_status()
    sender.send(1)
    return sender


def aged(sender: Sender, **changes: datetime) -> Update:
    """Its session has not changed for a week."""
    values = {"updated_at": WEEK_AGO, "lease_expires_at": WEEK_AGO, **changes}
    return update(session_states).where(session_states.c.session_id == sender.session_id).values(values)


async def round_(host: Host) -> None:
    """Sweep once, as a worker does."""
    database = Database(host.plane.settings.database_url)
    async with open_objects(host.plane.settings, {}) as objects:
        await sweep(database, objects, datetime.now(UTC))
    await database.close()


def uploads(directory: Path) -> list[str]:
    """What the store has of unfinished uploads."""
    return os.listdir(directory / "objects" / "uploads")

"""Uploads that nobody goes on with."""

from __future__ import annotations

import asyncio
import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import update

from jettyctl.server.control.database import Database
from jettyctl.server.control.objects import open_objects
from jettyctl.server.control.sweeping import sweep
from jettyctl.server.control.tables import session_states
from tests.server.hosts import hosted
from tests.server.test_verifier import change
from tests.support.databases import Backend
from tests.support.uploading import API, MIB, Sender


def test_an_abandoned_upload_is_swept_away(backend: Backend, tmp_path: Path) -> None:
    """After a week without a change an upload is failed and its parts are gone; one that is worked on stays."""
    with hosted(backend, tmp_path) as host, host.client() as client:
        old, live = (Sender(client, os.urandom(6 * MIB), f"{uuid.uuid4().hex}.bin") for _ in range(2))
        for sender in (old, live):
            sender.begin().raise_for_status()
            sender.send(1)
        week = datetime.now(UTC) - timedelta(days=8)
        is_old = session_states.c.session_id == old.session_id
        change(host, update(session_states).where(is_old).values(updated_at=week, lease_expires_at=week))

        async def round_() -> None:
            database = Database(backend.database_url)
            async with open_objects(host.plane.settings, {}) as objects:
                await sweep(database, objects, datetime.now(UTC))
            await database.close()

        asyncio.run(round_())
        assert client.get(f"{API}/sessions/{old.session_id}").json()["status"] == "failed"
        assert len(os.listdir(tmp_path / "objects" / "uploads")) == 1
        assert old.parts(wanted=[2]).status_code == 409
        live.send(2)
        live.finalize().raise_for_status()

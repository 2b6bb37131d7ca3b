"""The contract's views, with data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import edge_metrics, file_hashes, upload_sessions
from tests.server.playing import play
from tests.server.rows import a_chunk, a_session
from tests.support.databases import Backend

NOW = datetime.now(UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def view(database: Database, name: str) -> list[dict[str, Any]]:
    """All rows of a view."""
    async with database.read() as connection:
        rows = (await connection.execute(text(f"SELECT * FROM {name}"))).mappings().all()
    return [dict(row) for row in rows]


def test_edge_performance_24h(backend: Backend) -> None:
    """Averages of an edge's last 24 hours; what is older does not count."""
    looks = [("fra-1", HOUR, 10.0), ("fra-1", 23 * HOUR, 30.0), ("fra-1", 25 * HOUR, 900.0), ("lon-1", 30 * HOUR, 5.0)]

    async def story(database: Database) -> None:
        rest = {"load_percent": 50.0, "bandwidth_mbps": 100.0, "active_uploads": 3, "error_rate": 1.0}
        rows = [{"edge_id": edge, "timestamp": NOW - ago, "latency_ms": latency, **rest} for edge, ago, latency in looks]
        async with database.begin() as connection:
            await connection.execute(edge_metrics.insert(), rows)
        (row,) = await view(database, "edge_performance_24h")
        assert (row["edge_id"], row["avg_latency_ms"], row["avg_load_percent"], row["samples"]) == ("fra-1", 20.0, 50.0, 2)
        assert (row["avg_bandwidth_mbps"], float(row["avg_active_uploads"]), row["avg_error_rate"]) == (100.0, 3.0, 1.0)

    play(backend, story)


def test_top_edges(backend: Backend) -> None:
    """The ten edges whose uploads of the last 7 days were the fastest on average, the fastest first."""

    async def story(database: Database) -> None:
        for number in range(12):
            session = f"s{number}"
            await a_session(database, session, started_at=NOW - DAY, completed_at=NOW - HOUR, speed=float(number))
            for index in range(3):  # chunks do not count twice
                await a_chunk(database, session, index, f"e{number}", now=NOW)
        await a_session(database, "slow", started_at=NOW - DAY, completed_at=NOW - HOUR, speed=1.0)
        await a_chunk(database, "slow", 0, "e11", now=NOW)
        await a_session(database, "old", started_at=NOW - 9 * DAY, completed_at=NOW - 8 * DAY, speed=999.0)
        await a_chunk(database, "old", 0, "e0", now=NOW)
        await a_session(database, "bad", started_at=NOW - DAY, speed=999.0, status="failed")
        await a_chunk(database, "bad", 0, "e1", now=NOW)
        found = [(row["edge_id"], row["avg_speed_mbps"], row["uploads"]) for row in await view(database, "top_edges")]
        alone = [(f"e{number}", float(number), 1) for number in range(10, 1, -1)]
        assert sorted(found) == sorted([*alone, ("e11", 6.0, 2)])  # e6 is as fast
        assert [speed for _, speed, _ in found] == sorted((speed for _, speed, _ in found), reverse=True)

    play(backend, story)


def test_deduplication_savings(backend: Backend) -> None:
    """Contents, their uploads, and what was saved, of all tenants together; zeros where there is nothing."""

    async def story(database: Database) -> None:
        (row,) = await view(database, "deduplication_savings")
        assert [float(value) for value in row.values()] == [0, 0, 0, 0]
        seen = {"first_uploaded_at": NOW, "last_accessed_at": NOW}
        content = {"file_hash": "h", "file_id": "f", "user_id": "u", "file_name": "n", "file_size": 5, **seen}
        saved = {"upload_count": 3, "total_bytes_saved": 2**40, "total_cost_saved": 0.25}
        rows = [{**content, **saved, "tenant_id": tenant} for tenant in ("acme", "other")]
        async with database.begin() as connection:
            await connection.execute(file_hashes.insert(), rows)
        (row,) = await view(database, "deduplication_savings")
        assert (row["files"], int(row["uploads"]), int(row["bytes_saved"]), row["cost_saved"]) == (2, 6, 2**41, 0.5)

    play(backend, story)


def test_user_upload_stats(backend: Backend) -> None:
    """Each user's uploads, bytes, mean speed, successes and failures."""

    async def story(database: Database) -> None:
        await a_session(database, "a", started_at=NOW - HOUR, completed_at=NOW, speed=10.0)
        await a_session(database, "b", started_at=NOW - HOUR, completed_at=NOW, speed=30.0)
        await a_session(database, "c", started_at=NOW, status="failed")
        await a_session(database, "d", started_at=NOW)
        async with database.begin() as connection:
            await connection.execute(upload_sessions.update().values(bytes_uploaded=2**40))
        (row,) = await view(database, "user_upload_stats")
        told = {name: value if isinstance(value, str) else float(value) for name, value in row.items()}
        assert told == {
            "user_id": "usr_1", "uploads": 4, "bytes_uploaded": 2**42, "avg_speed_mbps": 20, "successes": 2, "failures": 1,
        }  # fmt: skip

    play(backend, story)


@pytest.mark.parametrize("name", ["edge_performance_24h", "top_edges", "user_upload_stats"])
def test_nothing_to_tell(backend: Backend, name: str) -> None:
    """A view of an empty database is empty."""

    async def story(database: Database) -> None:
        assert await view(database, name) == []

    play(backend, story)

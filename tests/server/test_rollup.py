"""The days' figures, from rows whose sums are known."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import RowMapping, func, select

from jettyctl.core.catalogue import DIRECT_ID
from jettyctl.core.scoring import Edge
from jettyctl.server.control import edges
from jettyctl.server.control.database import Database
from jettyctl.server.control.rollup import prune_metrics, roll_up, roll_up_day
from jettyctl.server.control.tables import edge_metrics, edge_performance_daily, upload_chunks
from tests.server.rows import a_chunk, a_session

Run = Callable[[Callable[[Database], Coroutine[Any, Any, None]]], None]

TODAY = datetime.now(UTC).date()
MIDNIGHT = datetime.combine(TODAY, datetime.min.time(), UTC)
NOON = MIDNIGHT + timedelta(hours=12)
YESTERDAY = MIDNIGHT - timedelta(days=1)


async def looks(database: Database, edge_id: str, begin: datetime, latencies: list[float | None], every: float = 10) -> None:
    """Looks one after the other; None is one that was not answered. The load is 40 %."""
    rows = [
        {
            "edge_id": edge_id,
            "timestamp": begin + timedelta(seconds=every * number),
            "latency_ms": latency,
            "load_percent": None if latency is None else 40.0,
            "error_rate": 100.0 if latency is None else 0.0,
        }
        for number, latency in enumerate(latencies)
    ]
    await edges.put_edge(database, Edge(edge_id, "http://127.0.0.1:1"))
    async with database.begin() as connection:
        await connection.execute(edge_metrics.insert(), rows)


async def figures(database: Database) -> dict[tuple[str, date], RowMapping]:
    """What was written, by edge and day."""
    async with database.read() as connection:
        rows = (await connection.execute(select(edge_performance_daily))).mappings()
    return {(row["edge_id"], row["date"]): row for row in rows}


async def count(database: Database) -> int:
    """How many looks there are."""
    async with database.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(edge_metrics)) or 0)


def test_figures_of_looks(run: Run) -> None:
    """Means are of answered looks, errors are failed ones, and a day begins at midnight UTC and ends at the next."""

    async def story(database: Database) -> None:
        await looks(database, "a", MIDNIGHT - timedelta(seconds=10), [1000])  # yesterday's last
        await looks(database, "a", MIDNIGHT, [10, 20, None, 30])
        await looks(database, "a", MIDNIGHT + timedelta(days=1), [5000])  # tomorrow's first
        await roll_up_day(database, TODAY, MIDNIGHT + timedelta(seconds=40))
        assert set(await figures(database)) == {("a", TODAY)}
        row = (await figures(database))["a", TODAY]
        assert row["avg_latency_ms"] == pytest.approx(20)
        assert row["avg_load_percent"] == pytest.approx(40)
        assert row["uptime_percent"] == pytest.approx(75)
        assert row["error_count"] == 1
        assert (row["total_uploads"], row["total_bytes_transferred"], row["avg_upload_speed_mbps"]) == (0, 0, None)

    run(story)


def test_uptime_is_of_time_not_of_looks(run: Run) -> None:
    """An edge that is down is looked at less often, and each of those looks counts for longer, at most five minutes."""

    async def story(database: Database) -> None:
        await looks(database, "a", NOON, [5.0] * 60)  # ten minutes up
        await looks(database, "a", NOON + timedelta(minutes=10), [None, None], every=300)  # ten minutes down
        await looks(database, "b", NOON, [5.0])  # then nobody looked until the next day
        await looks(database, "b", NOON + timedelta(hours=2), [None], every=300)
        await roll_up_day(database, TODAY, MIDNIGHT + timedelta(days=2))
        rows = await figures(database)
        assert rows["a", TODAY]["uptime_percent"] == pytest.approx(50)
        assert rows["b", TODAY]["uptime_percent"] == pytest.approx(50)

    run(story)


def test_figures_of_uploads(run: Run) -> None:
    """Uploads, bytes, errors and speed come from chunks and sessions of the day, through edges that are known."""

    async def story(database: Database) -> None:
        await edges.put_edge(database, Edge("a", "http://127.0.0.1:1"))
        ended = MIDNIGHT + timedelta(seconds=50)
        await a_session(database, "s1", started_at=MIDNIGHT, completed_at=ended, speed=100)
        await a_session(database, "s2", started_at=MIDNIGHT, completed_at=ended, speed=300)
        await a_session(database, "s3", started_at=MIDNIGHT, completed_at=ended, speed=900, status="failed")
        early, late = MIDNIGHT - timedelta(seconds=1), MIDNIGHT + timedelta(seconds=1)
        for index, (session, through, at, size, status) in enumerate(
            [
                ("s1", "a", early, 1, "completed"),  # of yesterday
                ("s1", "a", late, 1000, "completed"),
                ("s1", "a", late, 200, "completed"),
                ("s1", "a", late, 0, "failed"),
                ("s2", "a", late, 30, "completed"),
                ("s2", DIRECT_ID, late, 7, "completed"),
                ("s2", "nobody", late, 1 << 30, "completed"),
                ("s3", "a", late, 0, "failed"),
                ("s3", "a", late, (1 << 63) - 1, "completed"),  # not believed
                ("s3", "a", late, 1 << 30, "uploading"),
            ]
        ):
            await a_chunk(database, session, index, through, now=at, size=size, status=status)
        await looks(database, "a", MIDNIGHT, [None])
        await roll_up_day(database, TODAY, NOON)
        rows = await figures(database)
        assert set(rows) == {("a", TODAY), (DIRECT_ID, TODAY)}
        edge, direct = rows["a", TODAY], rows[DIRECT_ID, TODAY]
        assert (edge["total_uploads"], edge["total_bytes_transferred"], edge["error_count"]) == (3, 1230, 3)
        assert edge["avg_upload_speed_mbps"] == pytest.approx(200)
        assert (direct["total_uploads"], direct["total_bytes_transferred"]) == (1, 7)
        assert direct["avg_upload_speed_mbps"] == pytest.approx(300)

    run(story)


def test_figures_are_written_anew(run: Run) -> None:
    """Again gives the same; later gives more. Yesterday's are written too."""

    async def story(database: Database) -> None:
        await looks(database, "a", YESTERDAY, [1, 3])
        await looks(database, "a", MIDNIGHT, [10])
        await roll_up(database, NOON)
        first = await figures(database)
        await roll_up(database, NOON)
        assert await figures(database) == first
        assert {key: row["avg_latency_ms"] for key, row in first.items()} == {("a", YESTERDAY.date()): 2, ("a", TODAY): 10}
        await looks(database, "a", MIDNIGHT + timedelta(seconds=10), [20])
        await roll_up(database, NOON)
        assert (await figures(database))["a", TODAY]["avg_latency_ms"] == 15

    run(story)


def test_days_without_figures_are_caught_up_with(run: Run) -> None:
    """After a week in which the service was off, the last day that it saw is finished before its looks are removed."""

    async def story(database: Database) -> None:
        long_ago = MIDNIGHT - timedelta(days=9)
        await looks(database, "a", long_ago, [10])
        await roll_up(database, long_ago + timedelta(seconds=15))
        await looks(database, "a", long_ago + timedelta(seconds=20), [30])
        await looks(database, "a", long_ago + timedelta(days=1), [50])
        await looks(database, "a", MIDNIGHT - timedelta(days=7), [70, 90])
        await roll_up(database, NOON)
        assert await prune_metrics(database, NOON) == 3
        assert await count(database) == 2
        await roll_up(database, NOON)
        means = {(TODAY - day).days: row["avg_latency_ms"] for (_, day), row in (await figures(database)).items()}
        assert means == {9: 20, 8: 50, 7: 80}

    run(story)


def test_a_first_start_writes_nothing(run: Run) -> None:
    """Without looks and uploads there are no figures."""

    async def story(database: Database) -> None:
        await roll_up(database, NOON)
        assert await prune_metrics(database, NOON) == 0
        assert await figures(database) == {}
        async with database.read() as connection:
            assert not (await connection.execute(select(upload_chunks))).all()

    run(story)

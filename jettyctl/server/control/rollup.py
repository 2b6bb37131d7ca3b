"""A day's figures of each edge, from what the monitor saw and what uploads said; and the end of old metrics.

The figures of a day are written anew each time, so it does not matter how often. Days since the last ones written are
caught up with, so that nothing is removed that no figure was made of. What a column means:

- avg_latency_ms, avg_load_percent: of the looks that were answered.
- uptime_percent: of the time. A look counts until the next one, for an edge that is down is looked at less often, but
  for no longer than that takes: where nobody looked, nothing is known.
- total_uploads, total_bytes_transferred: sessions with chunks that the edge carried that day, and these chunks' bytes.
- avg_upload_speed_mbps: the mean speed of the uploads that ended that day and of which the edge carried a part.
- error_count: failed looks and failed chunks.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, case, cast, delete, distinct, extract, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.server.control.database import Database
from jettyctl.server.control.monitor import BACK_OFF
from jettyctl.server.control.tables import (
    Moment,
    edge_locations,
    edge_metrics,
    edge_performance_daily,
    upload_chunks,
    upload_sessions,
)
from jettyctl.server.control.traffic import completed, count_of, failed, is_known, since_then, states_with_chunks, sum_of_bytes

KEPT = timedelta(days=7)  # of single looks
DAY = timedelta(days=1)

Figures = dict[str, dict[str, Any]]  # columns by edge id


async def roll_up(database: Database, now: datetime) -> None:
    """Write the figures of today, yesterday, and every day since the last that has any. Raises DatabaseDown."""
    for day in await _days(database, now.date()):
        await roll_up_day(database, day, now)


async def roll_up_day(database: Database, day: date, now: datetime) -> None:
    """Write the figures of one day, as far as it has come."""
    begin = datetime.combine(day, time(), UTC)
    seen = await _seen(database, begin, min(begin + DAY, now))
    async with database.read() as connection:
        carried = await _carried(connection, begin)
        speeds = await _speeds(connection, begin)
    rows = [_row(edge_id, day, seen, carried, speeds) for edge_id in sorted({*seen, *carried, *speeds})]
    if rows:
        write = database.insert(edge_performance_daily).values(rows)
        figures = [name for name in rows[0] if name not in ("edge_id", "date")]
        write = write.on_conflict_do_update(
            index_elements=["edge_id", "date"], set_={name: write.excluded[name] for name in figures}
        )
        async with database.begin() as connection:
            await connection.execute(write)


async def prune_metrics(database: Database, now: datetime) -> int:
    """Remove single looks of days that ended a week ago; how many. Whole days, whose figures `roll_up` wrote before."""
    end = datetime.combine((now - KEPT).date(), time(), UTC)
    async with database.begin() as connection:
        return (await connection.execute(delete(edge_metrics).where(edge_metrics.c.timestamp < end))).rowcount


async def _days(database: Database, today: date) -> list[date]:
    """From the last day that has figures, if its looks are still there, or from the first look; at least two days."""
    async with database.read() as connection:
        written = await connection.scalar(select(func.max(edge_performance_daily.c.date)))
        oldest = await connection.scalar(select(func.min(edge_metrics.c.timestamp)))
    first = today - DAY
    if oldest:
        first = min(first, max(oldest.date(), written or oldest.date()))
    return [first + number * DAY for number in range((today - first).days + 1)]


async def _seen(database: Database, begin: datetime, end: datetime) -> Figures:
    """What the monitor saw in [begin, end). Edge by edge: requests that need the database do not wait for all of it."""
    async with database.read() as connection:
        edge_ids = (await connection.scalars(select(edge_locations.c.id))).all()
    figures: Figures = {}
    for edge_id in edge_ids:
        async with database.read() as connection:
            row = (await connection.execute(_seen_of(database, edge_id, begin, end))).mappings().one()
        if row["looks"]:
            figures[edge_id] = dict(row)
    return figures


def _seen_of(database: Database, edge_id: str, begin: datetime, end: datetime) -> Select[Any]:
    """One row with the sums of an edge's looks."""
    at = edge_metrics.c.timestamp
    following = func.lead(at, type_=Moment()).over(order_by=at)
    lasted = _seconds(database, func.coalesce(following, literal(end, Moment()), type_=Moment()), at)
    looks = (
        select(
            edge_metrics.c.latency_ms,
            edge_metrics.c.load_percent,
            case((lasted > BACK_OFF, BACK_OFF), else_=lasted).label("lasted"),
        )
        .where(edge_metrics.c.edge_id == edge_id, at >= begin, at < end)
        .subquery()
    )
    answered = looks.c.latency_ms.is_not(None)
    return select(
        func.count().label("looks"),
        func.avg(looks.c.latency_ms).label("avg_latency_ms"),
        func.avg(looks.c.load_percent).label("avg_load_percent"),
        func.sum(case((answered, looks.c.lasted), else_=0.0)).label("up"),
        func.sum(looks.c.lasted).label("known"),
        count_of(~answered).label("failed"),
    )


async def _carried(connection: AsyncConnection, begin: datetime) -> Figures:
    """The chunks that ended on the day."""
    uploads = func.count(distinct(case((completed, upload_chunks.c.session_id))))
    query = (
        select(upload_chunks.c.edge_id, uploads.label("uploads"), sum_of_bytes().label("bytes"), count_of(failed).label("failed"))
        .select_from(states_with_chunks)
        .where(since_then(begin), upload_chunks.c.timestamp < begin + DAY, is_known())
        .group_by(upload_chunks.c.edge_id)
    )
    return {row["edge_id"]: dict(row) for row in (await connection.execute(query)).mappings()}


async def _speeds(connection: AsyncConnection, begin: datetime) -> Figures:
    """The uploads that ended on the day."""
    sessions = upload_sessions.c
    pairs = (
        select(upload_chunks.c.edge_id, sessions.id, sessions.avg_speed_mbps)
        .select_from(upload_sessions.join(upload_chunks, upload_chunks.c.session_id == sessions.id))
        .where(sessions.completed_at >= begin, sessions.completed_at < begin + DAY, sessions.status == "completed")
        .where(completed, is_known())
        .distinct()
        .subquery()
    )
    query = select(pairs.c.edge_id, func.avg(pairs.c.avg_speed_mbps).label("speed")).group_by(pairs.c.edge_id)
    return {row["edge_id"]: dict(row) for row in (await connection.execute(query)).mappings()}


def _row(edge_id: str, day: date, seen: Figures, carried: Figures, speeds: Figures) -> dict[str, Any]:
    looks, chunks, speed = seen.get(edge_id, {}), carried.get(edge_id, {}), speeds.get(edge_id, {})
    return {
        "edge_id": edge_id,
        "date": day,
        "avg_latency_ms": looks.get("avg_latency_ms"),
        "avg_load_percent": looks.get("avg_load_percent"),
        "total_uploads": chunks.get("uploads", 0),
        "total_bytes_transferred": int(chunks.get("bytes", 0)),
        "avg_upload_speed_mbps": speed.get("speed"),
        "uptime_percent": 100 * looks["up"] / looks["known"] if looks.get("known") else None,
        "error_count": looks.get("failed", 0) + chunks.get("failed", 0),
    }


def _seconds(database: Database, later: ColumnElement[datetime], earlier: ColumnElement[datetime]) -> ColumnElement[float]:
    """The time between two moments."""
    if database.dialect == "sqlite":
        return (func.julianday(later, type_=Float()) - func.julianday(earlier, type_=Float())) * 86400.0
    return cast(extract("epoch", later - earlier), Float())

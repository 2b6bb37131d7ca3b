"""What uploads tell of the edges that carried them.

The clients say through which edge each chunk went. A chunk's row has the time when it ended but not when it began, so
a rate is that of one session through one edge: the bytes of its chunks that ended in the window, over the time from
the later of the window's and the session's begin to the last of them. An upload may have paused or shared itself out,
so that is the least that the edge can do. The edge's bandwidth is the median of its sessions, and each session has one
vote in its errors: no single client can make an edge look good or bad.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Integer, case, func, select

from jettyctl.core.catalogue import DIRECT_ID
from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import edge_locations, session_states, upload_chunks, upload_sessions

LARGEST = 5 << 30  # bytes of a part, as S3 has it: a chunk that is told to be larger is not believed
SHORTEST = 0.1  # seconds: the rate of less is noise

completed = upload_chunks.c.status == "completed"
failed = upload_chunks.c.status == "failed"
states_with_chunks = session_states.join(upload_chunks, upload_chunks.c.session_id == session_states.c.session_id)


@dataclass(frozen=True, slots=True)
class Carried:
    """What one session sent through one edge: chunks that ended in a window of time."""

    edge_id: str
    size: int  # bytes of the completed ones
    completed: int
    failed: int
    seconds: float  # that the completed ones took


@dataclass(frozen=True, slots=True)
class Traffic:
    """What all sessions together say of an edge. `bandwidth_mbps` is None where nothing long enough was sent."""

    bandwidth_mbps: float | None
    sessions: int
    failing: float  # the sum of the sessions' failed shares, each 0..1


async def recent(database: Database, since: datetime) -> dict[str, Traffic]:
    """The traffic since then by edge id, of edges that the service knows."""
    last = func.max(case((completed, upload_chunks.c.timestamp)), type_=upload_chunks.c.timestamp.type)
    query = (
        select(upload_chunks.c.edge_id, upload_sessions.c.started_at, last, sum_of_bytes(), count_of(completed), count_of(failed))
        .select_from(states_with_chunks.join(upload_sessions, upload_sessions.c.id == session_states.c.session_id))
        .where(since_then(since), is_known())
        .group_by(upload_chunks.c.edge_id, upload_chunks.c.session_id, upload_sessions.c.started_at)
    )
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    return summed(
        Carried(edge_id, int(size), done, bad, (end - max(since, begun)).total_seconds() if end else 0.0)
        for edge_id, begun, end, size, done, bad in rows
    )


def summed(carried: Iterable[Carried]) -> dict[str, Traffic]:
    """All sessions' traffic by edge id."""
    by_edge: dict[str, list[Carried]] = {}
    for one in carried:
        if one.completed + one.failed:
            by_edge.setdefault(one.edge_id, []).append(one)
    return {edge_id: _traffic(sessions) for edge_id, sessions in by_edge.items()}


def _traffic(sessions: list[Carried]) -> Traffic:
    rates = [one.size * 8e-6 / one.seconds for one in sessions if one.size and one.seconds >= SHORTEST]
    failing = sum(one.failed / (one.completed + one.failed) for one in sessions)
    return Traffic(statistics.median(rates) if rates else None, len(sessions), failing)


def since_then(since: datetime) -> ColumnElement[bool]:
    """Chunks that changed since. A session's state changes with each of its chunks, so old sessions are left out first."""
    return (session_states.c.updated_at >= since) & (upload_chunks.c.timestamp >= since)


def is_known() -> ColumnElement[bool]:
    """The edge of a chunk is one of ours, or the direct route: the id is a client's word."""
    ours = upload_chunks.c.edge_id.in_(select(edge_locations.c.id))
    return ours | (upload_chunks.c.edge_id == DIRECT_ID)


def sum_of_bytes() -> ColumnElement[int]:
    """The bytes of completed chunks, of those that can be true."""
    size = upload_chunks.c.bytes_uploaded
    return func.coalesce(func.sum(case((completed & size.between(0, LARGEST), size), else_=0)), 0)


def count_of(what: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows of a group are so."""
    return func.coalesce(func.sum(case((what, 1), else_=0), type_=Integer()), 0)

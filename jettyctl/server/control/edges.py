"""The edges that this service knows, and what the monitor saw of each last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from jettyctl.core.catalogue import CATALOGUE, edge_of
from jettyctl.core.scoring import STALE, Edge, EdgeMetrics
from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import edge_locations, edge_metrics

REFRESH_SECONDS = 2.0
OLDEST_SECONDS = 30.0  # a copy that nobody asked for so long is not worth an answer

Active = tuple[tuple[Edge, ...], Mapping[str, EdgeMetrics]]


@dataclass(frozen=True, slots=True)
class KnownEdge:
    """An edge with what the table holds beside its address. `metrics` are the newest; None: it was never looked at."""

    edge: Edge
    provider: str
    created_at: datetime
    metrics: EdgeMetrics | None
    answered: bool  # the newest look
    active_uploads: int | None


class EdgeDirectory:
    """The active edges for requests that need them at once: a copy in this process, read again in the background.

    The copy may be `seconds` old, and one request more. `refresh` after a change makes it new.
    """

    def __init__(self, database: Database, seconds: float = REFRESH_SECONDS) -> None:
        self._database = database
        self._seconds = seconds
        self._copy: Active = ((), {})
        self._read_at = -OLDEST_SECONDS - seconds  # monotonic
        self._reading: asyncio.Task[None] | None = None

    async def active(self) -> Active:
        """The active edges by id, and the newest metrics of each that has any.

        Waits for the database only if there is no copy, or a very old one; raises DatabaseDown then.
        """
        age = time.monotonic() - self._read_at
        if age > OLDEST_SECONDS:
            await asyncio.shield(self._read_again())  # others wait for it too
        elif age > self._seconds:
            self._read_again()
        return self._copy

    async def refresh(self) -> None:
        """Read the edges again, after a change of them. Raises DatabaseDown."""
        await self._read()

    async def close(self) -> None:
        """End a reading that is under way."""
        if self._reading and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def _read_again(self) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="edges")
            self._reading.add_done_callback(_seen)
        return self._reading

    async def _read(self) -> None:
        begun = time.monotonic()
        async with self._database.read() as connection:
            known = await _known(connection, _newest().where(edge_locations.c.is_active))
        if begun > self._read_at:  # not overtaken by a reading that began later
            metrics = {one.edge.id: one.metrics for one in known if one.metrics}
            self._copy, self._read_at = (tuple(one.edge for one in known), metrics), begun


async def list_edges(database: Database) -> list[KnownEdge]:
    """All edges by id, those that are not active too."""
    async with database.read() as connection:
        return await _known(connection, _newest())


async def put_edge(database: Database, edge: Edge, provider: str = "") -> bool:
    """Add an edge, or replace the one with its id. True if it is new. The caller has checked it.

    Metrics of another address go: what was seen there says nothing of this one.
    """
    values = {
        "url": edge.url,
        "city": edge.city,
        "country": edge.country,
        "lat": edge.lat,
        "lng": edge.lng,
        "provider": provider,
        "is_active": edge.enabled,
        "cost_per_gib": edge.cost_per_gib,
    }
    write = database.insert(edge_locations).values(id=edge.id, created_at=datetime.now(UTC), **values)
    async with database.begin() as connection:
        before = await connection.scalar(select(edge_locations.c.url).where(edge_locations.c.id == edge.id))
        await connection.execute(write.on_conflict_do_update(index_elements=["id"], set_=values))
        if before not in (None, edge.url):
            await connection.execute(delete(edge_metrics).where(edge_metrics.c.edge_id == edge.id))
    return before is None


async def remove_edge(database: Database, edge_id: str) -> bool:
    """Forget an edge and its metrics; its daily figures stay. False if it is not known."""
    async with database.begin() as connection:
        await connection.execute(delete(edge_metrics).where(edge_metrics.c.edge_id == edge_id))
        gone = await connection.execute(delete(edge_locations).where(edge_locations.c.id == edge_id))
    return gone.rowcount > 0


async def seed(connection: AsyncConnection, domain: str) -> None:
    """The edges of the catalogue, for a table that is empty: an edge that was removed does not come back."""
    if not await connection.scalar(select(func.count()).select_from(edge_locations)):
        await connection.execute(edge_locations.insert(), catalogue_rows(domain))


def catalogue_rows(domain: str) -> list[dict[str, Any]]:
    """The 20 edges of the catalogue as rows of `edge_locations`."""
    now = datetime.now(UTC)
    edges = [edge_of(template, domain) for template in CATALOGUE.values()]
    return [
        {
            "id": edge.id, "url": edge.url, "city": edge.city, "country": edge.country, "lat": edge.lat, "lng": edge.lng,
            "provider": "", "is_active": True, "created_at": now,
        }
        for edge in edges
    ]  # fmt: skip


def _newest() -> Select[Any]:
    """Each edge with its newest metrics: one look into the primary key for each edge, however long the history is."""
    other = edge_metrics.alias()
    latest = select(func.max(other.c.timestamp)).where(other.c.edge_id == edge_locations.c.id).correlate(edge_locations)
    of_edge = (edge_metrics.c.edge_id == edge_locations.c.id) & (edge_metrics.c.timestamp == latest.scalar_subquery())
    measured = [column for column in edge_metrics.c if column.name != "edge_id"]
    both = edge_locations.outerjoin(edge_metrics, of_edge)
    return select(edge_locations, *measured).select_from(both).order_by(edge_locations.c.id)


async def _known(connection: AsyncConnection, query: Select[Any]) -> list[KnownEdge]:
    rows = (await connection.execute(query)).mappings().all()
    return [
        KnownEdge(
            _edge(row),
            row["provider"],
            row["created_at"],
            _metrics(row),
            row["latency_ms"] is not None,
            row["active_uploads"],
        )
        for row in rows
    ]


def _edge(row: RowMapping) -> Edge:
    place = (row["city"], row["country"], row["lat"], row["lng"])
    return Edge(row["id"], row["url"], *place, row["cost_per_gib"], row["is_active"])


def _metrics(row: RowMapping) -> EdgeMetrics | None:
    """A value that the edge did not state stays None. A look that was not answered counts as slow."""
    if row["timestamp"] is None:
        return None
    latency = STALE.latency_ms if row["latency_ms"] is None else row["latency_ms"]
    errors = STALE.error_rate if row["error_rate"] is None else row["error_rate"]
    return EdgeMetrics(latency, row["load_percent"], row["bandwidth_mbps"], errors, row["timestamp"].timestamp())


def _seen(task: asyncio.Task[None]) -> None:
    """A failure in the background is not lost: the copy grows old, and who then waits for a new one is told."""
    if not task.cancelled():
        task.exception()

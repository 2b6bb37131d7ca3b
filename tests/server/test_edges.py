"""The edges that the service knows: the table, the copy that requests use, and the endpoints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from jettyctl.core.scoring import Edge, EdgeMetrics
from jettyctl.server.control import edges
from jettyctl.server.control.database import Database, DatabaseDown
from jettyctl.server.control.edges import EdgeDirectory
from jettyctl.server.control.tables import edge_metrics
from tests.support.plane import PlaneProcess, with_database

Run = Callable[[Callable[[Database], Coroutine[Any, Any, None]]], None]

OFFICE = Edge("office", "http://192.0.2.7:53777", "Bonn", "DE", 50.73, 7.1, 0.05)


async def seen(database: Database, edge_id: str, latency: float | None, ago: float = 0, errors: float = 0) -> float:
    """A row of metrics; its time."""
    at = datetime.now(UTC) - timedelta(seconds=ago)
    async with database.begin() as connection:
        await connection.execute(
            edge_metrics.insert().values(edge_id=edge_id, timestamp=at, latency_ms=latency, error_rate=errors)
        )
    return at.timestamp()


def test_the_catalogue_is_there_once(run: Run) -> None:
    """An empty table gets the 20 edges with the service's domain; one that was removed does not come back."""

    async def story(database: Database) -> None:
        for _ in range(2):
            async with database.begin() as connection:
                await edges.seed(connection, "example.net")
            known = await edges.list_edges(database)
            assert len(known) == 20
        assert {one.edge.url for one in known} >= {"https://fra.example.net", "https://sao.example.net"}
        assert await edges.remove_edge(database, "fra-1")
        async with database.begin() as connection:
            await edges.seed(connection, "example.net")
        assert len(await edges.list_edges(database)) == 19

    run(story)


def test_an_edge_comes_changes_and_goes(run: Run) -> None:
    """Put says whether the edge is new; what was put is listed; removed it is gone, with its metrics."""

    async def story(database: Database) -> None:
        assert await edges.put_edge(database, OFFICE, "own")
        (one,) = await edges.list_edges(database)
        assert (one.edge, one.provider, one.metrics, one.answered) == (OFFICE, "own", None, False)
        moved = Edge("office", "http://192.0.2.8", enabled=False)
        await seen(database, "office", 5)
        assert not await edges.put_edge(database, moved)
        (other,) = await edges.list_edges(database)
        assert (other.edge, other.metrics, other.created_at) == (moved, None, one.created_at)
        await seen(database, "office", 5)
        assert not await edges.put_edge(database, moved, "same place")
        assert (await edges.list_edges(database))[0].metrics
        assert await edges.remove_edge(database, "office")
        assert not await edges.remove_edge(database, "office")
        await edges.put_edge(database, moved)
        assert (await edges.list_edges(database))[0].metrics is None

    run(story)


def test_the_directory_has_active_edges_and_their_newest_metrics(run: Run) -> None:
    """Older metrics, and edges that are not active, are left out; what was not answered counts as slow."""

    async def story(database: Database) -> None:
        for name in ("c", "a", "b"):
            await edges.put_edge(database, Edge(name, f"http://{name}.test"))
        await edges.put_edge(database, Edge("off", "http://off.test", enabled=False))
        await seen(database, "a", 900, ago=60)
        newest = await seen(database, "a", 5)
        down = await seen(database, "b", None, errors=100)
        await seen(database, "off", 5)
        active, metrics = await EdgeDirectory(database).active()
        assert [edge.id for edge in active] == ["a", "b", "c"]
        assert metrics == {
            "a": EdgeMetrics(5, None, None, 0, newest),
            "b": EdgeMetrics(500, None, None, 100, down),
        }
        assert not metrics["b"].reachable

    run(story)


def test_requests_share_one_reading(run: Run) -> None:
    """A hundred requests at a cold start cost one query; warm ones cost none until the copy is old."""

    async def story(database: Database) -> None:
        statements: list[str] = []
        event.listen(database._engine.sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        await edges.put_edge(database, OFFICE)
        statements.clear()
        directory = EdgeDirectory(database, seconds=0.3)
        answers = await asyncio.gather(*(directory.active() for _ in range(100)))
        assert {active for active, _ in answers} == {(OFFICE,)}
        assert len(statements) == 1
        await asyncio.sleep(0.35)
        for _ in range(100):
            await directory.active()
        await asyncio.sleep(0.2)
        assert len(statements) == 2
        await directory.close()

    run(story)


def test_a_warm_directory_never_waits(run: Run) -> None:
    """While the database does not answer, requests get the copy at once; afterwards they get what is new."""

    async def story(database: Database) -> None:
        await edges.put_edge(database, OFFICE)
        directory = EdgeDirectory(database, seconds=0.0)
        await directory.active()
        async with database.begin():  # the only connection, on SQLite
            begin = time.monotonic()
            for _ in range(1000):
                assert (await directory.active())[0] == (OFFICE,)
                await asyncio.sleep(0)
            assert time.monotonic() - begin < 1
        await edges.put_edge(database, Edge("a", "http://a.test"))
        await directory.refresh()
        assert len((await directory.active())[0]) == 2
        await directory.close()

    run(story)


def test_without_a_database_there_is_no_answer() -> None:
    """A cold directory says that the database is down, each time anew."""

    async def story() -> None:
        database = Database("postgresql://nobody@127.0.0.1:1/none")
        directory = EdgeDirectory(database)
        for _ in range(2):
            with pytest.raises(DatabaseDown):
                await directory.active()
        await directory.close()
        await database.close()

    asyncio.run(story())


def test_admins_put_and_remove_edges(admin: httpx.Client, client: httpx.Client) -> None:
    """Everybody with a key sees the edges; admins add (201), replace (200) and remove (204) them."""
    path = "/api/jetty/edges/office"
    body = {"url": "http://127.0.0.1:9", "city": "Bonn", "lat": 50.5, "lng": 7, "costPerGib": 0.05, "provider": "own"}
    added = admin.put(path, json=body)
    assert added.status_code == 201
    assert added.json() == {
        **body, "id": "office", "country": "", "isActive": True, "metrics": None, "createdAt": added.json()["createdAt"],
    }  # fmt: skip
    assert added.json() in client.get("/api/jetty/edges").json()["edges"]
    off = admin.put(path, json={"url": "http://127.0.0.1:9", "isActive": False})
    assert (off.status_code, off.json()["isActive"], off.json()["city"]) == (200, False, "")
    assert [admin.delete(path).status_code for _ in range(2)] == [204, 404]
    assert "office" not in [edge["id"] for edge in client.get("/api/jetty/edges").json()["edges"]]


def test_who_is_no_admin_changes_nothing(client: httpx.Client, plane: PlaneProcess) -> None:
    """Keys that may write, and no key, are refused."""
    path = "/api/jetty/edges/office"
    assert client.put(path, json={"url": "http://127.0.0.1:9"}).status_code == 403
    assert client.delete("/api/jetty/edges/fra-1").status_code == 403
    with plane.client() as nobody:
        assert nobody.get("/api/jetty/edges").status_code == 401
    assert len(client.get("/api/jetty/edges").json()["edges"]) == 20


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": 5},
        {"url": "ftp://edge.test"},
        {"url": "http://user:secret@edge.test"},
        {"url": "http://edge.test/?key=secret"},
        {"url": "http://edge.test", "lat": 50.0},
        {"url": "http://edge.test", "lat": 91.0, "lng": 0.0},
        {"url": "http://edge.test", "costPerGib": -1},
        {"url": "http://edge.test", "isActive": "yes"},
    ],
    ids=str,
)
def test_what_is_no_edge(admin: httpx.Client, body: dict[str, object]) -> None:
    """A wrong edge is 400, and what may be a secret is not repeated."""
    refused = admin.put("/api/jetty/edges/office", json=body)
    assert refused.status_code == 400
    assert "secret" not in refused.text


@pytest.mark.parametrize("name", ["lyve-direct", "direct", "UPPER", "-a", "a" * 64, "a.b"])
def test_what_no_edge_is_called(admin: httpx.Client, name: str) -> None:
    """Names of the direct route, and those that are no names, are 400."""
    assert admin.put(f"/api/jetty/edges/{name}", json={"url": "http://127.0.0.1:9"}).status_code == 400


def test_the_list_shows_the_newest_look(client: httpx.Client, plane: PlaneProcess) -> None:
    """An edge that did not answer has no latency; metrics say how old they are, and whether they count."""

    async def look(database: Database) -> None:
        await seen(database, "ams-1", 5.5, ago=301)
        await seen(database, "fra-1", None, errors=100)

    with_database(plane.settings.database_url, look)
    listed = {edge["id"]: edge["metrics"] for edge in client.get("/api/jetty/edges").json()["edges"]}
    assert listed["lon-1"] is None
    assert (listed["ams-1"]["latency"], listed["ams-1"]["answered"], listed["ams-1"]["fresh"]) == (5.5, True, False)
    assert (listed["fra-1"]["latency"], listed["fra-1"]["answered"], listed["fra-1"]["fresh"]) == (None, False, True)
    assert listed["fra-1"]["errorRate"] == 100

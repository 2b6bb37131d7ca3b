"""POST /api/jetty/optimal-edges: every field and status of the contract."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.plane import PlaneProcess, claim

PATH = "/api/jetty/optimal-edges"
DIRECT = "lyve-direct"


def asked(**fields: object) -> dict[str, Any]:
    """The body for a file that nobody sent."""
    return {"userId": "usr_1", "fileSize": 1 << 30, "fileHash": f"sha256:{uuid.uuid4().hex * 2}", **fields}


def test_a_new_file(client: httpx.Client) -> None:
    """A strategy by the size table, five edges and the direct route, and no duplicate."""
    reply = client.post(PATH, json=asked())
    assert reply.status_code == 200
    body = reply.json()
    assert sorted(body) == ["duplicate", "edges", "strategy"]
    assert body["duplicate"] is None
    strategy = body["strategy"]
    assert sorted(strategy) == ["chunkSize", "compression", "estimatedCost", "estimatedTime", "threads"]
    assert (strategy["chunkSize"], strategy["threads"], strategy["compression"]) == (50 << 20, 24, "none")
    assert strategy["estimatedCost"] == pytest.approx(0.10)
    assert strategy["estimatedTime"] == pytest.approx((1 << 30) * 8 / 10e6, rel=1e-3)
    edges = body["edges"]
    assert len(edges) == 6
    assert all(sorted(edge) == ["distance", "fresh", "id", "latency", "load", "url", "weight"] for edge in edges)
    assert math.fsum(edge["weight"] for edge in edges) == pytest.approx(1)
    direct = edges[-1]
    assert (direct["id"], direct["url"]) == (DIRECT, "https://s3.lyvecloud.seagate.com")
    assert direct["weight"] == pytest.approx(0.70)  # nobody has measured an edge
    assert not any(edge["fresh"] for edge in edges)


def test_distance(client: httpx.Client) -> None:
    """From a place the nearest edge is the best of those that nobody measured, and distances are told."""
    body = client.post(PATH, json=asked(userLocation={"lat": 50.1, "lng": 8.7, "city": "Frankfurt"})).json()
    assert body["edges"][0]["id"] == "fra-1"
    assert body["edges"][0]["distance"] < 10
    without = client.post(PATH, json=asked()).json()
    assert all(edge["distance"] is None for edge in without["edges"])


@pytest.mark.parametrize(
    ("size", "chunk_size", "threads"),
    [
        (0, 10 << 20, 16),
        ((100 << 20) - 1, 10 << 20, 16),
        (100 << 20, 50 << 20, 24),
        ((10 << 30) - 1, 50 << 20, 24),
        (10 << 30, 100 << 20, 32),
        (2 << 40, 210 << 20, 32),
    ],
)
def test_strategy_by_size(client: httpx.Client, size: int, chunk_size: int, threads: int) -> None:
    """The table's rows to the byte; chunks grow where there would be more than 10,000."""
    strategy = client.post(PATH, json=asked(fileSize=size)).json()["strategy"]
    assert (strategy["chunkSize"], strategy["threads"]) == (chunk_size, threads)


@pytest.mark.parametrize("priority", ["speed", "cost", "balanced", None])
def test_priorities(client: httpx.Client, priority: str | None) -> None:
    """Each of the three is taken, and none is one of them."""
    assert client.post(PATH, json=asked(priority=priority)).status_code == 200


def test_budget(client: httpx.Client) -> None:
    """What costs more than the budget is left out; when that is everything the direct route is left, and a message."""
    body = client.post(PATH, json=asked(budget=0.01)).json()
    assert [edge["id"] for edge in body["edges"]] == [DIRECT]
    assert body["edges"][0]["weight"] == 1
    assert "0.01 USD" in body["message"]
    assert len(client.post(PATH, json=asked(budget=0.2)).json()["edges"]) == 6


def test_a_known_file(client: httpx.Client) -> None:
    """A file that the user has is named, with what not sending it again saves."""
    body = asked()
    file_id = claim(client, "usr_1", body["fileHash"], "a.bin", 1 << 30)
    reply = client.post(PATH, json=body).json()
    duplicate = reply["duplicate"]
    assert sorted(duplicate) == ["fileId", "message", "savedBytes", "savedCost", "url"]
    assert (duplicate["fileId"], duplicate["savedBytes"]) == (file_id, 1 << 30)
    assert duplicate["savedCost"] == pytest.approx(0.10)


def test_a_file_of_another_user(client: httpx.Client, other: httpx.Client) -> None:
    """What another user has is not told."""
    body = asked()
    claim(other, "usr_2", body["fileHash"], "a.bin", 1 << 30)
    assert client.post(PATH, json=body).json()["duplicate"] is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"userId": ""}, "userId"),
        ({"fileSize": None}, "fileSize"),
        ({"fileSize": "1"}, "fileSize"),
        ({"fileSize": 2**63 - 1}, "fileSize"),
        ({"fileHash": 1}, "fileHash"),
        ({"fileName": 1}, "fileName"),
        ({"userLocation": {"lat": 91, "lng": 0}}, "userLocation.lat"),
        ({"userLocation": {"lat": 0}}, "userLocation.lng"),
        ({"userLocation": {"lat": 0, "lng": 0, "city": 5}}, "userLocation.city"),
        ({"userLocation": "Berlin"}, "userLocation"),
        ({"priority": "cheap"}, "priority"),
        ({"budget": -1}, "budget"),
        ({"budget": "1"}, "budget"),
    ],
)
def test_invalid_fields(client: httpx.Client, change: dict[str, object], named: str) -> None:
    """A field of a wrong type or range is refused with its name."""
    reply = client.post(PATH, json=asked(**change))
    assert (reply.status_code, sorted(reply.json())) == (400, ["details", "error"])
    assert named in reply.json()["details"]


@pytest.fixture
def no_edges(plane: PlaneProcess, admin: httpx.Client) -> Iterator[None]:
    """While the test runs no edge is active."""
    known = admin.get("/api/jetty/edges").json()["edges"]
    for edge in known:
        put(admin, edge, active=False)
    yield
    for edge in known:
        put(admin, edge, active=True)


def put(admin: httpx.Client, edge: dict[str, Any], *, active: bool) -> None:
    fields = ("url", "city", "country", "lat", "lng", "provider", "costPerGib")
    body = {name: edge[name] for name in fields if edge.get(name) is not None}
    admin.put(f"/api/jetty/edges/{edge['id']}", json={**body, "isActive": active}).raise_for_status()


def test_no_active_edge(client: httpx.Client, no_edges: None) -> None:
    """Without an active edge the answer is 503, with a time to come back."""
    reply = client.post(PATH, json=asked())
    assert (reply.status_code, reply.json()["error"], reply.headers["retry-after"]) == (503, "no active edge", "10")

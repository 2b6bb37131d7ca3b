"""`python -m tests.bench server`: the control plane under load, on a real Postgres and a real Valkey.

First 50 clients at a steady rate over the four endpoints, then 200 live sessions that commit chunks as fast as they are
acknowledged; at the end every acknowledged chunk must be in the database. The load maker shares the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import uvloop
from sqlalchemy import func, select, text

from jettyctl.server.control import keys, schema
from jettyctl.server.control.database import Database
from jettyctl.server.control.settings import LIMITS
from jettyctl.server.control.tables import edge_metrics, upload_chunks
from tests.bench.http_load import Call, Connection, Measured, paced, percentile
from tests.support.databases import Backend, Postgres, Valkey
from tests.support.plane import PlaneProcess, plane_settings

CLIENTS, SESSIONS = 50, 200
GOALS = {"check-duplicate": 10.0, "optimal-edges": 20.0, "cache-chunk": 10.0, "track-upload": 20.0}  # p99, ms
SHARES = {"cache-chunk": 45, "check-duplicate": 25, "track-upload": 20, "optimal-edges": 10}  # percent: within the limits


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench server", description=__doc__)
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second in all (default: %(default)g)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each part (default: %(default)g)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the service (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    return parser.parse_args(given)


class Client:
    """One user of the contract: its uploads, and the next request that it makes."""

    def __init__(self, user: str, seed: int) -> None:
        self.user = user
        self._draw = random.Random(seed)
        self._session = str(uuid.UUID(int=self._draw.getrandbits(128)))
        self._sessions: list[str] = []
        self._chunk = 0

    def next(self) -> Call:
        """A request of one of the four kinds."""
        kind = self._draw.choices(list(SHARES), list(SHARES.values()))[0]
        return getattr(self, "_" + kind.replace("-", "_"))()  # type: ignore[no-any-return] # one of the methods below

    def keep(self, session_id: str) -> None:
        """A tracked upload to report progress of."""
        self._sessions.append(session_id)

    def _check_duplicate(self) -> Call:
        body = {"fileHash": f"sha256:{self._draw.getrandbits(256):064x}", "userId": self.user}
        return Call("check-duplicate", "POST", "/api/jetty/check-duplicate", body)

    def _optimal_edges(self) -> Call:
        place = {"lat": self._draw.uniform(-60, 60), "lng": self._draw.uniform(-180, 180)}
        size, file_hash = self._draw.randrange(1 << 34), f"sha256:{self._draw.getrandbits(256):064x}"
        body = {"userId": self.user, "fileSize": size, "fileHash": file_hash, "userLocation": place}
        return Call("optimal-edges", "POST", "/api/jetty/optimal-edges", body)

    def _cache_chunk(self) -> Call:
        self._chunk += 1
        return Call("cache-chunk", "POST", "/api/jetty/cache-chunk", chunk(self._session, self._chunk))

    def start(self) -> Call:
        """The start of a tracked upload."""
        file_hash = f"sha256:{self._draw.getrandbits(256):064x}"
        return _tracked(action="start", userId=self.user, fileName="load.bin", fileSize=1 << 30, fileHash=file_hash)

    def _track_upload(self) -> Call:
        session = self._draw.choice(self._sessions)
        action = self._draw.choice(("progress", "progress", "progress", "complete", "start"))
        if action == "start":
            return self.start()
        if action == "complete":
            return _tracked(action=action, sessionId=session)
        return _tracked(action=action, sessionId=session, chunksCompleted=3, bytesUploaded=150 << 20)


def _tracked(**body: object) -> Call:
    return Call("track-upload", "POST", "/api/jetty/track-upload", body)


def chunk(session_id: str, index: int) -> dict[str, object]:
    """A finished chunk."""
    return {"sessionId": session_id, "chunkIndex": index, "status": "completed", "chunkHash": f"crc64nvme:{index:016x}",
            "bytesUploaded": 8 << 20}  # fmt: skip


async def prepare(database_url: str, users: int) -> list[str]:
    """A key for each user, and fresh metrics for every edge, so that all of the ranking is at work."""
    database = Database(database_url)
    made = [
        (await keys.create(database, user_id=f"usr_{n}", tenant_id="load", scopes=("read", "write"), expires_at=None))[1]
        for n in range(users)
    ]
    async with database.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO edge_metrics"
                " (edge_id, timestamp, latency_ms, load_percent, bandwidth_mbps, active_uploads, error_rate)"
                " SELECT id, now(), 20 + 300 * random(), 50 * random(), 900 * random(), 3, 0 FROM edge_locations"
            )
        )
        assert await connection.scalar(select(func.count()).select_from(edge_metrics))
    await database.close()
    return made


async def contract_load(plane: PlaneProcess, made: list[str], rate: float, seconds: float) -> Measured:
    """The four endpoints at a steady rate."""
    clients = [Client(f"usr_{n}", n) for n in range(CLIENTS)]
    connections = [Connection("127.0.0.1", plane.port, key) for key in made[:CLIENTS]]
    for client, connection in zip(clients, connections, strict=True):
        for _ in range(3):
            status, body = await connection.send(client.start())
            assert status == 200, body
            client.keep(json.loads(body)["session"]["sessionId"])
    measured = await paced(connections, lambda index: clients[index].next(), rate=rate, seconds=seconds)
    for connection in connections:
        connection.close()
    return measured


async def commit_load(plane: PlaneProcess, made: list[str], seconds: float) -> tuple[dict[str, set[int]], list[float]]:
    """Sessions that send one chunk after the other: what was acknowledged, and how long each took."""
    acknowledged: dict[str, set[int]] = defaultdict(set)
    took: list[float] = []
    ends = time.perf_counter() + seconds

    async def session(key: str) -> None:
        session_id, index = str(uuid.uuid4()), 0
        connection = Connection("127.0.0.1", plane.port, key)
        while time.perf_counter() < ends:
            began = time.perf_counter()
            status, body = await connection.send(Call("", "POST", "/api/jetty/cache-chunk", chunk(session_id, index)))
            if status == 429:  # faster than one user may be
                await asyncio.sleep(1)
                continue
            assert status == 200, body
            took.append(time.perf_counter() - began)
            acknowledged[session_id].add(index)
            index += 1
        connection.close()

    await asyncio.gather(*(session(key) for key in made))
    return acknowledged, took


async def stored(database_url: str) -> dict[str, set[int]]:
    """The chunks that the database has."""
    database, found = Database(database_url), defaultdict[str, set[int]](set)
    async with database.read() as connection:
        rows = await connection.execute(select(upload_chunks.c.session_id, upload_chunks.c.chunk_index))
        for row in rows:
            found[row.session_id].add(row.chunk_index)
    await database.close()
    return found


def table(measured: Measured, seconds: float) -> list[dict[str, Any]]:
    """Print a row for each endpoint; the same as records."""
    print(f"\n{measured.count / seconds:.0f} requests/s from {CLIENTS} clients for {seconds:g} s")
    print(f"{'':18}{'requests':>9}{'p50 ms':>9}{'p99 ms':>9}{'goal ms':>9}")
    rows = []
    for name, goal in GOALS.items():
        taken = measured.seconds[name]
        p50, p99 = percentile(taken, 0.5) * 1000, percentile(taken, 0.99) * 1000
        verdict = "" if p99 <= goal else "  MISSED"
        print(f"{name:18}{len(taken):9}{p50:9.2f}{p99:9.2f}{goal:9.0f}{verdict}")
        rows.append({"endpoint": name, "requests": len(taken), "p50_ms": p50, "p99_ms": p99, "goal_ms": goal,
                     "statuses": dict(measured.statuses[name])})  # fmt: skip
    print("statuses: " + ", ".join(f"{name} {dict(found)}" for name, found in measured.statuses.items()))
    return rows


def main(given: list[str]) -> int:
    options = arguments(given)
    with (
        tempfile.TemporaryDirectory(prefix="jettyctl-bench-") as directory,
        Postgres(durable=True) as postgres,
        Valkey() as valkey,
    ):
        database_url = postgres.url()
        schema.upgrade(database_url, "edges.invalid")
        made = uvloop.run(prepare(database_url, SESSIONS))
        settings = plane_settings(
            Backend(database_url, valkey.url),
            Path(directory),
            workers=options.workers,
            limits=LIMITS,
            quiet=True,
        )
        with PlaneProcess(settings, Path(directory)) as plane:
            uvloop.run(contract_load(plane, made, options.rate, 5))  # warm
            measured = uvloop.run(contract_load(plane, made, options.rate, options.seconds))
            rows = table(measured, options.seconds)
            acknowledged, took = uvloop.run(commit_load(plane, made, options.seconds))
            found = uvloop.run(stored(database_url))
        count = sum(map(len, acknowledged.values()))
        lost = sum(len(indices - found[session]) for session, indices in acknowledged.items())
        p50, p99 = percentile(took, 0.5) * 1000, percentile(took, 0.99) * 1000
        print(
            f"\n{SESSIONS} sessions for {options.seconds:g} s: {count} chunks acknowledged, {count / options.seconds:.0f}/s, "
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms; lost: {lost}"
        )
    if options.json:
        figures = {"endpoints": rows, "chunks": {"acknowledged": count, "lost": lost, "p50_ms": p50, "p99_ms": p99}}
        Path(options.json).write_text(json.dumps(figures, indent=1))
    return 0 if not lost and all(row["p99_ms"] <= row["goal_ms"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

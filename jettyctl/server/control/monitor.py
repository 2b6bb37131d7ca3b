"""Looks at the edges: does each answer GET /health, how fast, how loaded is it, what do uploads say of it?

The reading is that of the client's probe (`edges/probe.py`), with one sample a round on a connection of its own. Nothing
secret is sent, no redirect is followed, the environment's proxies are not asked, and an answer costs at most
LOOK_SECONDS and ANSWER_LIMIT bytes. An edge that does not answer is looked at less and less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import select

from jettyctl.core.edge_rules import check_url, health_of
from jettyctl.core.scoring import UNREACHABLE
from jettyctl.errors import UsageError
from jettyctl.server.control import traffic
from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import edge_locations, edge_metrics
from jettyctl.server.control.traffic import Traffic

LOOK_SECONDS = 5.0
ANSWER_LIMIT = 64 << 10  # bytes
AT_ONCE = 32  # edges looked at at the same time
LOOKS = 30  # that the error rate counts
TRAFFIC_SECONDS = 300.0  # of uploads that bandwidth and errors are taken from
PATIENCE = 3  # failed looks until an edge is looked at less often
BACK_OFF = 300.0  # seconds: the longest that an edge is left alone


@dataclass(frozen=True, slots=True)
class Look:
    """One answer. `latency_ms` is the time from the request to the head of the answer, without the connection's."""

    latency_ms: float
    load: float | None  # percent
    active: int | None


@dataclass(slots=True)
class _Watch:
    """One edge over the rounds."""

    url: str
    answered: deque[bool] = field(default_factory=lambda: deque(maxlen=LOOKS))
    failures: int = 0  # in a row
    due: float = 0.0  # monotonic

    def saw(self, look: Look | None, now: float, seconds: float) -> None:
        self.answered.append(look is not None)
        self.failures = 0 if look else self.failures + 1
        self.due = now + wait(self.failures, seconds)


class Monitor:
    """Writes a row for each edge that it looked at, all of a round in one transaction. `seconds` is between two rounds."""

    def __init__(self, database: Database, seconds: float, tls: ssl.SSLContext) -> None:
        self._database = database
        self._seconds = seconds
        self._tls = tls
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._watches: dict[str, _Watch] = {}

    async def round(self) -> int:
        """Look at all edges that are due; how many rows were written. Raises DatabaseDown; an edge is never the reason."""
        begun, now = datetime.now(UTC), time.monotonic()
        self._follow(await self._active())
        due = {edge_id: watch for edge_id, watch in self._watches.items() if watch.due <= now}
        looks = await asyncio.gather(*(self._look(watch.url) for watch in due.values()))
        for watch, look in zip(due.values(), looks, strict=True):
            watch.saw(look, now, self._seconds)
        told: Mapping[str, Traffic] = {}
        if any(looks):
            told = await traffic.recent(self._database, begun - timedelta(seconds=TRAFFIC_SECONDS))
        rows = [
            {"edge_id": edge_id, "timestamp": begun, **_row(look, watch, told.get(edge_id))}
            for (edge_id, watch), look in zip(due.items(), looks, strict=True)
        ]
        return await self._write(rows)

    async def _active(self) -> dict[str, str]:
        query = select(edge_locations.c.id, edge_locations.c.url).where(edge_locations.c.is_active)
        async with self._database.read() as connection:
            return {row.id: row.url for row in await connection.execute(query)}

    def _follow(self, active: Mapping[str, str]) -> None:
        """Forget edges that went; one with another address is another edge."""
        kept = {edge_id: self._watches.get(edge_id) for edge_id in active}
        self._watches = {
            edge_id: watch if watch and watch.url == active[edge_id] else _Watch(active[edge_id])
            for edge_id, watch in kept.items()
        }

    async def _look(self, url: str) -> Look | None:
        async with self._turns:
            return await look(url, self._tls)

    async def _write(self, rows: list[dict[str, Any]]) -> int:
        """All rows but those of edges that went, or moved, meanwhile."""
        still = await self._active()
        rows = [row for row in rows if still.get(row["edge_id"]) == self._watches[row["edge_id"]].url]
        if rows:
            async with self._database.begin() as connection:
                await connection.execute(edge_metrics.insert(), rows)
        return len(rows)


def wait(failures: int, seconds: float) -> float:
    """Seconds until an edge is due again after so many failed looks in a row; 0: in the next round."""
    over = min(failures - PATIENCE, 32)
    return 0.0 if over < 0 else min(BACK_OFF, seconds * 2.0 ** (over + 1)) - seconds / 2  # never a hair after a round


def _row(look: Look | None, watch: _Watch, told: Traffic | None) -> dict[str, float | int | None]:
    """Two failed looks in a row, or nothing but failed ones: the edge is down."""
    failed, looks = watch.answered.count(False), len(watch.answered)
    down = look is None and (watch.failures > 1 or failed == looks)
    failing, votes = (told.failing, told.sessions) if told else (0.0, 0)
    return {
        "latency_ms": look.latency_ms if look else None,
        "load_percent": look.load if look else None,
        "active_uploads": look.active if look else None,
        "bandwidth_mbps": told.bandwidth_mbps if told else None,
        "error_rate": UNREACHABLE if down else min(99.0, 100 * (failed + failing) / (looks + votes)),
    }


async def look(url: str, tls: ssl.SSLContext) -> Look | None:
    """Ask an edge how it is. None: no answer that counts came in time."""
    try:
        check_url(url)  # whoever wrote the table: no credentials are sent anywhere
        async with asyncio.timeout(LOOK_SECONDS):
            return await _ask(httpx.URL(url.rstrip("/") + "/health"), tls)
    except (UsageError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        return None


async def _ask(url: httpx.URL, tls: ssl.SSLContext) -> Look:
    """Raises what httpx does, OSError and ValueError. The name is looked up here: see `_address`."""
    port = url.port or (443 if url.scheme == "https" else 80)
    there = url.copy_with(host=await _address(url.host, port))
    headers = {"Host": url.netloc.decode(), "User-Agent": "jettyctl", "Accept-Encoding": "identity", "Connection": "close"}
    moments: dict[str, float] = {}

    async def note(event: str, _: Mapping[str, Any]) -> None:
        moments[event] = time.perf_counter()

    extensions = {"sni_hostname": url.host, "trace": note}
    async with (
        httpx.AsyncClient(verify=tls, trust_env=False, follow_redirects=False, timeout=LOOK_SECONDS) as client,
        client.stream("GET", there, headers=headers, extensions=extensions) as response,
    ):
        if not response.is_success:
            raise ValueError("not an answer")
        load, active = health_of(await _beginning(response))
    taken = moments["http11.receive_response_headers.complete"] - moments["http11.send_request_headers.started"]
    return Look(1000 * taken, load, None if active is None else int(active))


async def _beginning(response: httpx.Response) -> bytes:
    """The body, as far as anybody needs it; packed ones stay packed."""
    body = b""
    async for piece in response.aiter_raw():
        body += piece
        if len(body) >= ANSWER_LIMIT:
            break
    return body[:ANSWER_LIMIT]


async def _address(host: str, port: int) -> str:
    """The host's address, IPv4 first.

    Asked in a thread that nobody waits for at the end: a resolver that hangs would fill the event loop's few threads,
    which carry the objects of uploads too. Raises OSError and UnicodeError.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def resolve() -> None:
        found: str | Exception
        try:
            known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = str(min(known, key=lambda entry: entry[0] != socket.AF_INET)[4][0])
        except (OSError, UnicodeError) as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_settle, answer, found)

    threading.Thread(target=resolve, name="resolve", daemon=True).start()
    return await answer


def _settle(answer: asyncio.Future[str], found: str | Exception) -> None:
    if answer.done():  # timed out
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)

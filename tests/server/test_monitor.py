"""The monitor against real edges, and against what only claims to be one."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from sqlalchemy import RowMapping, select, update

from jettyctl.core.catalogue import DIRECT_ID
from jettyctl.core.scoring import Edge
from jettyctl.net.tls import tls_context
from jettyctl.server.control import edges, traffic
from jettyctl.server.control.database import Database
from jettyctl.server.control.monitor import BACK_OFF, LOOK_SECONDS, Look, Monitor, look, wait
from jettyctl.server.control.tables import edge_locations, edge_metrics
from jettyctl.server.control.traffic import Carried
from tests.server.rows import a_chunk, a_session
from tests.support.edge_process import OK, Canary, EdgeProcess
from tests.support.running import Jettyctl
from tests.support.servers import free_port

NOWHERE = "http://127.0.0.1:9"  # an origin that nobody asks
TLS = tls_context(True, None)
HEALTHY = b'HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n{"load": 7, "active": 3}'

Run = Callable[[Callable[[Database], Coroutine[Any, Any, None]]], None]


async def rows_of(database: Database, edge_id: str) -> list[RowMapping]:
    """The edge's metrics, oldest first."""
    query = select(edge_metrics).where(edge_metrics.c.edge_id == edge_id).order_by(edge_metrics.c.timestamp)
    async with database.read() as connection:
        return list((await connection.execute(query)).mappings())


async def until_looked(monitor: Monitor, database: Database, good: bool, seconds: float = 15) -> RowMapping:
    """Rounds until the newest row says that the edge answers, or that it is down."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await monitor.round()
        newest = (await rows_of(database, "a"))[-1]
        if (newest["latency_ms"] is not None) if good else (newest["error_rate"] == 100):
            return newest
        await asyncio.sleep(0.1)
    raise AssertionError(f"still {dict(newest)}")


def test_an_edge_that_dies_and_comes_back_is_seen(run: Run, jettyctl: Jettyctl) -> None:
    """A living edge has latency, load and active uploads; a killed one is down in two rounds; a new one is up again."""
    port = free_port()
    listen = ("--listen", f"127.0.0.1:{port}")

    async def story(database: Database) -> None:
        await edges.put_edge(database, Edge("a", f"http://127.0.0.1:{port}"))
        monitor = Monitor(database, 0.1, TLS)
        with EdgeProcess(jettyctl, NOWHERE, args=listen) as edge:
            up = await until_looked(monitor, database, good=True)
            assert 0 < up["latency_ms"] < 1000
            assert 0 <= up["load_percent"] <= 100
            assert (up["active_uploads"], up["error_rate"], up["bandwidth_mbps"]) == (0, 0, None)
            edge.process.kill()
            edge.process.wait()
            await monitor.round()
            await monitor.round()
            once, down = (await rows_of(database, "a"))[-2:]
            assert once["latency_ms"] is None
            assert once["error_rate"] < 100
            assert (down["latency_ms"], down["load_percent"], down["error_rate"]) == (None, None, 100)
            _, metrics = await edges.EdgeDirectory(database).active()
            assert not metrics["a"].reachable
        with EdgeProcess(jettyctl, NOWHERE, args=listen):
            again = await until_looked(monitor, database, good=True)
            assert 0 < again["error_rate"] < 100

    run(story)


def test_a_round_is_one_row_for_each_active_edge(run: Run) -> None:
    """All rows of a round have one time; edges that are not active are not looked at."""

    async def story(database: Database) -> None:
        with _saying(HEALTHY) as canary:
            for name in ("a", "b"):
                await edges.put_edge(database, Edge(name, canary.endpoint))
            await edges.put_edge(database, Edge("off", canary.endpoint, enabled=False))
            monitor = Monitor(database, 1.0, TLS)
            assert [await monitor.round(), await monitor.round()] == [2, 2]
            a, b = await rows_of(database, "a"), await rows_of(database, "b")
            assert [row["timestamp"] for row in a] == [row["timestamp"] for row in b]
            assert (a[0]["load_percent"], a[0]["active_uploads"]) == (7, 3)
            assert canary.connections == 4

    run(story)


def test_an_edge_that_moves_is_another_edge(run: Run) -> None:
    """With a new address an edge has no metrics until the next round, whatever was seen at the old one."""

    async def story(database: Database) -> None:
        with _saying(HEALTHY) as canary:
            await edges.put_edge(database, Edge("a", f"http://127.0.0.1:{free_port()}"))
            monitor = Monitor(database, 60.0, TLS)
            for _ in range(4):
                await monitor.round()
            assert await monitor.round() == 0, "it is left alone by now"
            await edges.put_edge(database, Edge("a", canary.endpoint))
            assert await rows_of(database, "a") == []
            assert await monitor.round() == 1
            assert [row["error_rate"] for row in await rows_of(database, "a")] == [0]

    run(story)


def test_an_edge_that_goes_during_a_round_leaves_no_row(run: Run) -> None:
    """What was seen of an edge that was removed, or moved, meanwhile is not written."""

    async def story(database: Database) -> None:
        def slow(canary: Canary, sock: socket.socket) -> None:
            canary.receive(sock)
            time.sleep(0.5)
            sock.sendall(HEALTHY)

        with Canary(slow) as canary:
            await edges.put_edge(database, Edge("a", canary.endpoint))
            await edges.put_edge(database, Edge("b", canary.endpoint))
            looking = asyncio.create_task(Monitor(database, 1.0, TLS).round())
            await asyncio.sleep(0.2)
            await edges.remove_edge(database, "a")
            assert await looking == 1

    run(story)


REPLIES = {
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: %s/health\r\nContent-Length: 0\r\n\r\n",
    "error": b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    "garbage": b"\x16\x03\x01 nonsense\r\n\r\n",
    "no end": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
    "endless head": b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20),
    "silence": b"",
}


@pytest.mark.slow
def test_what_is_no_answer(run: Run) -> None:
    """Redirects, errors, garbage and silence are no answers, cost seconds at most, and lead nowhere else."""

    async def story(_: Database) -> None:
        with Canary() as elsewhere, _canaries(elsewhere.endpoint.encode()) as urls:
            begin = time.monotonic()
            looks = await asyncio.gather(*(look(url, TLS) for url in urls.values()))
            assert time.monotonic() - begin < LOOK_SECONDS + 2
            assert dict(zip(urls, looks, strict=True)) == dict.fromkeys(urls)
            assert elsewhere.connections == 0

    run(story)


@contextmanager
def _canaries(target: bytes) -> Iterator[dict[str, str]]:
    """A server for each of REPLIES: url by name."""
    canaries = {name: _saying(reply.replace(b"%s", target), hold=name == "silence") for name, reply in REPLIES.items()}
    for canary in canaries.values():
        canary.__enter__()
    yield {name: canary.endpoint for name, canary in canaries.items()}
    for canary in canaries.values():
        canary.__exit__()


def _saying(reply: bytes, hold: bool = False) -> Canary:
    """Answers each connection's first bytes with this, and closes it, or holds it."""

    def serve(canary: Canary, sock: socket.socket) -> None:
        canary.receive(sock)
        sock.sendall(reply)
        if hold:
            canary.receive(sock)

    return Canary(serve)


@pytest.mark.parametrize(
    ("body", "load", "active"),
    [
        (b'{"load": 250, "active": 2}', 100.0, 2),
        (b'{"load": "high", "active": -1}', None, None),
        (b"[" * 60_000, None, None),
        (b'{"load": 1}' + b" " * 5_000_000, 1.0, None),
        (b"", None, None),
    ],
    ids=["too high", "nonsense", "deep", "huge", "empty"],
)
def test_what_an_edge_says_of_itself(run: Run, body: bytes, load: float | None, active: int | None) -> None:
    """An answer counts whatever its body says; what the body says counts where it makes sense."""

    async def story(_: Database) -> None:
        with _saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) as edge:
            seen = await look(edge.endpoint, TLS)
            assert isinstance(seen, Look)
            assert (seen.load, seen.active) == (load, active)

    run(story)


def test_latency_is_without_the_connection(run: Run) -> None:
    """It is the time from the request to the head of the answer."""

    def late(canary: Canary, sock: socket.socket) -> None:
        canary.receive(sock)
        time.sleep(0.2)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        time.sleep(0.2)
        sock.sendall(b"{}")

    async def story(_: Database) -> None:
        with Canary(late) as edge:
            seen = await look(edge.endpoint, TLS)
            assert seen
            assert 200 <= seen.latency_ms < 390

    run(story)


def test_nothing_secret_is_sent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL with credentials is not asked, proxies of the environment neither, and a request has nothing but its head."""

    async def story(database: Database) -> None:
        with Canary() as proxy, _saying(OK) as edge:
            monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
            monkeypatch.setenv("ALL_PROXY", proxy.endpoint)
            await edges.put_edge(database, Edge("a", edge.endpoint))
            async with database.begin() as connection:
                secret = edge.endpoint.replace("http://", "http://user:secret@")
                await connection.execute(update(edge_locations).values(url=secret))
            await Monitor(database, 1.0, TLS).round()
            assert (await rows_of(database, "a"))[0]["error_rate"] == 100
            assert edge.connections == 0
            assert await look(edge.endpoint + "/", TLS)
            assert edge.heard.startswith(b"GET /health HTTP/1.1\r\n")
            assert {line.partition(b":")[0].lower() for line in edge.heard.splitlines()[1:-1]} == {
                b"host", b"accept", b"accept-encoding", b"connection", b"user-agent",
            }  # fmt: skip
            assert proxy.connections == 0

    run(story)


def test_certificates_are_verified_by_name(run: Run, jettyctl: Jettyctl, tmp_path: Path) -> None:
    """An edge with TLS answers by the name of its certificate, and to those only who know its authority."""
    authority, files = trustme.CA(), [str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem")]
    authority.cert_pem.write_to_path(files[0])
    cert = authority.issue_cert("localhost")
    cert.cert_chain_pems[0].write_to_path(files[1])
    cert.private_key_pem.write_to_path(files[2])

    async def story(_: Database) -> None:
        with EdgeProcess(jettyctl, NOWHERE, args=("--tls-cert", files[1], "--tls-key", files[2])) as edge:
            known = tls_context(True, files[0])
            assert await look(f"https://localhost:{edge.port}", known)
            assert await look(f"https://127.0.0.1:{edge.port}", known) is None
            assert await look(f"https://localhost:{edge.port}", TLS) is None

    run(story)


def test_edges_that_do_not_answer_are_left_alone() -> None:
    """After three failures in a row the time doubles until it is five minutes; one answer resets it."""
    assert [wait(failures, 10.0) for failures in (0, 1, 2)] == [0, 0, 0]
    assert [wait(failures, 10.0) + 5 for failures in (3, 4, 5, 6, 7, 8, 9_999)] == [20, 40, 80, 160, BACK_OFF, BACK_OFF, BACK_OFF]


def test_bandwidth_is_the_median_of_sessions() -> None:
    """Each session has a rate and one vote, however many chunks it claims."""
    told = traffic.summed(
        [
            Carried("a", 10_000_000, 10, 0, 8.0),  # 10 Mbit/s
            Carried("a", 10_000_000, 5, 5, 4.0),  # 20
            Carried("a", 1 << 50, 1_000_000, 0, 1.0),  # nobody's
            Carried("a", 1000, 1, 0, 0.01),  # too short
            Carried("b", 0, 0, 3, 0.0),
            Carried("c", 0, 0, 0, 0.0),  # only begun
        ]
    )
    assert set(told) == {"a", "b"}
    assert (told["a"].bandwidth_mbps, told["a"].sessions, told["a"].failing) == (20, 4, 0.5)
    assert (told["b"].bandwidth_mbps, told["b"].sessions, told["b"].failing) == (None, 1, 1)


def test_chunks_tell_of_an_edge(run: Run) -> None:
    """Bandwidth and errors come from chunks of the last minutes, of edges that are known, with sizes that can be."""
    now = datetime.now(UTC)
    ago = [now - timedelta(seconds=seconds) for seconds in range(0, 700, 10)]

    async def story(database: Database) -> None:
        await edges.put_edge(database, Edge("a", "http://127.0.0.1:1"))
        await a_session(database, "s1", started_at=ago[4])
        await a_chunk(database, "s1", 0, "a", now=ago[3], size=10_000_000)
        await a_chunk(database, "s1", 1, "a", now=ago[2], size=15_000_000)  # 25 MB in 20 s: 10 Mbit/s
        await a_chunk(database, "s1", 2, "a", now=ago[1], status="failed")
        await a_chunk(database, "s1", 3, "a", now=ago[1], status="uploading", size=1 << 40)
        await a_chunk(database, "s1", 4, "a", now=ago[2], size=(1 << 63) - 1)
        await a_chunk(database, "s1", 5, "a", now=ago[60], size=99_000_000)
        await a_chunk(database, "s1", 6, "nobody", now=ago[1], size=99_000_000)
        await a_session(database, "s2", started_at=ago[60])  # before the window: counts from its begin on
        await a_chunk(database, "s2", 0, DIRECT_ID, now=ago[10], size=25_000_000)
        told = await traffic.recent(database, ago[30])
        assert set(told) == {"a", DIRECT_ID}
        assert told["a"].bandwidth_mbps == pytest.approx(10)
        assert told["a"].failing == pytest.approx(1 / 4)
        assert told[DIRECT_ID].bandwidth_mbps == pytest.approx(1)

    run(story)


def test_what_uploads_tell_is_in_the_metrics(run: Run) -> None:
    """The row of an edge that answers has the bandwidth of its uploads, and their failures among its own."""

    async def story(database: Database) -> None:
        now = datetime.now(UTC)
        with _saying(OK) as canary:
            await edges.put_edge(database, Edge("a", canary.endpoint))
            await a_session(database, "s1", started_at=now - timedelta(seconds=20))
            await a_chunk(database, "s1", 0, "a", now=now - timedelta(seconds=10), size=125_000_000)
            await a_chunk(database, "s1", 1, "a", now=now - timedelta(seconds=10), status="failed")
            await Monitor(database, 1.0, TLS).round()
            (row,) = await rows_of(database, "a")
            assert row["bandwidth_mbps"] == pytest.approx(100)
            assert row["error_rate"] == pytest.approx(25)  # one look without, one session of which half failed

    run(story)

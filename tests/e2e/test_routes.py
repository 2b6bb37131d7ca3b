"""One file over several routes, some of them evil: the object is right, and the evil one is named.

Real uploads to moto by real processes. The direct route is slow and the edges are paced, so that a run takes seconds and
something can happen in the middle of it. What went where is counted at the store's and the edges' proxies.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.runs import Starter
from tests.support.edge_process import EdgeProcess
from tests.support.evil_edges import Evil, EvilEdge, SlowDirect, answer, by_edge, corrupt, corrupt_and_lie, hang_up, lie
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl, Result, clean_environment, random_file
from tests.support.servers import Server, fetch, free_port

MIB = 1 << 20
SIZE, CHUNK = 40 * MIB, 5 * MIB
CHUNKS = SIZE // CHUNK
DIRECT_RATE, EDGE_RATE = 10 * MIB, 16 * MIB
PATIENCE = 20.0  # seconds to wait for something that must happen



@dataclass(frozen=True, slots=True)
class Ground:
    """A store that is slow to reach, and two edges in good health beside it."""

    moto: Server
    direct: SlowDirect
    edges: tuple[RecordingProxy, RecordingProxy]
    path: str
    sha256: str
    host: Jettyctl

    def forget(self) -> None:
        self.direct.rate = DIRECT_RATE
        for proxy in (self.direct, *self.edges):
            proxy.forget()

    @contextmanager
    def edge(self, rate: float) -> Iterator[tuple[EdgeProcess, RecordingProxy]]:
        """One more edge, and the proxy that paces it. However it was treated, it ends."""
        with EdgeProcess(self.host, self.direct.endpoint, args=("--quiet",)) as edge:
            try:
                with RecordingProxy(f"http://127.0.0.1:{edge.port}", rate=rate) as way:
                    yield edge, way
            finally:
                edge.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def _ground(moto: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    directory = str(tmp_path_factory.mktemp("routes"))
    path = str(random_file(os.path.join(directory, "file"), SIZE, seed=7))
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    host = Jettyctl(clean_environment(directory), directory)
    with ExitStack() as stack:
        direct = stack.enter_context(SlowDirect(moto, rate=DIRECT_RATE))
        edges = [stack.enter_context(EdgeProcess(host, direct.endpoint, args=("--quiet",))) for _ in range(2)]
        ways = [stack.enter_context(RecordingProxy(f"http://127.0.0.1:{edge.port}", rate=EDGE_RATE)) for edge in edges]
        for number, way in enumerate(ways, 1):
            host("edges", "add", f"good{number}", way.endpoint, check=0)
        yield Ground(moto, direct, (ways[0], ways[1]), path, sha256, host)


@pytest.fixture
def ground(_ground: Ground) -> Ground:
    """Nothing was sent yet."""
    _ground.forget()
    return _ground


@dataclass(frozen=True, slots=True)
class Client:
    """The user of one test, with edges configured."""

    jettyctl: Jettyctl
    start: Starter
    ground: Ground

    def add(self, **edges: EvilEdge | RecordingProxy) -> None:
        for name, edge in edges.items():
            self.jettyctl("edges", "add", name, edge.endpoint, check=0)

    def command(self, *options: str, path: str | None = None) -> list[str]:
        key = f"s3://bucket/{os.path.basename(self.jettyctl.cwd)}"
        return ["upload", "-v", "--json", "--no-progress", "--chunk-size", str(CHUNK), *options, path or self.ground.path, key]

    def upload(self, *options: str) -> Result:
        """The whole upload by several routes, and the proof that the object is the file."""
        result = self.jettyctl(*self.command(*options), server=self.ground.direct, check=0)
        self.prove()
        return result

    def begin(self, *options: str) -> subprocess.Popen[bytes]:
        return self.start(*self.command(*options), server=self.ground.direct, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def finish(self, process: subprocess.Popen[bytes]) -> Result:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        self.prove()
        return Result([], process.returncode, out.decode(), err.decode())

    def prove(self) -> None:
        stored = fetch(self.ground.moto, os.path.basename(self.jettyctl.cwd))
        assert hashlib.sha256(stored).hexdigest() == self.ground.sha256


@pytest.fixture
def user(jettyctl: Jettyctl, start_jettyctl: Starter, ground: Ground, env: dict[str, str]) -> Client:
    """A user who has named the two healthy edges."""
    env.update(TZ="UTC")
    shutil.copytree(ground.host.environment["XDG_CONFIG_HOME"], env["XDG_CONFIG_HOME"], dirs_exist_ok=True)
    return Client(jettyctl, start_jettyctl, ground)


def until(happened: Callable[[], Any], what: str) -> None:
    """Wait until `happened()` is true."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


def event(result: Result, kind: str) -> Any:  # noqa: ANN401 - JSON
    """The one line of a kind."""
    (found,) = [line for line in result.events if line["type"] == kind]
    return found


def routes(result: Result) -> dict[str, Any]:
    """The route report by route."""
    return {route["id"]: route for route in event(result, "summary")["routes"]}


def error(code: str) -> bytes:
    """A failure as a store says it."""
    return f"<Error><Code>{code}</Code><Message>Injected.</Message></Error>".encode()


def carries_a_part(way: RecordingProxy) -> Callable[[], bool]:
    """Whether a part is in the middle of its way to an edge."""
    return lambda: any(r.op == "part" and r.body_bytes > 0 and r.ended is None for r in list(way.requests))


def test_chunks_go_by_several_routes_and_each_is_accounted_for(user: Client) -> None:
    """Three healthy routes share a file: result, summary, journal and the proxies agree about who carried what."""
    result = user.upload()
    edges = event(result, "result")["edges"]
    assert sum(edges.values()) == CHUNKS
    assert {"", "good1", "good2"} == {name for name, count in edges.items() if count}
    report = routes(result)
    assert {name: route["chunks"] for name, route in report.items()} == {name or "direct": n for name, n in edges.items()}
    assert sum(route["bytes"] for route in report.values()) == SIZE
    for name, proxy in zip(("good1", "good2"), user.ground.edges, strict=True):
        assert proxy.completed_parts().total() >= edges[name]
    session = event(result, "result")["session_id"]
    shown = json.loads(user.jettyctl("sessions", "show", session, "--json", check=0).stdout)
    text = json.dumps(shown)
    assert '"edgesUsed": ["good1", "good2"]' in text, text
    assert text.count('"edgeId": "good1"') == edges["good1"]
    assert text.count('"edgeId": "good2"') == edges["good2"]


@pytest.mark.slow
@pytest.mark.parametrize("evil_signal", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_an_edge_that_dies_or_freezes_in_the_middle_costs_nothing_but_its_share(user: Client, evil_signal: int) -> None:
    """An edge is killed or frozen with a part in its hands: the others carry that part as well."""
    ground = user.ground
    with ground.edge(EDGE_RATE / 2) as (edge, way):
        user.add(evil=way)
        process = user.begin()
        until(carries_a_part(way), "a part on the edge")
        edge.process.send_signal(evil_signal)
        began = time.monotonic()
        result = user.finish(process)
    assert time.monotonic() - began < 10
    assert event(result, "result")["edges"].get("evil", 0) < CHUNKS / 2
    if evil_signal == signal.SIGKILL:
        assert "edge evil failed" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("evil", "honest"), [(lie, 0), (lie, 2), (corrupt, 0), (corrupt_and_lie, 0)], ids=["liar", "late-liar", "corrupter", "both"]
)
def test_an_edge_that_lies_or_corrupts_is_named_and_dropped(user: Client, evil: Evil, honest: int) -> None:
    """The store is asked whether it has what an edge sent; it does not, others send it, and the edge gets nothing more."""
    with EvilEdge(evil, honest) as edge:
        user.add(evil=edge)
        result = user.upload()
        assert edge.parts > honest
        assert honest or edge.parts == 1
    assert "edge evil is not used any more" in result.stderr
    assert event(result, "result")["edges"].get("evil", 0) <= honest
    assert routes(result)["evil"]["errors"] >= 1


@pytest.mark.parametrize(
    "evil",
    [
        answer(500, error("InternalError")),
        answer(307, Location="http://127.0.0.1:9/elsewhere"),
        pytest.param(answer(403, error("AccessDenied")), marks=pytest.mark.slow),
        pytest.param(answer(404, error("NoSuchUpload")), marks=pytest.mark.slow),
        pytest.param(answer(200, b"<html>Welcome</html>"), marks=pytest.mark.slow),
        pytest.param(hang_up, marks=pytest.mark.slow),
    ],
    ids=["500", "redirect", "403", "no-such-upload", "portal", "mid-body"],
)
@pytest.mark.slow
def test_an_edge_that_fails_is_not_the_files_failure(user: Client, evil: Evil) -> None:
    """Whatever an edge answers, its part goes by another route, and the edge is named to those who want to know."""
    with EvilEdge(evil) as edge:
        user.add(evil=edge)
        result = user.upload()
        assert 1 <= edge.parts <= 3
    assert "edge evil failed" in result.stderr
    assert "evil" not in event(result, "result")["edges"]


@pytest.mark.slow
def test_an_edge_that_is_far_slower_than_its_weight_does_not_hold_up_the_file(user: Client) -> None:
    """A trickle of 1/50 of what the others carry: the chunk that it has is sent again by a faster route."""
    ground = user.ground
    with ground.edge(EDGE_RATE / 50) as (_, way):
        user.add(evil=way)
        began = time.monotonic()
        result = user.upload()
    assert time.monotonic() - began < CHUNK / (EDGE_RATE / 50)  # what its one chunk would have taken
    assert sum(route["hedges"] for route in routes(result).values()) >= 1


@pytest.mark.slow
def test_with_no_edge_that_answers_the_direct_route_carries_all(user: Client) -> None:
    """Edges that nobody listens at are probed and left out, and the run says so."""
    user.ground.direct.rate = None
    for name in ("good1", "good2"):
        user.jettyctl("edges", "remove", name, check=0)
    user.jettyctl("edges", "add", "dead", f"http://127.0.0.1:{free_port()}", check=0)
    result = user.upload()
    assert event(result, "result")["edges"] == {"": CHUNKS}
    assert "None of the 1 enabled edges answered" in result.stderr
    assert not any(by_edge(request) for request in user.ground.direct.requests)


def test_no_edges_means_that_no_edge_hears_of_it(user: Client) -> None:
    """With --no-edges neither a probe nor a part reaches an edge."""
    user.ground.direct.rate = None
    result = user.upload("--no-edges")
    assert event(result, "result")["edges"] == {"": CHUNKS}
    assert [len(proxy.requests) for proxy in user.ground.edges] == [0, 0]


def test_edges_are_refused_where_the_store_verifies_nothing(user: Client) -> None:
    """Nothing would notice a broken edge, so none is used, and the run says why."""
    user.ground.direct.rate = None
    result = user.upload("--checksum", "none")
    assert event(result, "result")["edges"] == {"": CHUNKS}
    assert "edges are not used: the store verifies no checksum" in result.stderr
    assert all(proxy.count("part") == 0 for proxy in user.ground.edges)


def test_what_edges_carried_is_resumed_without_them(user: Client) -> None:
    """A run is killed when edges have carried parts; the next one, without edges, sends only what is missing."""
    ground = user.ground
    process = user.begin()
    until(lambda: sum(proxy.completed_parts().total() for proxy in ground.edges) >= 2, "parts by edges")
    process.send_signal(signal.SIGKILL)
    process.wait()
    ground.forget()
    ground.direct.rate = None
    result = event(user.upload("--no-edges"), "result")
    assert result["status"] == "resumed"
    assert result["chunks_reused"] >= 2
    assert sum(result["edges"].values()) + result["chunks_reused"] == CHUNKS
    assert all(proxy.count("part") == 0 for proxy in ground.edges)


def test_small_files_never_go_by_an_edge(user: Client, tmp_path: os.PathLike[str]) -> None:
    """A file that is one PUT is sent to the store itself: an edge carries parts."""
    small = str(random_file(os.path.join(tmp_path, "small"), MIB))
    result = user.jettyctl(*user.command(path=small), server=user.ground.direct, check=0)
    assert not event(result, "result")["edges"]
    assert [len(proxy.requests) for proxy in user.ground.edges] == [0, 0]


def test_standard_input_never_goes_by_an_edge(user: Client) -> None:
    """A stream cannot be sent again from its beginning, so its parts go straight to the store."""
    user.ground.direct.rate = None
    with open(user.ground.path, "rb") as file:
        process = user.start(
            *user.command(path="-"), server=user.ground.direct, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        user.finish(process)
    assert [proxy.count("part") for proxy in user.ground.edges] == [0, 0]
    assert not any(by_edge(request) for request in user.ground.direct.requests)

"""Edges that a control plane names carry parts which it signed, and are known to it by what they carried."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.server.machines import Hosted, machine, until
from tests.support.databases import Backend
from tests.support.edge_process import EdgeProcess
from tests.support.evil_edges import SlowDirect
from tests.support.plane import PlaneProcess, new_key, plane_settings
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl, random_file
from tests.support.servers import Server

MIB = 1 << 20
SMALL, LARGE = 20 * MIB, 60 * MIB  # the direct route alone takes 5 and 15 s: an edge is there long before, on a busy machine too


@pytest.mark.slow
def test_edges_of_the_control_plane(
    moto: Server, backend: Backend, env: dict[str, str], tmp_path: Path, jettyctl: Jettyctl
) -> None:
    """An edge that the monitor saw answer takes its share where the direct route is slow; with --no-edges none does."""
    with ExitStack() as stack:
        direct = stack.enter_context(SlowDirect(moto, rate=4 * MIB))
        edge = stack.enter_context(EdgeProcess(jettyctl, direct.endpoint, args=("--quiet",)))
        way = stack.enter_context(RecordingProxy(f"http://127.0.0.1:{edge.port}", rate=16 * MIB))
        changes = {"store": f"s3://{moto.bucket}/by-edges/", "endpoint_url": direct.endpoint, "region": "us-east-1"}
        settings = plane_settings(backend, tmp_path, monitor_seconds=0.5, **changes)
        plane = stack.enter_context(PlaneProcess(settings, tmp_path, moto.env))
        hosted = Hosted(plane, "acme", tmp_path, moto, "by-edges/")
        add_edge(hosted, way.endpoint)
        here = machine(hosted, env, tmp_path / "here")
        small, large = tmp_path / "small.bin", tmp_path / "large.bin"
        random_file(small, SMALL)
        random_file(large, LARGE)

        wait_for_edge(hosted)
        alone = here("upload", str(small), "jetty:alone.bin", "--no-edges", "--json", "--no-progress", check=0).events
        assert [event["edges"] for event in alone if event["type"] == "result"] == [{"": alone[0]["chunks"]}]
        wait_for_edge(hosted)
        events = here("upload", str(large), "jetty:both.bin", "--json", "--no-progress", check=0).events
        carried = next(event["edges"] for event in events if event["type"] == "result")
        assert carried.get("near-1", 0) > 0, events
        assert hosted.stored("both.bin") == large.read_bytes()
        assert way.count("part") >= carried["near-1"]


def add_edge(hosted: Hosted, url: str) -> None:
    """As an admin does."""
    with _admin(hosted) as admin:
        admin.put("/api/jetty/edges/near-1", json={"url": url}).raise_for_status()


def wait_for_edge(hosted: Hosted) -> None:
    """Until the monitor's newest look at the edge found it in order."""
    asked = {"userId": "usr_admin", "fileSize": LARGE, "fileHash": "unknown"}
    with _admin(hosted) as admin:

        def fresh() -> bool:
            edges = admin.post("/api/jetty/optimal-edges", json=asked).raise_for_status().json()["edges"]
            return any(edge["id"] == "near-1" and edge["fresh"] for edge in edges)

        until(fresh, "the monitor to see the edge")


def _admin(hosted: Hosted) -> httpx.Client:
    _, key = new_key(hosted.plane.settings.database_url, "usr_admin", hosted.tenant, ("read", "write", "admin"))
    return hosted.plane.client(key)

"""Edges that a control plane names carry parts which it signed, and are known to it by what they carried."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

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
SIZE = 40 * MIB


@pytest.mark.slow
def test_edges_of_the_control_plane(
    moto: Server, backend: Backend, env: dict[str, str], tmp_path: Path, jettyctl: Jettyctl
) -> None:
    """An edge that the monitor saw answer takes its share where the direct route is slow; with --no-edges none does."""
    with ExitStack() as stack:
        direct = stack.enter_context(SlowDirect(moto, rate=8 * MIB))
        edge = stack.enter_context(EdgeProcess(jettyctl, direct.endpoint, args=("--quiet",)))
        way = stack.enter_context(RecordingProxy(f"http://127.0.0.1:{edge.port}", rate=16 * MIB))
        changes = {"store": f"s3://{moto.bucket}/by-edges/", "endpoint_url": direct.endpoint, "region": "us-east-1"}
        settings = plane_settings(backend, tmp_path, monitor_seconds=0.5, **changes)
        plane = stack.enter_context(PlaneProcess(settings, tmp_path, moto.env))
        hosted = Hosted(plane, "acme", tmp_path, moto, "by-edges/")
        name_edge(hosted, way.endpoint)
        here = machine(hosted, env, tmp_path / "here")
        path = tmp_path / "file.bin"
        random_file(path, SIZE)

        alone = here("upload", str(path), "jetty:alone.bin", "--no-edges", "--json", "--no-progress", check=0).events
        assert [event["edges"] for event in alone if event["type"] == "result"] == [{"": alone[0]["chunks"]}]
        path.write_bytes(path.read_bytes()[::-1])
        events = here("upload", str(path), "jetty:both.bin", "--json", "--no-progress", check=0).events
        carried = next(event["edges"] for event in events if event["type"] == "result")
        assert carried.get("near-1", 0) > 0
        assert hosted.stored("both.bin") == path.read_bytes()
        assert way.count("part") >= carried["near-1"]


def name_edge(hosted: Hosted, url: str) -> None:
    """An admin adds an edge, and the monitor looks at it."""
    key = new_key(hosted.plane.settings.database_url, "usr_admin", hosted.tenant, ("read", "write", "admin"))[1]
    with hosted.plane.client(key) as admin:
        admin.put("/api/jetty/edges/near-1", json={"url": url}).raise_for_status()

        def fresh() -> bool:
            asked = {"userId": "usr_admin", "fileSize": SIZE, "fileHash": "unknown"}
            edges = admin.post("/api/jetty/optimal-edges", json=asked).raise_for_status().json()["edges"]
            return any(edge["id"] == "near-1" and edge["fresh"] for edge in edges)

        until(fresh, "the monitor to see the edge")

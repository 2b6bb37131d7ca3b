"""A run that is part of a longer process leaves no connection to an edge behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import pytest

from jettyctl.control.edges import ControlEdgeRoute
from jettyctl.control.store import ControlStore
from jettyctl.core.pace import Pacer
from jettyctl.core.scoring import Edge
from jettyctl.edges.base import OpenedEdge, OpenedEdges
from jettyctl.engine.meter import Meter
from jettyctl.engine.routes import Routes
from jettyctl.engine.slots import Slots
from jettyctl.storage.s3.client import S3Store
from jettyctl.storage.s3.edge import EdgeRoute
from tests.support.memory_store import MemoryStore
from tests.support.small_edges import Behaviour

AnyEdge = EdgeRoute | ControlEdgeRoute


def configured(url: str) -> AnyEdge:
    return EdgeRoute("e", url, cast("S3Store", None), limit=None, ca_file=None)


def named(url: str) -> AnyEdge:
    return ControlEdgeRoute(Edge("e", url), cast("ControlStore", None), limit=None, ca_file=None)


@dataclass(frozen=True, slots=True)
class Opened:
    """An `EdgeSource` whose edge has answered."""

    edges: Sequence[OpenedEdge]

    def expects(self, size: int) -> bool:
        return True

    def open(self, size: int) -> OpenedEdges:
        return OpenedEdges(self.edges, 0.5)


async def run(route: AnyEdge) -> None:
    """A run that the edge joins, and that ends."""
    meter, store = Meter(), MemoryStore()
    with ThreadPoolExecutor(1) as helpers:
        routes = Routes(Slots(Pacer(2), meter.direct, most=2), meter, helpers, lambda event: None, most=2)
        routes.open_edges(store, Opened([OpenedEdge(route, 0.5)]), 1)
        while not routes.lanes(store).several:
            await asyncio.sleep(0.001)
        await routes.close()


@pytest.mark.parametrize("edge", [configured, named])
def test_the_end_of_a_run_closes_connections_to_edges(edge: Callable[[str], AnyEdge], serve: Callable[..., str]) -> None:
    """Those that were kept for more requests are closed, not only cut: a descriptor for each would stay open."""
    url = serve(Behaviour())
    route = edge(url)
    assert route._http.request("GET", f"{url}/health", []).status == 200
    (kept,) = route._http._sockets._open
    asyncio.run(run(route))
    assert kept._sock.fileno() == -1

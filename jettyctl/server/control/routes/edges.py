"""The edges that the service names to its clients: who may see them, and who may change them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path
from starlette.responses import JSONResponse, Response

from jettyctl.core.edge_rules import checked
from jettyctl.core.scoring import Edge, is_stale
from jettyctl.errors import UsageError
from jettyctl.server.control import edges, failures
from jettyctl.server.control.auth import Admin, PlaneDep
from jettyctl.server.control.bodies import NO_CONTROL
from jettyctl.server.control.bodies_edges import EdgeEntry, EdgePut, EdgesAnswer
from jettyctl.server.control.edges import KnownEdge
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.strict import api_router, failing

router = api_router()
_usual = [limited("uploads")]
EdgeName = Annotated[str, Path(max_length=64, pattern=NO_CONTROL)]


@router.get("/edges", response_model=EdgesAnswer, dependencies=_usual)
async def list_edges(plane: PlaneDep) -> JSONResponse:
    """All edges, with what the monitor saw last."""
    return JSONResponse({"edges": [_shown(one, time.time()) for one in await edges.list_edges(plane.database)]})


@router.put("/edges/{edge_id}", response_model=EdgeEntry, responses={201: {"model": EdgeEntry}}, dependencies=_usual)
async def put_edge(edge_id: EdgeName, body: EdgePut, plane: PlaneDep, _: Admin) -> JSONResponse:
    """Add an edge (201), or replace one (200). The monitor looks at it in its next round."""
    edge = Edge(edge_id, body.url, body.city, body.country, body.lat, body.lng, body.cost_per_gib, body.is_active)
    try:
        checked(edge)
    except UsageError as error:
        raise failures.bad_request(f"{error.message}. {error.hint}") from None
    new = await edges.put_edge(plane.database, edge, body.provider)
    await plane.edges.refresh()
    known = next((one for one in await edges.list_edges(plane.database) if one.edge.id == edge_id), None)
    if not known:
        raise failures.not_found("edge")  # removed meanwhile
    return JSONResponse(_shown(known, time.time()), 201 if new else 200)


@router.delete("/edges/{edge_id}", status_code=204, responses=failing(404), dependencies=_usual)
async def delete_edge(edge_id: EdgeName, plane: PlaneDep, _: Admin) -> Response:
    """Forget an edge. Its daily figures stay."""
    if not await edges.remove_edge(plane.database, edge_id):
        raise failures.not_found("edge")
    await plane.edges.refresh()
    return Response(status_code=204)


def _shown(known: KnownEdge, now: float) -> dict[str, Any]:
    edge, seen = known.edge, known.metrics
    metrics = seen and {
        "timestamp": datetime.fromtimestamp(seen.measured_at, UTC).isoformat(),
        "answered": known.answered,
        "latency": seen.latency_ms if known.answered else None,
        "load": seen.load_percent,
        "bandwidth": seen.bandwidth_mbps,
        "activeUploads": known.active_uploads,
        "errorRate": seen.error_rate,
        "fresh": not is_stale(seen, now),
    }
    return {
        "id": edge.id,
        "url": edge.url,
        "city": edge.city,
        "country": edge.country,
        "lat": edge.lat,
        "lng": edge.lng,
        "provider": known.provider,
        "costPerGib": edge.cost_per_gib,
        "isActive": edge.enabled,
        "createdAt": known.created_at.isoformat(),
        "metrics": metrics,
    }

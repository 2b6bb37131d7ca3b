"""POST optimal-edges: how a file is best sent, and by which edges."""

from __future__ import annotations

import math
import time

from starlette.requests import Request
from starlette.responses import JSONResponse

from jettyctl.core.catalogue import DIRECT_ID
from jettyctl.core.geo import Location
from jettyctl.core.model import GIB, Limits
from jettyctl.core.scoring import COST_PER_GIB, STALE, STALE_BANDWIDTH, STALE_LOAD, RankedEdge, Selection, select
from jettyctl.core.tiers import strategy
from jettyctl.errors import UsageError
from jettyctl.server.control import failures, files
from jettyctl.server.control.auth import PlaneDep, Reader, acting_for
from jettyctl.server.control.bodies import OptimalEdges, OptimalEdgesAnswer
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.plane import Plane
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.recording import cost_of
from jettyctl.server.control.routes.addresses import address_of
from jettyctl.server.control.strict import api_router

router = api_router()


@router.post("/optimal-edges", response_model=OptimalEdgesAnswer, dependencies=[limited("optimal-edges")])
async def optimal_edges(request: Request, body: OptimalEdges, plane: PlaneDep, who: Reader) -> JSONResponse:
    """Chunk size and threads for a file, the best five edges and the direct route, and whether the user has it already."""
    user = await acting_for(plane, who, body.user_id)
    duplicate = await _duplicate(request, plane, user, body)
    edges, metrics = await plane.edges.active()
    if not edges and not duplicate:
        raise ApiError(503, "no active edge", "Send to the store directly, or try again later.", headers={"Retry-After": "10"})
    place = body.user_location
    chosen = select(
        edges,
        metrics,
        size=body.file_size,
        priority=body.priority or "balanced",
        location=Location(place.lat, place.lng) if place else None,
        budget=body.budget,
        now=time.time(),
    )
    routes = [*map(_edge, chosen.edges), _direct(plane.settings.direct_url, chosen.direct_weight)]
    answer: dict[str, object] = {"strategy": _strategy(body.file_size, chosen), "edges": routes, "duplicate": duplicate}
    if chosen.message:
        answer["message"] = chosen.message
    return JSONResponse(answer)


async def _duplicate(request: Request, plane: Plane, user: Principal, body: OptimalEdges) -> dict[str, object] | None:
    """The user's own file of this content, if there is one."""
    known = await files.find_own(plane.database, user.tenant_id, user.user_id, body.file_hash)
    if known is None:
        return None
    return {
        "fileId": known.file_id,
        "url": address_of(request, plane.settings, known) or "",
        "savedBytes": known.size,
        "savedCost": cost_of(known.size),
        "message": "This content was uploaded before: do not send it.",
    }


def estimated_seconds(size: int, chosen: Selection | None = None) -> float:
    """By the quickest of the chosen edges that is known, else by 10 Mbit/s."""
    known = [one.metrics.bandwidth_mbps for one in chosen.edges if one.metrics and not one.stale] if chosen else []
    return round(size * 8 / 1e6 / max([STALE_BANDWIDTH, *filter(None, known)]), 3)


def _strategy(size: int, chosen: Selection) -> dict[str, object]:
    """Raises ApiError 400 for a size that no store takes."""
    try:
        cut = strategy(size, Limits(), "tier")
    except UsageError as error:
        raise failures.bad_request(f"fileSize: {error.message}") from None
    costs = [one.weight * one.edge.cost(size) for one in chosen.edges]
    return {
        "chunkSize": cut.chunk_size,
        "threads": cut.threads,
        "compression": "none",
        "estimatedTime": estimated_seconds(size, chosen),
        "estimatedCost": round(math.fsum([*costs, chosen.direct_weight * size / GIB * COST_PER_GIB]), 6),
    }


def _edge(ranked: RankedEdge) -> dict[str, object]:
    """What is missing or old is shown as what it counts as."""
    seen = STALE if ranked.stale or ranked.metrics is None else ranked.metrics
    return {
        "id": ranked.edge.id,
        "url": ranked.edge.url,
        "latency": round(seen.latency_ms, 2),
        "load": STALE_LOAD if seen.load_percent is None else seen.load_percent,
        "distance": None if ranked.distance_km is None else round(ranked.distance_km, 1),
        "weight": ranked.weight,
        "fresh": ranked.answered and not ranked.stale,
    }


def _direct(url: str, weight: float) -> dict[str, object]:
    """The route that nobody measures: its latency and load count as unknown."""
    return {
        "id": DIRECT_ID, "url": url, "latency": STALE.latency_ms, "load": STALE_LOAD, "distance": None, "weight": weight,
        "fresh": False,
    }  # fmt: skip

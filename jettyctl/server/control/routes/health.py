"""Whether this process serves, and what it counted. Neither needs a key, and neither names anybody."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

import jettyctl
from jettyctl.server.control.auth import PlaneDep
from jettyctl.server.control.bodies import Health
from jettyctl.server.control.metrics import CONTENT_TYPE
from jettyctl.server.control.strict import failing

router = APIRouter(responses=failing(421, 500))


@router.get("/health", response_model=Health)
async def health() -> dict[str, str]:
    """Answers while this process does; it asks nothing of the database."""
    return {"status": "ok", "version": jettyctl.__version__}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(plane: PlaneDep) -> Response:
    """The counters in Prometheus's text format."""
    return Response(plane.metrics.text(), media_type=CONTENT_TYPE)

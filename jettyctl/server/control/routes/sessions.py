"""Sessions: looked at, and taken over by another machine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import JSONResponse

from jettyctl.server.control import leases, tracking
from jettyctl.server.control.auth import PlaneDep, Reader, Writer, acting_for
from jettyctl.server.control.bodies import SessionId, UserId
from jettyctl.server.control.bodies_uploads import LeaseTaken, SessionRecord, SessionsAnswer, TakeLease
from jettyctl.server.control.finalize import url_of
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.routes.addresses import base_of
from jettyctl.server.control.strict import api_router

router = api_router(404, 409)
_upload = [limited("uploads")]
Session = Annotated[SessionId, Path(alias="id")]
Status = Literal["in_progress", "completed", "failed", "paused"]


@router.get("/sessions", response_model=SessionsAnswer, dependencies=_upload)
async def sessions(
    request: Request,
    plane: PlaneDep,
    who: Reader,
    status: Status | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    user_id: Annotated[UserId | None, Query(alias="userId")] = None,
) -> JSONResponse:
    """The user's sessions, changed last first; an admin may ask for another user of the tenant."""
    acting = await acting_for(plane, who, user_id or who.user_id)
    found = await tracking.list_sessions(plane.database, acting, user_id=acting.user_id, status=status, limit=limit)
    return JSONResponse({"sessions": [_told(one, request, plane) for one in found]})


@router.get("/sessions/{id}", response_model=SessionRecord, dependencies=_upload)
async def session(session_id: Session, request: Request, plane: PlaneDep, who: Reader) -> JSONResponse:
    """One session."""
    return JSONResponse(_told(await tracking.show(plane.database, who, session_id), request, plane))


@router.post("/sessions/{id}/lease", response_model=LeaseTaken, dependencies=_upload)
async def lease(session_id: Session, body: TakeLease, request: Request, plane: PlaneDep, who: Writer) -> JSONResponse:
    """Become the one who works on a session. Whoever was before can change nothing any more."""
    seconds = plane.settings.lease_seconds
    taken = await leases.take(
        plane.database, who, session_id, holder=body.holder, host=body.host, take_over=body.take_over, seconds=seconds
    )
    found = await tracking.show(plane.database, who, session_id)
    return JSONResponse({"fence": taken.fence, "leaseSeconds": seconds, "session": _told(found, request, plane)})


def _told(session: tracking.SessionJson, request: Request, plane: PlaneDep) -> dict[str, Any]:
    """A session, with the address of what came of it."""
    done = session["status"] == "completed" and session.get("key")
    return {**session, "fileUrl": url_of(base_of(request, plane.settings), session["key"]) if done else None}

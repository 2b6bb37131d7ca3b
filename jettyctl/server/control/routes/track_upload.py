"""POST track-upload: how uploads go that the service does not carry itself."""

from __future__ import annotations

import uuid

from starlette.responses import JSONResponse

from jettyctl.core.model import Layout, Limits
from jettyctl.core.tiers import strategy
from jettyctl.errors import UsageError
from jettyctl.server.control import failures, tracking
from jettyctl.server.control.auth import PlaneDep, Writer, acting_for
from jettyctl.server.control.bodies import (
    TrackComplete,
    TrackFail,
    TrackProgress,
    TrackStart,
    TrackUpload,
    TrackUploadAnswer,
)
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.plane import Plane
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.routes.optimal_edges import estimated_seconds
from jettyctl.server.control.strict import api_router, failing
from jettyctl.server.control.tracking import NewUpload

_MOST_CHUNKS = 2**31 - 1

router = api_router()


@router.post(
    "/track-upload",
    response_model=TrackUploadAnswer,
    responses=failing(404, 409),
    dependencies=[limited("track-upload")],
)
async def track_upload(body: TrackUpload, plane: PlaneDep, who: Writer) -> JSONResponse:
    """An upload starts, goes on, is complete or has failed. A session of somebody else looks like one that is not there."""
    match body:
        case TrackStart():
            answer = await _start(plane, who, body)
        case TrackProgress():
            answer = await _progress(plane, who, body)
        case TrackComplete():
            answer = await _complete(plane, who, body)
        case TrackFail():
            answer = await _fail(plane, who, body)
    return JSONResponse({"success": True, **answer})


async def _start(plane: Plane, who: Principal, body: TrackStart) -> dict[str, object]:
    user = await acting_for(plane, who, body.user_id)
    session = await tracking.start(plane.database, who, _new_upload(body, user.user_id))
    await plane.sessions.save(session["sessionId"], session)
    told = {name: session[name] for name in ("sessionId", "fileId", "chunksTotal")}
    return {
        "message": "The upload is tracked.",
        "session": {**told, "estimatedTime": estimated_seconds(body.file_size)},
    }


async def _progress(plane: Plane, who: Principal, body: TrackProgress) -> dict[str, object]:
    done = {"chunks_completed": body.chunks_completed, "bytes_uploaded": body.bytes_uploaded}
    session = await tracking.progress(plane.database, who, body.session_id, **done)
    await plane.sessions.save(session["sessionId"], session)
    told = {"chunksCompleted": body.chunks_completed, "bytesUploaded": body.bytes_uploaded}
    return {"message": "The progress is kept.", "progress": told}


async def _complete(plane: Plane, who: Principal, body: TrackComplete) -> dict[str, object]:
    session = await tracking.complete(plane.database, who, body.session_id, actual_cost=body.actual_cost)
    await plane.sessions.save(session["sessionId"], session)
    return {"message": "The upload is complete.", "sessionId": body.session_id}


async def _fail(plane: Plane, who: Principal, body: TrackFail) -> dict[str, object]:
    message = body.error_message or ""
    session = await tracking.fail(
        plane.database,
        who,
        body.session_id,
        chunks_completed=body.chunks_completed,
        bytes_uploaded=body.bytes_uploaded,
        error_message=message,
    )
    await plane.sessions.save(session["sessionId"], session)
    return {"message": "The upload has failed.", "sessionId": body.session_id, "errorMessage": message}


def _new_upload(body: TrackStart, user_id: str) -> NewUpload:
    """The upload, cut by the size table where the client does not say how. Raises ApiError 400."""
    try:
        cut = strategy(body.file_size, Limits(), "tier", body.threads)
    except UsageError as error:
        raise failures.bad_request(f"fileSize: {error.message}") from None
    chunk_size = body.chunk_size or cut.chunk_size
    chunks_total = body.chunks_total or Layout(body.file_size, chunk_size).count
    if chunks_total > _MOST_CHUNKS:
        raise failures.bad_request("chunkSize: there would be too many chunks.")
    return NewUpload(
        user_id=user_id,
        file_name=body.file_name,
        file_hash=body.file_hash,
        file_size=body.file_size,
        file_id=body.file_id or str(uuid.uuid4()),
        chunk_size=chunk_size,
        threads=cut.threads,
        chunks_total=chunks_total,
        edges_used=body.edges_used or (),
        estimated_cost=body.estimated_cost,
        upload_via=body.upload_via or "api",
        jetty_speed_enabled=body.jetty_speed_enabled is not False,
    )

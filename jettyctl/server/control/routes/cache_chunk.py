"""cache-chunk: what is known of a session's chunks, kept for whoever goes on with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from starlette.responses import JSONResponse

from jettyctl.server.control.auth import PlaneDep, Reader, Writer
from jettyctl.server.control.bodies import CacheChunk, CacheChunkAnswer, ChunksAnswer, SessionId
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.sessions import ChunkEntry
from jettyctl.server.control.strict import api_router, failing

router = api_router()
_limited = [limited("cache-chunk")]


@router.post("/cache-chunk", response_model=CacheChunkAnswer, responses=failing(404, 409), dependencies=_limited)
async def keep(body: CacheChunk, plane: PlaneDep, who: Writer) -> JSONResponse:
    """Keep the state of one chunk. It is durable when the answer is sent; sent again it counts once."""
    entry = ChunkEntry(
        index=body.chunk_index,
        status=body.status,
        chunk_hash=body.chunk_hash or "",
        edge_id=body.edge_id or "",
        bytes_uploaded=body.bytes_uploaded or 0,
        error_message=body.error_message or "",
    )
    await plane.sessions.put_chunks(who, body.session_id, [entry], fence=None)
    plane.metrics.chunk(body.status, entry.bytes_uploaded)
    kept = {"sessionId": body.session_id, "chunkIndex": body.chunk_index, "status": body.status}
    return JSONResponse({"success": True, "message": f"Chunk {body.chunk_index} is {body.status}.", "chunk": kept})


@router.get("/cache-chunk", response_model=ChunksAnswer, dependencies=_limited)
async def chunks(plane: PlaneDep, who: Reader, session_id: Annotated[SessionId, Query(alias="sessionId")]) -> JSONResponse:
    """The chunks of a session, in index order. Another user's session looks like one that nobody knows."""
    try:
        known = await plane.sessions.chunks(who, session_id)
    except ApiError as error:
        if error.status != 404:
            raise
        known = []
    if not known:
        return JSONResponse({"chunks": [], "total": 0, "message": "No chunk of this session is known."})
    return JSONResponse({"chunks": [*map(_shown, known)], "total": len(known)})


def _shown(entry: ChunkEntry) -> dict[str, object]:
    return {
        "chunkIndex": entry.index,
        "chunkHash": entry.chunk_hash,
        "edgeId": entry.edge_id,
        "status": entry.status,
        "bytesUploaded": entry.bytes_uploaded,
        "errorMessage": entry.error_message,
        "timestamp": datetime.fromtimestamp(entry.timestamp, UTC).isoformat(timespec="milliseconds"),
    }

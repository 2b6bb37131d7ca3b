"""Uploads: begun, part by part, completed."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import Path
from starlette.requests import Request
from starlette.responses import JSONResponse

from jettyctl.server.control import finalize as finalizing
from jettyctl.server.control import uploads as uploading
from jettyctl.server.control.auth import PlaneDep, Reader, Writer
from jettyctl.server.control.bodies import SessionId
from jettyctl.server.control.bodies_uploads import (
    Described,
    Finish,
    Finished,
    NewUpload,
    PartReceived,
    Parts,
    PartWanted,
    Removed,
    SignedParts,
    StoredParts,
    UploadBegun,
)
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.routes.addresses import base_of
from jettyctl.server.control.strict import api_router
from jettyctl.storage.base import PartClaim

router = api_router(404, 408, 409, 410, 502)
_upload = [limited("uploads")]
_AGAIN: dict[int | str, dict[str, Any]] = {200: {"model": UploadBegun}}
Session = Annotated[SessionId, Path(alias="id")]


@router.post("/uploads", response_model=UploadBegun, status_code=201, dependencies=_upload, responses=_AGAIN)
async def begin(body: NewUpload, plane: PlaneDep, who: Writer) -> JSONResponse:
    """Begin an upload, or go on with it: 200 then. The session's id is the client's to make."""
    hosting = plane.hosting
    wish = uploading.Wish(
        session_id=body.session_id,
        key=body.key,
        file_name=body.file_name,
        size=body.file_size,
        chunk_size=body.chunk_size,
        threads=body.threads or uploading.DEFAULT_THREADS,
        file_hash=body.file_hash or "",
        options=options_in(body),
        if_absent=body.if_exists == "fail",
        holder=body.holder,
        host=body.host,
    )
    checksum = await hosting.objects.settled()
    begun = await hosting.uploads.begin(who, wish)
    work = begun.work
    answer = {
        "sessionId": work.session_id,
        "fileId": work.file_id,
        "fence": work.fence,
        "leaseSeconds": plane.settings.lease_seconds,
        "checksum": checksum,
        "chunksTotal": work.layout.count,
    }
    return JSONResponse(answer, 201 if begun.new else 200)


@router.post("/uploads/{id}/parts", response_model=SignedParts, dependencies=_upload)
async def parts(session_id: Session, body: Parts, request: Request, plane: PlaneDep, who: Writer) -> JSONResponse:
    """Keep the receipts of parts that were sent, and sign requests for parts that are to be sent."""
    wanted = [(part.number, _claim(part)) for part in body.wanted]
    signed = await plane.hosting.uploads.parts(
        who, session_id, body.fence, received(body.completed), wanted, base_of(request, plane.settings)
    )
    answer = [
        {
            "number": part.number,
            "method": "PUT",
            "url": part.url,
            "headers": dict(part.headers),
            "expiresAt": part.expires_at,
        }
        for part in signed
    ]
    return JSONResponse({"parts": answer, "leaseSeconds": plane.settings.lease_seconds})


@router.get("/uploads/{id}/parts", response_model=StoredParts, dependencies=_upload)
async def stored(session_id: Session, plane: PlaneDep, who: Reader) -> JSONResponse:
    """The parts that the store has: the truth about a session."""
    found = await plane.hosting.uploads.stored_parts(who, session_id)
    answer = [
        {"number": part.number, "size": part.size, "etag": part.etag, "crc64": _hex(part.crc64)}
        for part in found
    ]
    return JSONResponse({"parts": answer})


@router.post("/uploads/{id}/finalize", response_model=Finished, dependencies=_upload)
async def finalize(session_id: Session, body: Finish, request: Request, plane: PlaneDep, who: Writer) -> JSONResponse:
    """Make the object of its parts. A repeat answers the same."""
    finish = finalizing.Finish(body.fence, body.file_hash, int(body.crc64, 16), body.size, received(body.completed))
    answer = await plane.hosting.finalizer.finalize(who, session_id, finish, base_of(request, plane.settings))
    plane.hosting.verifying.poke()
    return JSONResponse(dict(answer))


@router.delete("/uploads/{id}", response_model=Removed, dependencies=_upload)
async def abort(session_id: Session, plane: PlaneDep, who: Writer) -> JSONResponse:
    """End an upload without an object, and forget its parts."""
    await plane.hosting.uploads.abort(who, session_id)
    return JSONResponse({"success": True})


def options_in(body: Described) -> dict[str, Any]:
    """What is to be said of an object, as `session_states.options` keeps it."""
    return {
        "content_type": body.content_type,
        "cache_control": body.cache_control,
        "storage_class": body.storage_class,
        "metadata": body.metadata or {},
    }


def received(parts: list[PartReceived]) -> list[uploading.Part]:
    return [uploading.Part(part.number, part.etag, part.crc64, part.length, part.edge_id) for part in parts]


def _claim(part: PartWanted) -> PartClaim:
    md5 = base64.b64decode(part.md5) if part.md5 else None
    sha256 = bytes.fromhex(part.sha256) if part.sha256 else None
    return PartClaim(part.length, int(part.crc64, 16), md5, sha256)


def _hex(crc64: int | None) -> str | None:
    return None if crc64 is None else f"{crc64:016x}"

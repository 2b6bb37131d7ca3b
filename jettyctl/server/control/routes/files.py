"""Files of the user: what they have, and the end of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import JSONResponse

from jettyctl.server.control import files as index
from jettyctl.server.control.auth import PlaneDep, Reader, Writer
from jettyctl.server.control.bodies import FileId
from jettyctl.server.control.bodies_uploads import FilesAnswer, Removed
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.routes.addresses import address_of
from jettyctl.server.control.strict import api_router

router = api_router(404)
_upload = [limited("uploads")]


@router.get("/files", response_model=FilesAnswer, dependencies=_upload)
async def files(
    request: Request, plane: PlaneDep, who: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> JSONResponse:
    """The user's files, newest first."""
    answer = [
        {
            "fileId": known.file_id,
            "fileName": known.file_name,
            "fileHash": known.file_hash,
            "fileSize": known.size,
            "key": known.object_key,
            "url": address_of(request, plane.settings, known),
            "mimeType": known.mime_type,
            "createdAt": known.first_uploaded_at.isoformat(),
        }
        for known in await index.list_own(plane.database, who, limit)
    ]
    return JSONResponse({"files": answer})


@router.delete("/files/{fileId}", response_model=Removed, dependencies=_upload)
async def remove(file_id: Annotated[FileId, Path(alias="fileId")], plane: PlaneDep, who: Writer) -> JSONResponse:
    """Remove a file. Its bytes go when nobody refers to them any more."""
    await plane.hosting.removal.delete_file(who, file_id)
    plane.hosting.removing.poke()
    return JSONResponse({"success": True})

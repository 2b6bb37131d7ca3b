"""Objects of the user: described, and their bytes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

import aiofiles
from aiofiles.threadpool.binary import AsyncBufferedReader
from fastapi import Query
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from jettyctl.core.model import MIB
from jettyctl.server.control import failures, stored
from jettyctl.server.control.auth import PlaneDep, Reader
from jettyctl.server.control.bodies import FileId
from jettyctl.server.control.bodies_uploads import Key, ObjectRecord
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.strict import api_router

router = api_router(404, 502)
_upload = [limited("uploads")]
AskedKey = Annotated[Key | None, Query()]
AskedFile = Annotated[FileId | None, Query(alias="fileId")]


@router.get("/object", response_model=ObjectRecord, dependencies=_upload)
async def describe(plane: PlaneDep, who: Reader, key: AskedKey = None, file_id: AskedFile = None) -> JSONResponse:
    """What the service knows of an object, by its key or by a file that stands for it."""
    found = await stored.find(plane.database, who, key=key, file_id=file_id)
    return JSONResponse(
        {
            "key": found.object_key,
            "size": found.size,
            "etag": found.etag,
            "crc64": found.crc64 or None,
            "sha256": found.file_hash.removeprefix("sha256:") if found.verified else None,
            "metadata": found.metadata,
            "fileId": found.file_id,
            "verified": found.verified,
        }
    )


@router.get("/object/content", dependencies=_upload, response_class=Response, responses={307: {"description": "At the store"}})
async def content(plane: PlaneDep, who: Reader, key: AskedKey = None, file_id: AskedFile = None) -> Response:
    """The bytes of an object, or the way to them."""
    found = await stored.find(plane.database, who, key=key, file_id=file_id)
    objects = plane.hosting.objects
    if objects.local is None:
        return RedirectResponse((await objects.sign_read(found.storage_key)).url, 307)
    try:
        file = await aiofiles.open(await objects.file_of(found.storage_key), "rb")
    except FileNotFoundError:
        raise failures.not_found("object") from None
    return _attached(file, found)


def _attached(file: AsyncBufferedReader, found: stored.StoredObject) -> Response:
    """As an attachment, of no type that a browser would run."""
    size = os.fstat(file.fileno()).st_size
    name = found.object_key.rpartition("/")[2] or "object"
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "ETag": f'"{found.etag}"',
    }
    return StreamingResponse(_pieces(file), headers=headers, media_type="application/octet-stream")


async def _pieces(file: AsyncBufferedReader) -> AsyncIterator[bytes]:
    try:
        while data := await file.read(MIB):
            yield data
    finally:
        await file.close()

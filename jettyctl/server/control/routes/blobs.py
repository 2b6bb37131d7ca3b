"""Parts for the embedded store. The address is the permission: no key is asked for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jettyctl.server.control import failures
from jettyctl.server.control.auth import PlaneDep
from jettyctl.server.control.strict import api_router

router = api_router(404, 408, 409, 410, 502)
_GONE = 499  # nobody is there to read it; for the log


@router.put("/blobs/{token}", response_class=Response)
async def put(token: Annotated[str, Path(max_length=2048)], request: Request, plane: PlaneDep) -> Response:
    """Store the part that the address is for."""
    blobs = plane.hosting.blobs
    if blobs is None:
        raise failures.not_found("path")
    given = request.headers.get("content-length", "")
    try:
        receipt = await blobs.receive(token, int(given) if given.isdecimal() else None, request.stream())
    except ClientDisconnect:
        return Response(status_code=_GONE)
    return Response(headers={"ETag": f'"{receipt.etag}"'})

"""POST check-duplicate: whether the user has sent a content before."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from jettyctl.server.control import files
from jettyctl.server.control.auth import PlaneDep, Reader, acting_for
from jettyctl.server.control.bodies import CheckDuplicate, CheckDuplicateAnswer
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.recording import cost_of
from jettyctl.server.control.routes.addresses import address_of
from jettyctl.server.control.strict import api_router

router = api_router()


@router.post("/check-duplicate", response_model=CheckDuplicateAnswer, dependencies=[limited("check-duplicate")])
async def check_duplicate(request: Request, body: CheckDuplicate, plane: PlaneDep, who: Reader) -> JSONResponse:
    """Only what this user has counts; what others have is not told. Their content is cloned with a proof, not asked for."""
    user = await acting_for(plane, who, body.user_id)
    known = await files.find_own(plane.database, user.tenant_id, user.user_id, body.file_hash)
    if known is None:
        return JSONResponse({"isDuplicate": False, "message": "This content was not uploaded before."})
    file = {
        "fileId": known.file_id,
        "url": address_of(request, plane.settings, known) or "",
        "fileName": known.file_name,
        "fileSize": known.size,
        "mimeType": known.mime_type,
        "uploadCount": known.upload_count,
        "firstUploadedAt": known.first_uploaded_at.isoformat(timespec="milliseconds"),
    }
    savings = {"bytes": known.size, "cost": cost_of(known.size)}
    return JSONResponse(
        {"isDuplicate": True, "file": file, "savings": savings, "message": "This content was uploaded before: do not send it."}
    )

"""Content that need not be sent: is it known, prove that it is yours, have it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from jettyctl.server.control import clones as cloning
from jettyctl.server.control.auth import PlaneDep, Reader, Writer
from jettyctl.server.control.bodies_uploads import (
    Challenge,
    ChallengeAnswer,
    Clone,
    Cloned,
    Fingerprint,
    FingerprintAnswer,
)
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.routes.addresses import base_of
from jettyctl.server.control.routes.uploads import options_in
from jettyctl.server.control.strict import api_router

router = api_router(404, 409, 502)
_check = [limited("check-duplicate")]


@router.post("/fingerprint", response_model=FingerprintAnswer, dependencies=_check)
async def fingerprint(body: Fingerprint, plane: PlaneDep, who: Reader) -> JSONResponse:
    """Whether a file may be known, from a sample of it."""
    return JSONResponse({"mayBeKnown": await plane.hosting.clones.may_be_known(who, body.size, body.sample)})


@router.post("/clones/challenge", response_model=ChallengeAnswer, dependencies=_check)
async def challenge(body: Challenge, plane: PlaneDep, who: Writer) -> JSONResponse:
    """What is to be proven for a content; whether it is known, the answer does not tell."""
    asked = await plane.hosting.clones.challenge(who, body.size, body.blake3)
    return JSONResponse({"nonce": asked.nonce, "seed": asked.seed, "expiresIn": cloning.NONCE_SECONDS})


@router.post("/clones", response_model=Cloned, dependencies=_check)
async def clone(body: Clone, request: Request, plane: PlaneDep, who: Writer) -> JSONResponse:
    """The content as an object of the user, for a proof."""
    wish = cloning.Wish(
        nonce=body.nonce,
        proof=body.proof,
        key=body.key,
        file_name=body.file_name,
        session_id=body.session_id or "",
        options=options_in(body),
        if_absent=body.if_exists == "fail",
    )
    answer = await plane.hosting.clones.clone(who, wish, base_of(request, plane.settings))
    return JSONResponse(dict(answer))

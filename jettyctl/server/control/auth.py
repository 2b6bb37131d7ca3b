"""The dependencies that routes name: the services, who asks, and with which scope; and for whom one may act.

They are few and flat for speed: what FastAPI does for each dependency of a request costs more than these do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param

from jettyctl.server.control import failures
from jettyctl.server.control.middleware import seen_in
from jettyctl.server.control.plane import Plane
from jettyctl.server.control.principal import ADMIN, READ, WRITE, Principal


def plane_of(request: Request) -> Plane:
    """The services of this process."""
    return cast("Plane", request.app.state.plane)


async def _plane(request: Request) -> Plane:
    return plane_of(request)


PlaneDep = Annotated[Plane, Depends(_plane)]


async def authenticated(request: Request) -> Principal:
    """Whose key it is, found once for a request. Raises ApiError 401."""
    seen = seen_in(request)
    if seen.who is None:
        scheme, key = get_authorization_scheme_param(request.headers.get("authorization"))
        address = request.client.host if request.client else ""
        seen.who = await plane_of(request).authenticator.principal(key if scheme.lower() == "bearer" else None, address)
    return seen.who


class NeedsKey(SecurityBase):
    """Base of dependencies that ask for a key: the description of the service says so of their routes."""

    model = HTTPBearer(description="A key that `jettyctl keys create` made.")
    scheme_name = "key"


class _Scoped(NeedsKey):
    """Keys that have a scope pass. Raises ApiError 403 for others."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    async def __call__(self, request: Request) -> Principal:
        who = await authenticated(request)
        if not who.may(self._scope):
            raise failures.forbidden(f"This key lacks the scope {self._scope!r}.")
        return who


Reader = Annotated[Principal, Depends(_Scoped(READ))]
Writer = Annotated[Principal, Depends(_Scoped(WRITE))]
Admin = Annotated[Principal, Depends(_Scoped(ADMIN))]


async def acting_for(plane: Plane, who: Principal, user_id: str) -> Principal:
    """The principal that a request works as: the key's own, or for an admin of the same tenant the user's.

    Raises ApiError 403 for anybody else.
    """
    if not await plane.authenticator.may_act_for(who, user_id):
        raise failures.forbidden("The userId is not that of the key.")
    return who if who.user_id == user_id else replace(who, user_id=user_id)

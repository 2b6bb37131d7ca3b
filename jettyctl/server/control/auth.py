"""The dependencies that routes name: the services, who asks, and with which scope; and for whom one may act."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from jettyctl.server.control import failures
from jettyctl.server.control.middleware import seen_in
from jettyctl.server.control.plane import Plane
from jettyctl.server.control.principal import ADMIN, READ, WRITE, Principal

_bearer = HTTPBearer(auto_error=False, description="A key of `jettyctl keys create`.")


async def _plane(request: Request) -> Plane:
    """The services of this process."""
    return cast("Plane", request.app.state.plane)


PlaneDep = Annotated[Plane, Depends(_plane)]


async def _principal(
    request: Request, plane: PlaneDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Whose key it is. Raises ApiError 401."""
    address = request.client.host if request.client else ""
    who = await plane.authenticator.principal(credentials.credentials if credentials else None, address)
    seen_in(request).user_id = who.user_id
    return who


Known = Annotated[Principal, Depends(_principal)]  # any good key, whatever its scopes


class _Scope:
    """A dependency that lets keys with one scope pass. Raises ApiError 403 for others."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    async def __call__(self, who: Known) -> Principal:
        if not who.may(self._scope):
            raise failures.forbidden(f"This key lacks the scope {self._scope!r}.")
        return who


Reader = Annotated[Principal, Depends(_Scope(READ))]
Writer = Annotated[Principal, Depends(_Scope(WRITE))]
Admin = Annotated[Principal, Depends(_Scope(ADMIN))]


async def acting_for(plane: Plane, who: Principal, user_id: str) -> Principal:
    """The principal that a request works as: the key's own, or for an admin of the same tenant the user's.

    Raises ApiError 403 for anybody else.
    """
    if not await plane.authenticator.may_act_for(who, user_id):
        raise failures.forbidden("The userId is not that of the key.")
    return who if who.user_id == user_id else replace(who, user_id=user_id)

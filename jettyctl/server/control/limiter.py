"""The dependency by which a route names its bucket of requests."""

from __future__ import annotations

from fastapi import Request
from fastapi.params import Depends

from jettyctl.server.control.auth import Known, PlaneDep
from jettyctl.server.control.middleware import seen_in


def limited(bucket: str) -> Depends:
    """For `dependencies=[...]` of a route: one ticket of the bucket, of the key's user. Raises ApiError 429."""

    async def take(request: Request, plane: PlaneDep, who: Known) -> None:
        seen_in(request).standing = await plane.tickets.take(bucket, f"{who.tenant_id}:{who.user_id}")

    return Depends(take)

"""The dependency by which a route names its bucket of requests."""

from __future__ import annotations

from fastapi import Request
from fastapi.params import Depends

from jettyctl.server.control.auth import NeedsKey, authenticated, plane_of
from jettyctl.server.control.middleware import seen_in


class _Limited(NeedsKey):
    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    async def __call__(self, request: Request) -> None:
        who = await authenticated(request)
        seen_in(request).standing = await plane_of(request).tickets.take(self._bucket, f"{who.tenant_id}:{who.user_id}")


def limited(bucket: str) -> Depends:
    """For `dependencies=[...]` of a route: one ticket of the bucket, of the key's user. Raises ApiError 401 and 429."""
    return Depends(_Limited(bucket))

"""What clients reach the service by, and where it hands out bytes."""

from __future__ import annotations

from starlette.requests import Request

from jettyctl.server.control.files import KnownFile
from jettyctl.server.control.finalize import file_url
from jettyctl.server.control.settings import Settings


def base_of(request: Request, settings: Settings) -> str:
    """The public URL, or the name that this request came by, which `middleware.Guarded` allows."""
    return settings.public_url or f"{request.url.scheme}://{request.url.netloc}"


def address_of(request: Request, settings: Settings, known: KnownFile) -> str | None:
    """Where a user's file is to be had; None for one that the service was only told of."""
    if known.object_key is None:
        return None
    return file_url(base_of(request, settings), known.object_key, known.file_id)

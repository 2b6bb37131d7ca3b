"""What the service is reached by, for the addresses that it hands out."""

from __future__ import annotations

from starlette.requests import Request

from jettyctl.server.control.settings import Settings


def base_of(request: Request, settings: Settings) -> str:
    """The public URL, or the name that this request came by, which `middleware.Guarded` allows."""
    return settings.public_url or f"{request.url.scheme}://{request.url.netloc}"

"""A file that the user has already, as the contract's answers describe it."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request

from jettyctl.core.model import GIB
from jettyctl.core.scoring import COST_PER_GIB
from jettyctl.server.control.files import KnownFile
from jettyctl.server.control.settings import Settings


def url_of(request: Request, settings: Settings, known: KnownFile) -> str:
    """Where the service hands out the bytes; "" where it has none by that name: a file that was only told of, or has no key."""
    if not known.object_key:
        return ""
    base = settings.public_url or f"{request.url.scheme}://{request.url.netloc}"  # a name that `middleware.Guarded` allows
    return f"{base}/api/jetty/object/content?key={quote(known.object_key, safe='/')}"


def cost_of(size: int) -> float:
    """USD, by the usual price."""
    return round(size / GIB * COST_PER_GIB, 6)

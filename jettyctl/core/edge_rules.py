"""What an edge may be called, where it may be, and what it says of itself: the same for clients and for a control plane."""

from __future__ import annotations

import json
import math
import re
from urllib.parse import urlsplit

from jettyctl.core import geo
from jettyctl.core.catalogue import DIRECT_ID
from jettyctl.core.names import printable
from jettyctl.core.scoring import Edge
from jettyctl.errors import UsageError

_ID = re.compile("[a-z0-9][a-z0-9-]{0,62}")
_RESERVED = {DIRECT_ID, "direct"}


def checked(edge: Edge) -> Edge:
    """The edge itself. Raises UsageError for an id, URL, place or price that cannot be."""
    if not _ID.fullmatch(edge.id) or edge.id in _RESERVED:
        raise UsageError(
            f"{printable(edge.id)!r} cannot be the id of an edge",
            hint="Use lower-case letters, digits and dashes, at most 63, like office-1.",
        )
    check_url(edge.url)
    if (edge.lat is None) != (edge.lng is None):
        raise UsageError("a latitude needs a longitude, and the other way round", hint="Give both, or neither.")
    if edge.lat is not None and edge.lng is not None:
        geo.checked(edge.lat, edge.lng, f"{edge.lat:g},{edge.lng:g}")
    if edge.cost_per_gib is not None and not 0 <= edge.cost_per_gib < math.inf:
        raise UsageError(f"{edge.cost_per_gib:g} is not a price for a GiB", hint="Give USD from 0 on, like 0.05.")
    return edge


def check_url(url: str) -> None:
    """Only what a chunk can be sent to: a secret or a query in it would end up in logs and file lists. Raises UsageError."""
    hint = "Write it like https://edge.example.com or http://192.0.2.7:53777."
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        # What may be a password is not repeated.
        raise UsageError(
            "that is not the URL of an edge" if "@" in url else f"{printable(url)!r} is not the URL of an edge", hint=hint
        )
    if "@" in parts.netloc:
        raise UsageError("the URL of an edge must not hold credentials", hint=hint)
    if "?" in url or "#" in url:
        raise UsageError("the URL of an edge must not have a query or a fragment", hint=hint)


def health_of(body: bytes) -> tuple[float | None, float | None]:
    """`load` (0 to 100) and `active` as the answer to GET /health states them; None where it does not, or states nonsense."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    load, active = (_number(said.get(name)) for name in ("load", "active")) if isinstance(said, dict) else (None, None)
    return None if load is None else min(100.0, load), active


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        return None
    return float(value)

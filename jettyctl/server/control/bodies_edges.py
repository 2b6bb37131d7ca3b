"""The JSON of an edge, as admins put it and as everybody sees it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from jettyctl.server.control.bodies import NO_CONTROL, Answer, Body

Word = Annotated[str, Field(max_length=256, pattern=NO_CONTROL)]


class EdgePut(Body):
    """An edge to be. Degrees, both or none; USD."""

    url: Annotated[str, Field(min_length=1, max_length=2048, pattern=NO_CONTROL)]
    city: Word = ""
    country: Word = ""
    lat: float | None = None
    lng: float | None = None
    provider: Word = ""
    cost_per_gib: float | None = None
    is_active: bool = True


class EdgeSeen(Answer):
    """The newest look at an edge. Milliseconds, percent, Mbit/s; null is what the edge did not tell."""

    timestamp: str
    answered: bool
    latency: float | None
    load: float | None
    bandwidth: float | None
    active_uploads: int | None
    error_rate: float
    fresh: bool


class EdgeEntry(Answer):
    """An edge. `metrics` is null for one that was never looked at."""

    id: str
    url: str
    city: str
    country: str
    lat: float | None
    lng: float | None
    provider: str
    cost_per_gib: float | None
    is_active: bool
    created_at: str
    metrics: EdgeSeen | None


class EdgesAnswer(Answer):
    """All edges, by id."""

    edges: list[EdgeEntry]

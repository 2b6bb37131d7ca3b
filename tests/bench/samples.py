"""One run's figures: what the system counted, and what jettyctl's JSON Lines tell besides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

MEGABIT = 1e6 / 8


@dataclass(frozen=True, slots=True)
class Sample:
    """The cost of one run: seconds of wall clock and of CPU, bytes of the largest process's peak.

    Only of jettyctl: bytes of bodies `sent`, the `steady` rate in Mbit/s, what it named as its `bottleneck`; and of a run
    that was killed and resumed: bytes that the server got twice (`again`), and that were in flight at the kill.
    """

    wall: float
    cpu: float
    rss: int
    sent: int | None = None
    steady: float | None = None
    bottleneck: str | None = None
    again: int | None = None
    in_flight: int | None = None


def sample(cost: Mapping[str, Any], total: int, printed: str) -> Sample:
    """`cost` is the launcher's; `printed` is jettyctl's output, or empty for another client."""
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    last = {event["type"]: event for event in events}
    summary, killed = last.get("summary", {}), last.get("killed")
    return Sample(
        cost["wall"],
        cost["cpu"],
        cost["rss"],
        summary.get("bytes_sent"),
        None if killed else steady(events, total),
        summary.get("bottleneck"),
        cost["stored"][2] - total if killed else None,
        killed["in_flight"] if killed else None,
    )


def steady(events: list[dict[str, Any]], total: int) -> float | None:
    """Mbit/s between the first and the last quarter of the bytes; None where too few progress lines tell of it."""
    points = [(event["seconds"], event["bytes_sent"]) for event in events if event["type"] == "progress"]
    if len(points) < 6:
        return None
    begun, ended = _moment(points, total / 4), _moment(points, total * 3 / 4)
    return total / 2 / MEGABIT / (ended - begun) if begun is not None and ended is not None and ended > begun else None


def _moment(points: list[tuple[float, int]], sent: float) -> float | None:
    """When this many bytes had been sent, on straight lines between the points."""
    for (before, less), (after, more) in pairwise(points):
        if less <= sent < more:
            return before + (after - before) * (sent - less) / (more - less)
    return None

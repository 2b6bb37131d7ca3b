"""One run's figures: what the system counted, and what jettyctl's JSON Lines tell besides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
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
    """Mbit/s between the first and the last quarter of the bytes; None where too few progress lines lie there."""
    points = [
        (event["seconds"], event["bytes_sent"])
        for event in events
        if event["type"] == "progress" and total / 4 <= event["bytes_sent"] <= total * 3 / 4
    ]
    if len(points) < 3:
        return None
    (begun, before), (ended, after) = points[0], points[-1]
    return float((after - before) / MEGABIT / (ended - begun))

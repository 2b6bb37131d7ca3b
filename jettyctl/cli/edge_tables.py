"""What `jettyctl edges` shows: tables for people, records for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jettyctl.core.catalogue import DIRECT_ID
from jettyctl.core.names import printable
from jettyctl.core.scoring import STALE, Edge, EdgeMetrics, RankedEdge, Selection, is_stale, weights_of
from jettyctl.core.units import format_duration, format_size
from jettyctl.edges.location import Whereabouts
from jettyctl.edges.probe import ProbeResult

WIDTH = 160  # columns, where no terminal says how many: a pipe must not get cells that were cut off


@dataclass(frozen=True, slots=True)
class Asked:
    """What `select` was asked."""

    size: int
    priority: Any  # core.scoring.Priority
    here: Whereabouts | None
    budget: float | None


def edge_table(edges: Sequence[Edge], offered: Sequence[Edge], metrics: Mapping[str, EdgeMetrics], now: float) -> str:
    """The configured edges, then those of the catalogue."""
    rows = [[*_who(edge), _state(edge, metrics.get(edge.id)), *_measured(metrics.get(edge.id), now)] for edge in edges]
    rows += [[*_who(edge), "available", "", "", "", "", ""] for edge in offered]
    return _table(["id", "place", "url", "state", "latency", "load", "bandwidth", "errors", "probed"], rows)


def probe_table(results: Iterable[ProbeResult]) -> str:
    """What each edge answered."""
    rows = [
        [
            result.edge_id,
            "yes" if result.reachable else "no",
            _ms(result.connect_ms),
            _ms(result.tls_ms),
            _ms(result.metrics.latency_ms if result.reachable else None),
            _of(result.metrics.load_percent, "%"),
            "" if result.active is None else str(result.active),
            _of(result.metrics.bandwidth_mbps, "Mbit/s"),
            _of(result.metrics.error_rate, "%"),
            printable(result.error),
        ]
        for result in results
    ]
    head = ["id", "answers", "connect", "TLS", "first byte", "load", "active", "bandwidth", "errors", "why not"]
    return _table(head, rows)


def explanation(selection: Selection, asked: Asked) -> str:
    """The selection, each factor with what it was made of, and what the reader should know about it."""
    here = f"from {asked.here.location} ({asked.here.source})" if asked.here else "without a location, so without distance"
    parts = [f"{format_size(asked.size)}, priority {asked.priority}, {here}"]
    if selection.edges:
        weights = weights_of(asked.priority, located=any(one.distance_km is not None for one in selection.edges))
        names = ("latency", "bandwidth", "load", "distance", "errors")
        head = ["edge", "share", "score", *(f"{name} x{getattr(weights, name) or 0:.2f}" for name in names), "cost"]
        rows = [_explained(one, asked.size) for one in selection.edges]
        rows.append(["direct", _percent(selection.direct_weight), *[""] * 7])
        parts.append(_table(head, rows))
    parts += [selection.message] if selection.message else []
    return "\n".join([*parts, *_remarks(selection)])


def edge_record(edge: Edge, metrics: EdgeMetrics | None, now: float, *, configured: bool) -> dict[str, Any]:
    """An edge of `list` for JSON."""
    return {
        **asdict(edge),
        "configured": configured,
        "enabled": configured and edge.enabled,
        "reachable": metrics.reachable if metrics else None,
        "stale": is_stale(metrics, now),
        "metrics": asdict(metrics) if metrics else None,
    }


def probe_record(result: ProbeResult) -> dict[str, Any]:
    """A probe for JSON."""
    record = asdict(result)
    return {"id": record.pop("edge_id"), "reachable": result.reachable, **record}


def selection_record(selection: Selection, asked: Asked) -> dict[str, Any]:
    """A selection for JSON."""
    place = asked.here and {**asdict(asked.here.location), "source": asked.here.source}
    return {
        "type": "selection",
        "size": asked.size,
        "priority": asked.priority,
        "budget": asked.budget,
        "location": place,
        "edges": [_ranked_record(one, asked) for one in selection.edges],
        "direct": {"id": DIRECT_ID, "weight": selection.direct_weight},
        "message": selection.message,
    }


def _ranked_record(one: RankedEdge, asked: Asked) -> dict[str, Any]:
    return {
        "id": one.edge.id,
        "url": one.edge.url,
        "score": one.score,
        "weight": one.weight,
        "answered": one.answered,
        "stale": one.stale,
        "distance_km": one.distance_km,
        "cost": one.edge.cost(asked.size),
        "factors": asdict(one.factors),
        "factor_weights": asdict(weights_of(asked.priority, located=one.distance_km is not None)),
        "metrics": asdict(one.metrics) if one.metrics else None,
    }


def _explained(one: RankedEdge, size: int) -> list[str]:
    factors = one.factors
    seen = STALE if one.stale or one.metrics is None else one.metrics
    bandwidth = STALE.bandwidth_mbps if seen.bandwidth_mbps is None else seen.bandwidth_mbps
    load = STALE.load_percent if seen.load_percent is None else seen.load_percent
    distance = "-" if factors.distance is None else f"{factors.distance:.2f} ({one.distance_km:.0f} km)"
    return [
        one.edge.id + (" *" if one.stale else ""),
        _percent(one.weight),
        f"{one.score:.3f}",
        f"{factors.latency:.2f} ({_ms(seen.latency_ms)})",
        f"{factors.bandwidth:.2f} ({_of(bandwidth, 'Mbit/s')})",
        f"{factors.load:.2f} ({_of(load, '%')})",
        distance,
        f"{factors.errors:.2f} ({_of(seen.error_rate, '%')})",
        f"{one.edge.cost(size):.2f} USD",
    ]


def _remarks(selection: Selection) -> list[str]:
    """What one has to know to read the numbers."""
    never = [one.edge.id for one in selection.edges if one.metrics is None]
    old = [one.edge.id for one in selection.edges if one.stale and one.metrics]
    placeless = [one.edge.id for one in selection.edges if one.distance_km is None]
    said = []
    if 0 < len(placeless) < len(selection.edges):
        said.append(f"Without coordinates, so ranked without distance, the rest counting more: {', '.join(placeless)}.")
    if never:
        said.append(f"* never probed, so counted as bad, and sent nothing before an answer: {', '.join(never)}.")
    if old:
        said.append(f"* probed more than 5 minutes ago, so counted as bad: {', '.join(old)}.")
    return [*said, "Run `jettyctl edges probe` to measure."] if never or old else said


def _who(edge: Edge) -> list[str]:
    return [edge.id, printable(" ".join(filter(None, (edge.city, edge.country)))), printable(edge.url)]


def _state(edge: Edge, metrics: EdgeMetrics | None) -> str:
    if not edge.enabled:
        return "disabled"
    if metrics is None:
        return "never probed"
    return "answers" if metrics.reachable else "no answer"


def _measured(metrics: EdgeMetrics | None, now: float) -> list[str]:
    if metrics is None:
        return ["", "", "", "", ""]
    age = f"{format_duration(max(0.0, now - metrics.measured_at))} ago" + (", stale" if is_stale(metrics, now) else "")
    if not metrics.reachable:
        return ["", "", "", _of(metrics.error_rate, "%"), age]
    return [
        _ms(metrics.latency_ms),
        _of(metrics.load_percent, "%"),
        _of(metrics.bandwidth_mbps, "Mbit/s"),
        _of(metrics.error_rate, "%"),
        age,
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # not strings: in those, rich would read markup
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def _of(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.0f} {unit}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

"""`jettyctl edges`: name the places that may carry chunks, probe them, and see how an upload would be spread."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from jettyctl.cli import options as o
from jettyctl.cli.options import option
from jettyctl.cli.output import json_line
from jettyctl.cli.streams import SafeStream
from jettyctl.core.catalogue import CATALOGUE, DOMAIN, edge_of
from jettyctl.core.geo import Location, parse_location
from jettyctl.core.names import printable
from jettyctl.core.scoring import Edge
from jettyctl.core.units import parse_size
from jettyctl.errors import UsageError

if TYPE_CHECKING:
    from jettyctl.edges.metrics import EdgeMemory

commands = typer.Typer(help="Choose the places that may carry chunks for you.", no_args_is_help=True, rich_markup_mode=None)

EdgeId = Annotated[str, typer.Argument(metavar="ID", help="The edge's name, as `jettyctl edges list` shows it.")]
# Not options.Json: that one is JSON Lines.
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Domain = Annotated[str, option("--edge-domain", help="The domain of the catalogue's edges.", metavar="DOMAIN")]


def place(text: str | Location) -> Location:
    """A location; what is parsed already stays as it is."""
    return text if isinstance(text, Location) else parse_location(text)


def usd(text: str) -> float:
    """An amount of money. Raises UsageError."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise UsageError(f"{text!r} is not an amount of USD", hint="Write it like 0.50.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="edges")


@commands.command("list")
def list_edges(edge_domain: Domain = DOMAIN, json: Json = False) -> None:
    """List the configured edges with their last measurements, and what the catalogue offers."""
    from jettyctl.cli import edge_tables as tables
    from jettyctl.edges import configured

    edges = configured.read()
    offered = [edge_of(template, edge_domain) for template in CATALOGUE.values() if template.id not in {e.id for e in edges}]
    metrics, now = _memory().recall(edges), time.time()
    if json:
        known = [tables.edge_record(edge, metrics.get(edge.id), now, configured=True) for edge in edges]
        available = [tables.edge_record(edge, None, now, configured=False) for edge in offered]
        return _out(json_line({"type": "edges", "edges": known + available}))
    _out(tables.edge_table(edges, offered, metrics, now))
    if not edges:
        _talk("no edge is configured. Run `jettyctl edges add ID URL`, or `jettyctl edges enable ID` for one of the catalogue.")
    return None


@commands.command("add")
def add(
    edge_id: EdgeId,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where it takes chunks, as https://edge.example.com.")],
    lat: Annotated[float | None, typer.Option("--lat", help="Its latitude in degrees.")] = None,
    lng: Annotated[float | None, typer.Option("--lng", help="Its longitude in degrees.")] = None,
    city: Annotated[str, typer.Option("--city", help="Its city, for lists.")] = "",
    cost_per_gib: Annotated[
        float | None, typer.Option("--cost-per-gib", help="What a GiB through it costs; 0.10 if nothing is said.", metavar="USD")
    ] = None,
) -> None:
    """Name an edge that may carry your chunks. It carries none before it has answered a probe."""
    from jettyctl.edges import configured

    configured.add(Edge(edge_id, url, city=city, lat=lat, lng=lng, cost_per_gib=cost_per_gib))
    _out(f"added  {edge_id}  {printable(url)}")


@commands.command("remove")
def remove(edge_id: EdgeId) -> None:
    """Take an edge out of the configuration."""
    from jettyctl.edges import configured

    configured.remove(edge_id)
    _out(f"removed  {edge_id}")


@commands.command("enable")
def enable(edge_id: EdgeId, edge_domain: Domain = DOMAIN) -> None:
    """Let an edge be used again, or take one of the catalogue into your configuration."""
    from jettyctl.edges import configured

    if edge_id in CATALOGUE and edge_id not in {edge.id for edge in configured.read()}:
        configured.add(edge_of(CATALOGUE[edge_id], edge_domain))
    else:
        configured.enable(edge_id, enabled=True)
    _out(f"enabled  {edge_id}")


@commands.command("disable")
def disable(edge_id: EdgeId) -> None:
    """Keep an edge in the configuration, and do not use it."""
    from jettyctl.edges import configured

    configured.enable(edge_id, enabled=False)
    _out(f"disabled  {edge_id}")


@commands.command("probe")
def probe(
    edge_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID...]", help="Which ones; all that are enabled if none is named.")
    ] = None,
    metered: Annotated[
        bool, typer.Option("--metered", help="Leave out the upload bursts of up to 4 MiB that measure bandwidth.")
    ] = False,
    ca_file: o.CaFile = None,
    no_verify_tls: o.NoVerifyTls = False,
    json: Json = False,
) -> None:
    """Measure edges: connection, first byte, load, bandwidth. An edge that does not answer is out until it does."""
    from jettyctl.cli import edge_tables as tables
    from jettyctl.edges import probe as probing

    edges = _named(edge_ids or [])
    results = probing.probe(edges, metered=metered, verify=not no_verify_tls, ca_file=ca_file)
    _memory().learn({result.url: result.metrics for result in results})
    if json:
        return _out(json_line({"type": "probes", "edges": [tables.probe_record(result) for result in results]}))
    if not edges:
        return _talk("there is no enabled edge to probe. Run `jettyctl edges add ID URL`.")
    return _out(tables.probe_table(results))


@commands.command("select")
def select(
    size: Annotated[str, typer.Option("--size", help="How big the upload would be, as 20GiB.", metavar="SIZE")] = "1GiB",
    priority: Annotated[o.Priority, option("--priority", help="What edges are chosen by.")] = o.Priority.BALANCED,
    location: Annotated[
        Location | None,
        option("--location", help="Where you are, as 52.52,13.40; else your time zone tells.", parser=place, metavar="LAT,LNG"),
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Leave out edges that would cost more.", metavar="USD", parser=usd)
    ] = None,
    json: Json = False,
) -> None:
    """Show how an upload would be spread over the edges and the direct route, and why. Nothing is sent."""
    from jettyctl.cli import edge_tables as tables
    from jettyctl.edges import configured
    from jettyctl.edges.builtin import BuiltinSelector
    from jettyctl.edges.location import find

    edges, length = configured.read(), parse_size(size)
    here = find(location)
    selector = BuiltinSelector(edges, _memory().recall(edges))
    selection = selector.select(length, priority.value, here.location if here else None, budget)
    asked = tables.Asked(length, priority.value, here, budget)
    _out(json_line(tables.selection_record(selection, asked)) if json else tables.explanation(selection, asked))


def _named(edge_ids: list[str]) -> list[Edge]:
    """The configured edges of these ids; all enabled ones for none. Raises UsageError for one that nobody configured."""
    from jettyctl.edges import configured

    edges = {edge.id: edge for edge in configured.read()}
    for edge_id in edge_ids:
        if edge_id not in edges:
            how = f"jettyctl edges enable {edge_id}" if edge_id in CATALOGUE else "jettyctl edges list"
            raise UsageError(f"no edge called {printable(edge_id)!r} is configured", hint=f"Run `{how}`.")
    return [edges[edge_id] for edge_id in dict.fromkeys(edge_ids)] or [edge for edge in edges.values() if edge.enabled]


def _memory() -> EdgeMemory:
    from jettyctl import paths
    from jettyctl.edges.metrics import EdgeMemory

    return EdgeMemory(paths.edges_file())


def _out(text: str) -> None:
    SafeStream(sys.stdout).line(text)


def _talk(text: str) -> None:
    SafeStream(sys.stderr).line(f"jettyctl: {text}")

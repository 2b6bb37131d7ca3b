"""The edges that the user named: the `[edges.ID]` tables of the configuration file.

[edges.fra-1]
url = "https://fra.example.net"
lat = 50.1109            # optional, both or none
lng = 8.6821
city = "Frankfurt"       # optional
country = "DE"           # optional
cost-per-gib = 0.05      # USD, optional
enabled = false          # optional, true if it is missing
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from jettyctl import config_file
from jettyctl.core.edge_rules import checked
from jettyctl.core.names import printable
from jettyctl.core.scoring import Edge
from jettyctl.errors import UsageError

_KEYS = {"url", "lat", "lng", "city", "country", "cost-per-gib", "enabled"}


def read() -> tuple[Edge, ...]:
    """All configured edges, in the file's order. Raises UsageError that names the file, the edge and the key."""
    tables = config_file.read().get("edges", {})
    if not isinstance(tables, dict):
        raise UsageError(f"{config_file.shown()}: edges must be tables, like [edges.fra-1]", hint="Edit the file.")
    return tuple(_edge(edge_id, table) for edge_id, table in tables.items())


def add(edge: Edge) -> None:
    """Write an edge. Raises UsageError for one that cannot be, or is configured already."""
    checked(edge)
    if any(known.id == edge.id for known in read()):
        raise UsageError(f"the edge {edge.id} is configured already", hint=f"Run `jettyctl edges remove {edge.id}` first.")
    _change(lambda tables: tables.update({edge.id: _to_toml(edge)}))


def remove(edge_id: str) -> None:
    """Take an edge out of the file, also one that `read` complains of. Raises UsageError if it is not there."""
    _change(lambda tables: tables.pop(_present(edge_id, tables)))


def enable(edge_id: str, enabled: bool) -> None:
    """Let an edge be used, or not. Raises UsageError if it is not in the file."""
    read()  # raises for a broken table, which is not to be changed
    _change(lambda tables: tables[_present(edge_id, tables)].update({"enabled": enabled}))


def _change(change: Callable[[Any], object]) -> None:
    """Apply a change to the `edges` tables of the file, and write it. The rest stays as it is.

    Inline tables and dotted keys do not take every change. Reading back what would be written shows it; then all tables
    are written anew, as plain as `add` writes them.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    document = config_file.document()
    wanted = document.unwrap()
    change(wanted.setdefault("edges", {}))
    if "edges" not in document:
        document["edges"] = tomlkit.table(is_super_table=True)
    try:
        change(document["edges"])
        kept = tomllib.loads(tomlkit.dumps(document)) == wanted
    except (ValueError, TOMLKitError):
        kept = False
    if not kept:
        document = config_file.document()
        document.pop("edges", None)
        if wanted["edges"]:
            document["edges"] = wanted["edges"]
    config_file.write(document)


def _edge(edge_id: str, table: object) -> Edge:
    """A table of the file as an edge."""
    where = f"{config_file.shown()}: [edges.{printable(edge_id)}]"
    hint = f"Edit the file, or run `jettyctl edges remove {printable(edge_id)}`."
    if not isinstance(table, dict):
        raise UsageError(f"{where}: it must be a table", hint=hint)
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise UsageError(f"{where}: there is no key called {printable(unknown[0])!r}", hint=hint)
    try:
        return checked(_from_toml(edge_id, table))
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=hint) from None


def _from_toml(edge_id: str, table: Mapping[str, Any]) -> Edge:
    enabled = table.get("enabled", True)
    if not isinstance(enabled, bool):
        raise UsageError("enabled must be true or false")
    return Edge(
        edge_id,
        _text(table, "url"),
        _text(table, "city"),
        _text(table, "country"),
        _number(table, "lat"),
        _number(table, "lng"),
        _number(table, "cost-per-gib"),
        enabled,
    )


def _to_toml(edge: Edge) -> dict[str, str | float | bool]:
    pairs = {
        "url": edge.url,
        "city": edge.city or None,
        "country": edge.country or None,
        "lat": edge.lat,
        "lng": edge.lng,
        "cost-per-gib": edge.cost_per_gib,
        "enabled": None if edge.enabled else False,
    }
    return {key: value for key, value in pairs.items() if value is not None}


def _present(edge_id: str, tables: object) -> str:
    if isinstance(tables, Mapping) and edge_id in tables:
        return edge_id
    raise UsageError(f"no edge called {printable(edge_id)!r} is configured", hint="Run `jettyctl edges list`.")


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"{key} must be a text")
    return value


def _number(table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key} must be a number")
    return float(value)

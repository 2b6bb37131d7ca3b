"""Where this machine is, without asking anybody: what the user says, else the place that names the system's time zone.

A time zone is known by a city whose coordinates stand in the tables of the time zone database. That is right to a few
hundred kilometres where zones are small and to a few thousand where they are not, and nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jettyctl.core.geo import Location

LOCALTIME = "/etc/localtime"
_TABLES = ("zone1970.tab", "zone.tab")  # the second one also has zones that have agreed with another since 1970
_ISO_6709 = re.compile(r"([+-])(\d{2})(\d{2})(\d{2})?([+-])(\d{3})(\d{2})(\d{2})?")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A location and how it is known."""

    location: Location
    source: str


def find(given: Location | None) -> Whereabouts | None:
    """The location that was given (by the option, its variable or the configuration), else the time zone's, else None."""
    if given:
        return Whereabouts(given, "as given")
    directories = table_directories()
    for zone in zone_names(os.environ, LOCALTIME):
        location = zone_location(zone, directories)
        if location:
            return Whereabouts(location, f"time zone {zone}")
    return None


def zone_names(environ: Mapping[str, str], localtime: str) -> Iterator[str]:
    """What may be the name of the system's time zone: TZ's first, then that of the file which `localtime` links to."""
    yield from _name_in(environ.get("TZ", "").removeprefix(":"))
    with contextlib.suppress(OSError):
        yield from _name_in(os.path.normpath(os.path.join(os.path.dirname(localtime), os.readlink(localtime))))


def zone_location(zone: str, directories: list[str]) -> Location | None:
    """The coordinates of a zone in the first table that has it. Old names (US/Pacific) are followed to the present ones."""
    for directory in directories:
        for name in (zone, _renamed(zone, directory)):
            for table in _TABLES if name else ():
                rows = (line.split("\t") for line in _lines(os.path.join(directory, table)))
                found = next((row[1] for row in rows if len(row) > 2 and row[2] == name), None)
                if found:
                    return _coordinates(found)
    return None


def table_directories() -> list[str]:
    """Where the time zone database may lie: on the system, and in the `tzdata` package if it is installed."""
    package = importlib.util.find_spec("tzdata")
    packaged = [os.path.join(place, "zoneinfo") for place in (package and package.submodule_search_locations) or ()]
    return [*zoneinfo.TZPATH, *packaged]


def _name_in(text: str) -> Iterator[str]:
    """A zone's name from the name itself or a path to its file; nothing for rules like CET-1CEST."""
    name = re.sub(r"^.*/zoneinfo(-leaps)?/", "", text)
    name = re.sub(r"^(posix|right)/", "", name)
    if name and not name.startswith(("/", ".")):
        yield name


def _renamed(zone: str, directory: str) -> str | None:
    links = (line.split() for line in _lines(os.path.join(directory, "tzdata.zi")) if line.startswith("L "))
    return next((link[1] for link in links if len(link) == 3 and link[2] == zone), None)


def _lines(path: str) -> Iterator[str]:
    with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
        yield from (line.rstrip("\n") for line in file if not line.startswith("#"))


def _coordinates(text: str) -> Location | None:
    """Degrees from ±DDMM±DDDMM or ±DDMMSS±DDDMMSS."""
    match = _ISO_6709.fullmatch(text)
    return Location(_degrees(*match.groups()[:4]), _degrees(*match.groups()[4:])) if match else None


def _degrees(sign: str, degrees: str, minutes: str, seconds: str | None) -> float:
    size = int(degrees) + int(minutes) / 60 + int(seconds or 0) / 3600
    return round(-size if sign == "-" else size, 4)

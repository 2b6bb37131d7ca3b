"""Places on the globe, and how far apart they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jettyctl.errors import UsageError

EARTH_RADIUS = 6371.0  # km, the mean that the scoring contract names


@dataclass(frozen=True, slots=True)
class Location:
    """A point in degrees; south and west are negative."""

    lat: float
    lng: float

    def __str__(self) -> str:
        return f"{self.lat:g},{self.lng:g}"


def distance_km(here: Location, there: Location) -> float:
    """The great circle between two points, by the haversine formula."""
    lat, lng = math.radians(there.lat - here.lat), math.radians(there.lng - here.lng)
    across = math.cos(math.radians(here.lat)) * math.cos(math.radians(there.lat)) * math.sin(lng / 2) ** 2
    chord = math.sin(lat / 2) ** 2 + across
    return 2 * EARTH_RADIUS * math.asin(math.sqrt(min(1.0, chord)))  # rounding may carry antipodes past 1


def parse_location(text: str) -> Location:
    """A point from `LAT,LNG`, as `52.52,13.40`. Raises UsageError."""
    try:
        lat, lng = (float(part) for part in text.split(","))
    except ValueError:
        lat = lng = math.nan
    return checked(lat, lng, text)


def checked(lat: float, lng: float, shown: str) -> Location:
    """A point that lies on the globe. Raises UsageError, which shows the text as it was given, for one that does not."""
    if abs(lat) <= 90 and abs(lng) <= 180:
        return Location(lat, lng)
    raise UsageError(f"{shown!r} is not a location", hint="Write it as LAT,LNG in degrees, like 52.52,13.40 or -33.87,151.21.")

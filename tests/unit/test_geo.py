"""Distances on the globe, and how a location is written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jettyctl.core.geo import EARTH_RADIUS, Location, distance_km, parse_location
from jettyctl.errors import UsageError

PLACES = st.builds(Location, st.floats(-90, 90), st.floats(-180, 180))


@pytest.mark.parametrize(
    ("here", "there", "km"),
    [
        (Location(0, 0), Location(0, 90), EARTH_RADIUS * math.pi / 2),
        (Location(90, 0), Location(-90, 123), EARTH_RADIUS * math.pi),
        (Location(10, 179.5), Location(10, -179.5), 109.51),  # across the date line: cos(10°) of a degree
        (Location(51.5074, -0.1278), Location(48.8566, 2.3522), 343.56),  # London, Paris
        (Location(40.7128, -74.0060), Location(51.5074, -0.1278), 5570.2),  # New York, London
    ],
)
def test_known_distances(here: Location, there: Location, km: float) -> None:
    """Quarter and half of a great circle, the date line, and two pairs of cities."""
    assert distance_km(here, there) == pytest.approx(km, rel=2e-4)


@given(PLACES, PLACES)
def test_distance_is_a_distance(here: Location, there: Location) -> None:
    """It is the same both ways, never negative, never more than half the way round, and 0 to the same place."""
    km = distance_km(here, there)
    assert km == pytest.approx(distance_km(there, here), abs=1e-6)
    assert 0 <= km <= EARTH_RADIUS * math.pi * (1 + 1e-12)
    assert distance_km(here, here) == 0


@pytest.mark.parametrize("text", ["52.52,13.4", " 52.52 , 13.4 ", "+52.52,13.40"])
def test_a_location_is_read(text: str) -> None:
    """LAT,LNG, with or without spaces."""
    assert parse_location(text) == Location(52.52, 13.4)


@pytest.mark.parametrize("text", ["", "52", "52,13,1", "a,b", "91,0", "0,181", "nan,0", "inf,0", "52;13"])
def test_what_is_no_location_is_refused(text: str) -> None:
    """Anything else is a usage error that shows the right form."""
    with pytest.raises(UsageError, match="is not a location") as caught:
        parse_location(text)
    assert "LAT,LNG" in caught.value.hint


@given(PLACES)
def test_edges_of_the_globe_are_on_it(place: Location) -> None:
    """Every point of the globe is taken."""
    assert parse_location(f"{place.lat!r},{place.lng!r}") == place

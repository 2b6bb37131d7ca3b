"""Where the machine is, told by its time zone alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jettyctl.core.geo import Location
from jettyctl.edges.location import find, zone_location, zone_names

ZONES = """# a comment
DE,DK,NO,SE,SJ\t+5230+01322\tEurope/Berlin\tmost of Germany
US\t+340308-1181434\tAmerica/Los_Angeles\tPacific
AU\t-3352+15113\tAustralia/Sydney
"""
OLD_ZONES = "NO\t+5955+01045\tEurope/Oslo\nXX\tnonsense\tNo/Where\n"
LINKS = "# version\nR x\nL America/Los_Angeles US/Pacific\n"


@pytest.fixture
def tables(tmp_path: Path) -> str:
    """A small time zone database."""
    for name, text in (("zone1970.tab", ZONES), ("zone.tab", OLD_ZONES), ("tzdata.zi", LINKS)):
        (tmp_path / name).write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("zone", "location"),
    [
        ("Europe/Berlin", Location(52.5, 13.3667)),
        ("America/Los_Angeles", Location(34.0522, -118.2428)),  # with seconds
        ("Australia/Sydney", Location(-33.8667, 151.2167)),
        ("Europe/Oslo", Location(59.9167, 10.75)),  # only in the older table
        ("US/Pacific", Location(34.0522, -118.2428)),  # an old name
        ("Etc/UTC", None),
        ("No/Where", None),
        ("", None),
    ],
)
def test_zones_have_coordinates(tables: str, zone: str, location: Location | None) -> None:
    """Degrees and minutes, with or without seconds, north and south; a zone without a place has none."""
    assert zone_location(zone, ["/nonexistent", tables]) == location


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("Europe/Berlin", ["Europe/Berlin"]),
        (":Europe/Berlin", ["Europe/Berlin"]),
        ("/usr/share/zoneinfo/Europe/Berlin", ["Europe/Berlin"]),
        (":/usr/share/zoneinfo/posix/Europe/Berlin", ["Europe/Berlin"]),
        ("/opt/somewhere", []),
        ("", []),
    ],
)
def test_the_name_in_the_variable(variable: str, names: list[str]) -> None:
    """TZ holds a name, a path to the zone's file, or nothing of use."""
    assert list(zone_names({"TZ": variable}, "/nonexistent/localtime")) == names


@pytest.mark.parametrize("link", ["/usr/share/zoneinfo/Asia/Tokyo", "../usr/share/zoneinfo/Asia/Tokyo"])
def test_the_name_in_the_link(tmp_path: Path, link: str) -> None:
    """The system's link is the second one to be asked, absolute or relative."""
    (tmp_path / "localtime").symlink_to(link)
    assert list(zone_names({}, str(tmp_path / "localtime"))) == ["Asia/Tokyo"]
    assert list(zone_names({"TZ": "UTC0"}, str(tmp_path / "localtime"))) == ["UTC0", "Asia/Tokyo"]


def test_a_copy_instead_of_a_link(tmp_path: Path) -> None:
    """A file that is no link names nothing."""
    (tmp_path / "localtime").write_bytes(b"TZif2")
    assert list(zone_names({}, str(tmp_path / "localtime"))) == []


def test_what_is_given_wins() -> None:
    """A location that the user gave is not doubted, whatever the time zone."""
    os.environ["TZ"] = "Europe/Berlin"
    here = find(Location(1.0, 2.0))
    assert here
    assert (here.location, here.source) == (Location(1.0, 2.0), "as given")

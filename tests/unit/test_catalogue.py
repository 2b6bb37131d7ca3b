"""The catalogue is the contract's, and its addresses follow from the ids."""

from __future__ import annotations

from jettyctl.core.catalogue import CATALOGUE, DIRECT_ID, edge_of, url_of

# The contract, written a second time.
PLACES = """
sfo-1 San Francisco US 37.7749 -122.4194 · lax-1 Los Angeles US 34.0522 -118.2437 · sea-1 Seattle US 47.6062 -122.3321
· nyc-1 New York US 40.7128 -74.0060 · atl-1 Atlanta US 33.7490 -84.3880 · chi-1 Chicago US 41.8781 -87.6298
· dfw-1 Dallas US 32.7767 -96.7970 · mia-1 Miami US 25.7617 -80.1918 · bos-1 Boston US 42.3601 -71.0589
· den-1 Denver US 39.7392 -104.9903 · lon-1 London GB 51.5074 -0.1278 · par-1 Paris FR 48.8566 2.3522
· fra-1 Frankfurt DE 50.1109 8.6821 · ams-1 Amsterdam NL 52.3676 4.9041 · sin-1 Singapore SG 1.3521 103.8198
· hkg-1 Hong Kong HK 22.3193 114.1694 · tyo-1 Tokyo JP 35.6762 139.6503 · syd-1 Sydney AU -33.8688 151.2093
· tor-1 Toronto CA 43.6532 -79.3832 · sao-1 Sao Paulo BR -23.5505 -46.6333
"""


def test_the_twenty_are_those_of_the_contract() -> None:
    """Ids, places and coordinates, in order."""
    expected = []
    for line in PLACES.split("·"):
        words = line.split()
        expected.append((words[0], " ".join(words[1:-3]), words[-3], float(words[-2]), float(words[-1])))
    assert [tuple(template) for template in CATALOGUE.values()] == expected
    assert len(CATALOGUE) == 20


def test_addresses() -> None:
    """The code before the dash and the domain make the URL; the direct route is no edge."""
    assert url_of(CATALOGUE["fra-1"]) == "https://fra.agentcache.ai"
    assert edge_of(CATALOGUE["syd-1"], "edges.example.net").url == "https://syd.edges.example.net"
    assert len({url_of(template) for template in CATALOGUE.values()}) == 20
    assert DIRECT_ID not in CATALOGUE

"""The edges that one may know by name. They are templates: none is used until the user or a control plane names it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from jettyctl.core.scoring import Edge

DOMAIN = "agentcache.ai"  # the setting `edge-domain` replaces it
DIRECT_ID = "lyve-direct"  # what the direct route is called among the edges


class Template(NamedTuple):
    """An edge without an address."""

    id: str
    city: str
    country: str
    lat: float
    lng: float


_TEMPLATES = (
    Template("sfo-1", "San Francisco", "US", 37.7749, -122.4194),
    Template("lax-1", "Los Angeles", "US", 34.0522, -118.2437),
    Template("sea-1", "Seattle", "US", 47.6062, -122.3321),
    Template("nyc-1", "New York", "US", 40.7128, -74.0060),
    Template("atl-1", "Atlanta", "US", 33.7490, -84.3880),
    Template("chi-1", "Chicago", "US", 41.8781, -87.6298),
    Template("dfw-1", "Dallas", "US", 32.7767, -96.7970),
    Template("mia-1", "Miami", "US", 25.7617, -80.1918),
    Template("bos-1", "Boston", "US", 42.3601, -71.0589),
    Template("den-1", "Denver", "US", 39.7392, -104.9903),
    Template("lon-1", "London", "GB", 51.5074, -0.1278),
    Template("par-1", "Paris", "FR", 48.8566, 2.3522),
    Template("fra-1", "Frankfurt", "DE", 50.1109, 8.6821),
    Template("ams-1", "Amsterdam", "NL", 52.3676, 4.9041),
    Template("sin-1", "Singapore", "SG", 1.3521, 103.8198),
    Template("hkg-1", "Hong Kong", "HK", 22.3193, 114.1694),
    Template("tyo-1", "Tokyo", "JP", 35.6762, 139.6503),
    Template("syd-1", "Sydney", "AU", -33.8688, 151.2093),
    Template("tor-1", "Toronto", "CA", 43.6532, -79.3832),
    Template("sao-1", "Sao Paulo", "BR", -23.5505, -46.6333),
)
CATALOGUE: Mapping[str, Template] = MappingProxyType({template.id: template for template in _TEMPLATES})


def url_of(template: Template, domain: str = DOMAIN) -> str:
    """`https://{code}.{domain}`; the code is what stands before the dash of the id."""
    return f"https://{template.id.partition('-')[0]}.{domain}"


def edge_of(template: Template, domain: str = DOMAIN) -> Edge:
    """The template as an edge with an address."""
    return Edge(template.id, url_of(template, domain), template.city, template.country, template.lat, template.lng)

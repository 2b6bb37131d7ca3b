"""What a control plane is told when it starts. Immutable, and small enough to travel to worker processes as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Literal, Self

from jettyctl.core.catalogue import DOMAIN

PORT = 53777
DIRECT_URL = "https://s3.lyvecloud.seagate.com"
DedupScope = Literal["user", "tenant", "all"]

# Requests of one user in a minute, by the name of the bucket that a route takes from.
LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "optimal-edges": 60,
        "check-duplicate": 120,
        "cache-chunk": 1_000,
        "track-upload": 500,
        "uploads": 6_000,  # everything that an upload itself needs: sessions, part URLs, finalize
    }
)


@dataclass(frozen=True, slots=True)
class Settings:
    """`database_url` and `redis_url` may hold passwords: they are kept out of every repr, log and error."""

    database_url: str = field(repr=False)
    redis_url: str | None = field(default=None, repr=False)
    store: str = ""  # local:DIRECTORY or s3://bucket/prefix/
    public_url: str = ""  # what clients reach the service by; for the URLs that it hands out
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    ca_file: str | None = None
    edge_domain: str = DOMAIN
    direct_url: str = DIRECT_URL
    dedup_scope: DedupScope = "tenant"
    monitor_seconds: float = 10.0  # 0: no edge is looked at
    lease_seconds: float = 30.0  # how long a silent client owns its session
    limits: Mapping[str, int] = field(default_factory=lambda: LIMITS)
    allowed_hosts: tuple[str, ...] = ()  # Host headers that are answered beside loopback's and public_url's; () with "*": all
    workers: int = 1
    quiet: bool = False

    def to_json(self) -> str:
        """For a worker's environment, which only its own user can read."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return json.dumps({**values, "limits": dict(self.limits)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        values = json.loads(text)
        return cls(**{**values, "allowed_hosts": tuple(values["allowed_hosts"])})

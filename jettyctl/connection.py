"""How to reach S3 endpoints and the control plane, as the user says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

_REMEMBERED = ("region", "profile", "addressing", "checksum", "ca_file", "sign")


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach S3 endpoints. None and "auto" leave a choice to the AWS settings, or to a probe.

    `control` is the URL of the control plane that `jetty:` stands for.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing: str = "auto"
    checksum: str = "auto"
    ca_file: str | None = None
    verify_tls: bool = True
    sign: bool = True
    limit_rate: float | None = None
    control: str | None = None

    def remembered(self) -> dict[str, Any]:
        """What a session keeps of it, so that a resume needs no flags. Switching verification off is never kept."""
        return {name: getattr(self, name) for name in _REMEMBERED}

    def completed_by(self, remembered: object) -> Connection:
        """This connection, with what a session remembers where nothing was asked for now."""
        if not isinstance(remembered, Mapping):
            return self
        default = Connection()
        asked = {name for name in self.remembered() if getattr(self, name) != getattr(default, name)}
        return replace(self, **{n: v for n, v in remembered.items() if n in self.remembered() and n not in asked})

"""What a control plane says of itself: who the key is, and what the store behind it takes."""

from __future__ import annotations

from dataclasses import dataclass

from jettyctl.control import api
from jettyctl.control.api import ControlApi
from jettyctl.core.model import Limits
from jettyctl.errors import ServerFault


@dataclass(frozen=True, slots=True)
class Service:
    """`kind` is s3 or local; `checksum` how the store verifies parts; `smallest` the least size of a clone, in bytes."""

    user_id: str
    tenant_id: str
    version: str
    kind: str
    checksum: str
    limits: Limits
    smallest: int


def ask(control: ControlApi) -> Service:
    """One call. Raises JettyError: AccessError for a key that is not known there."""
    answer = control.get("/service")
    store = api.mapping(answer, "store")
    limits = api.mapping(store, "limits")
    names = ("maxParts", "minPart", "maxPart", "maxObject", "maxKeyBytes")
    found = Limits(*(api.whole(limits, name) for name in names))
    if not (found.max_parts and found.max_part >= found.min_part):
        raise ServerFault("the control plane's limits make no sense")
    return Service(
        user_id=api.text(answer, "userId"),
        tenant_id=api.text(answer, "tenantId"),
        version=api.text(answer, "version"),
        kind=api.text(store, "kind"),
        checksum=api.text(store, "checksum"),
        limits=found,
        smallest=api.whole(api.mapping(answer, "dedup"), "smallest"),
    )

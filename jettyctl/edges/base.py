"""What everything that chooses edges promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jettyctl.storage.base import Route

if TYPE_CHECKING:  # an upload without edges scores nothing
    from jettyctl.core.geo import Location
    from jettyctl.core.scoring import Priority, Selection


class Selector(Protocol):
    """Chooses the edges of an upload."""

    def select(self, size: int, priority: Priority, location: Location | None, budget: float | None) -> Selection:
        """The best edges for `size` bytes and the direct route's share. `budget` is in USD.

        Never raises for want of edges: then the direct route has it all, and the message says why. Names no edge that
        neither the user's configuration nor the user's own control plane named. It may name edges that were never
        probed (`RankedEdge.answered` is False); whoever sends probes them before their first chunk.
        """
        ...


@dataclass(frozen=True, slots=True)
class OpenedEdge:
    """An edge that answered, and its share of the whole (0..1)."""

    route: Route
    weight: float


@dataclass(frozen=True, slots=True)
class OpenedEdges:
    """What a selection came to. `message` is for people; weights and `direct` sum to 1."""

    edges: Sequence[OpenedEdge]
    direct: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class EdgeChoice:
    """How edges are to be chosen. `budget` is in USD."""

    priority: Priority = "balanced"
    location: Location | None = None
    budget: float | None = None


class EdgeSource(Protocol):
    """Where edges for a store come from."""

    def expects(self, size: int) -> bool:
        """Whether there may be edges for a file of `size` bytes, which is then cut into more chunks. Blocks; never raises."""

    def open(self, size: int) -> OpenedEdges:
        """The edges to use for a file of `size` bytes; each has answered a probe. Blocks. Raises JettyError."""

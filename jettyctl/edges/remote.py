"""Edges that a control plane names: those that its monitor saw answer a moment ago, probed once more from here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jettyctl.core.model import MIB
from jettyctl.edges.base import EdgeSource, OpenedEdges
from jettyctl.errors import JettyError

if TYPE_CHECKING:  # an upload that need not be sent asks for no edges
    from jettyctl.core.scoring import Edge

SMALLEST = 16 * MIB  # bytes; smaller files are sent before edges have answered a probe


class RemoteEdges:
    """Keeps the promises of `edges.base.EdgeSource`. The control plane is asked once, for the first file that is large enough.

    `ask(size)` are its edges, `probed(edges)` is what opens them.
    """

    def __init__(self, ask: Callable[[int], Sequence[Edge]], probed: Callable[[Sequence[Edge]], EdgeSource]) -> None:
        self._ask = ask
        self._probed = probed
        self._lock = threading.Lock()
        self._known: Sequence[Edge] | None = None

    def expects(self, size: int) -> bool:
        return size >= SMALLEST and bool(self._edges(size))

    def open(self, size: int) -> OpenedEdges:
        return self._probed(self._edges(size)).open(size)

    def _edges(self, size: int) -> Sequence[Edge]:
        with self._lock:
            if self._known is None:
                try:
                    self._known = self._ask(size)
                except JettyError:  # the direct route needs nobody's advice
                    self._known = ()
            return self._known

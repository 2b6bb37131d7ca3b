"""Signed part requests for many threads, in few calls.

One call is in flight at a time. Who wants a part signed meanwhile waits, and goes into the next call together with all
others; the receipts of parts that have arrived ride along. So the number of calls follows from how long one takes: a
quick control plane is asked part by part, a slow one for up to a hundred at a time.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jettyctl.errors import JettyError
from jettyctl.storage.base import SignedRequest

MOST = 100  # parts, and receipts, in one call

Json = dict[str, Any]
Exchange = Callable[[Sequence[Json], Sequence[Json]], Sequence[SignedRequest]]


@dataclass(slots=True)
class _Place:
    """Somebody who waits, and what came of it."""

    wanted: Json
    signed: SignedRequest | None = None
    error: JettyError | None = None

    @property
    def done(self) -> bool:
        return self.signed is not None or self.error is not None


class Minting:
    """The calls of one session. `exchange(completed, wanted)` is one call: as many requests come back as were wanted."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._changed = threading.Condition()
        self._busy = False
        self._waiting: list[_Place] = []
        self._receipts: list[Json] = []

    def sign(self, wanted: Json) -> SignedRequest:
        """The signed request for one part. Raises what the call raised."""
        place = _Place(wanted)
        with self._changed:
            self._waiting.append(place)
        while not place.done:
            self._take_turn(lambda: place.done)
        if place.error:
            raise copy.copy(place.error)  # the others who waited raise it, too
        assert place.signed is not None
        return place.signed

    def received(self, receipt: Json) -> None:
        """A part has arrived: to be told with the next call."""
        with self._changed:
            self._receipts.append(receipt)

    def renew(self) -> None:
        """One call now, with whatever waits: it keeps the lease. Raises what the call raised."""
        error = self._take_turn(lambda: False)
        if error:
            raise error

    def rest(self) -> list[Json]:
        """The receipts that no call has told yet, at most MOST; more are told first. Raises what the call raised."""
        while len(self._receipts) > MOST:
            self.renew()
        return list(self._receipts)

    def _take_turn(self, needless: Callable[[], bool]) -> JettyError | None:
        """Wait until no call is in flight, and make the next one, unless it became needless. What it raised."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy or needless())
            if needless():
                return None
            self._busy = True
            batch, receipts = self._waiting[:MOST], self._receipts[:MOST]
            del self._waiting[:MOST]
        error: JettyError | None = None
        signed: Sequence[SignedRequest] = ()
        try:
            signed = self._exchange(receipts, [place.wanted for place in batch])
        except JettyError as failure:
            error = failure
        finally:
            self._end_turn(batch, signed, error, 0 if error else len(receipts))
        return error

    def _end_turn(self, batch: list[_Place], signed: Sequence[SignedRequest], error: JettyError | None, told: int) -> None:
        with self._changed:
            del self._receipts[:told]
            for index, place in enumerate(batch):
                if index < len(signed):
                    place.signed = signed[index]
                else:
                    place.error = error or JettyError("the call for signed parts broke off")
            self._busy = False
            self._changed.notify_all()

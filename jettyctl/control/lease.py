"""The sessions that this process works on: each with the fence that proves it, kept alive while nothing else asks.

Every call that names the fence renews the lease. Where none has for a third of the lease's time, as while a file is only
read, a thread does. A process that slept for longer and was taken over learns so from its next call, and stops.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from jettyctl.control import api
from jettyctl.control.api import AlreadyCompleted, ControlApi
from jettyctl.control.minting import Json, Minting
from jettyctl.core.model import url_path
from jettyctl.errors import JettyError, ServerFault, SessionBusy, UploadGone
from jettyctl.storage.base import SignedRequest

LOOK = 0.5  # seconds between two looks at what is due


class Work:
    """One session under lease. `signed` makes a request of what the control plane answered for one part."""

    def __init__(
        self, control: ControlApi, session_id: str, answer: api.Json, signed: Callable[[api.Json, Json], SignedRequest]
    ) -> None:
        self.path = f"/uploads/{url_path(session_id)}"
        self.fence = api.whole(answer, "fence")
        self.minting = Minting(self._exchange)
        self.left = False  # nobody here works on it any more: its lease may run out
        self._control = control
        self._signed = signed
        self._lease = api.number(answer, "leaseSeconds")
        self._asked = time.monotonic()
        self._over: JettyError | None = None

    @property
    def due(self) -> bool:
        """Whether the lease should be renewed now."""
        return self._over is None and not self.left and time.monotonic() - self._asked > self._lease / 3

    def _exchange(self, completed: Sequence[Json], wanted: Sequence[Json]) -> Sequence[SignedRequest]:
        if self._over:
            raise self._over
        began = time.monotonic()
        try:
            body = {"fence": self.fence, "completed": list(completed), "wanted": list(wanted)}
            answer = self._control.post(f"{self.path}/parts", body)
        except (SessionBusy, UploadGone) as error:
            self._over = self.judged(error)
            raise self._over from None
        self._asked = began
        parts = api.listed(answer, "parts")
        if len(parts) != len(wanted):
            raise ServerFault("the control plane signed other parts than it was asked for")
        return [self._signed(part, asked) for part, asked in zip(parts, wanted, strict=True)]

    def tell_rest(self) -> None:
        """Tell the receipts of parts that arrived before a stop: another machine trusts them. Without, it asks the store."""
        try:
            if self.minting.rest():
                self.minting.renew()
        except JettyError:
            return

    def judged(self, error: JettyError) -> JettyError:
        """What a refusal means here: SessionBusy, where another machine took the session over and has completed it."""
        if not isinstance(error, AlreadyCompleted) or error.fence in (None, self.fence):
            return error
        return SessionBusy(
            f"this session was taken over, and completed, by {error.host or 'another machine'}", hint=error.hint
        )


class Keeper:
    """Renews leases in the background, from the first session on until it is closed."""

    def __init__(self) -> None:
        self._works: dict[str, Work] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def get(self, session_id: str) -> Work | None:
        return self._works.get(session_id)

    def add(self, session_id: str, work: Work) -> Work:
        """A session to keep. The one that is kept already is returned instead."""
        with self._lock:
            kept = self._works.setdefault(session_id, work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
                self._thread.start()
        return kept

    def drop(self, session_id: str) -> None:
        """A session that ended."""
        with self._lock:
            self._works.pop(session_id, None)

    def close(self) -> list[Work]:
        """Renew nothing any more; the sessions that were kept until now."""
        self._closed.set()
        with self._lock:
            left, self._works = list(self._works.values()), {}
        return left

    def _run(self) -> None:
        while not self._closed.wait(LOOK):
            with self._lock:
                due = [work for work in self._works.values() if work.due]
            for work in due:
                _renew(work)


def _renew(work: Work) -> None:
    """Errors are left to the next call that matters, which raises them, too."""
    try:
        work.minting.renew()
    except JettyError:
        return

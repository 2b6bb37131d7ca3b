"""Beginning before it is known that there is something to send: where the answer takes long, and will most likely be that
nothing is at the target, a session begun in vain costs less than the wait.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack

from jettyctl.core.model import Layout
from jettyctl.core.pace import START
from jettyctl.core.tiers import FAR, Strategy
from jettyctl.engine.feed import Feed
from jettyctl.engine.sessions import Opened, open_session
from jettyctl.engine.shared import Job, Shared
from jettyctl.errors import Interrupted, JettyError
from jettyctl.files.hashing import Leader
from jettyctl.files.source import Source

FIRST_CALLS = 5  # requests that are sent beside each other before an upload is begun: the look, and those of a probe
LOOK = 0.002  # seconds between two looks for a first connection
A_MOMENT = 0.002  # seconds after which the look is signed, and goes out
JUST_BEGUN = 0.01  # seconds after which all first requests are on their way


class Ahead:
    """A session that is opened on a helper thread. Whoever has this uses `opened` within `owned`, or gives it up."""

    def __init__(self, shared: Shared, job: Job, source: Source, strategy: Strategy) -> None:
        self._shared = shared
        self._job = job
        self._decided = threading.Event()
        self._given_up = False
        self.owned = ExitStack()
        self.feed: Feed[Leader] | None = None  # hashes the source meanwhile
        self._opening = shared.helpers.submit(self._open, source, strategy)

    async def opened(self) -> Opened:
        """Raises what opening it raised. Stops waiting for a first connection: the decision may have been made without one."""
        self._decided.set()
        return await asyncio.wrap_future(self._opening)

    def wait(self) -> None:
        """Until the first requests are on their way. Raises Interrupted if this is given up before."""
        self._after(JUST_BEGUN)

    def leave(self) -> None:
        """Nothing can be said of the target: what was begun stays, to be resumed. Nothing is, where no connection came."""
        self._given_up = True
        self._decided.set()
        self.abandon_feed()
        with self.owned:
            self._opening.exception()

    def withdraw(self) -> None:
        """There is nothing to send: the store forgets the upload, and the journal the session. Where the store does not
        listen, both stay for `sessions gc`.
        """
        self.abandon_feed()
        with self.owned:
            try:
                opened = self._opening.result()
                self._job.store.abort(opened.upload)
                self._shared.journal.delete(opened.session.session_id)
            except JettyError:
                return

    def abandon_feed(self) -> None:
        """The source need not be hashed, or is not sent."""
        if self.feed:
            self.feed.abandon()
            self.feed = None

    def _open(self, source: Source, strategy: Strategy) -> Opened:
        """Start only after the HEAD is out and the signer is loaded: the user waits for the HEAD, not for this."""
        self._after(A_MOMENT)
        return open_session(self._shared, self._job, source, strategy, None, self.owned)

    def _after(self, seconds: float) -> None:
        """Wait for the first connection, and a little longer, or for the decision. Raises Interrupted if it is to give up."""
        while self._job.store.round_trip() is None:
            if self._decided.wait(LOOK):
                if self._given_up:
                    raise Interrupted("nothing was begun")
                return
        time.sleep(seconds)


def begin_ahead(shared: Shared, job: Job, source: Source, strategy: Strategy) -> Ahead | None:
    """Expect the upload, and begin it if that saves a round trip: not where an answer decides whether it is begun at all, and
    only the run's first large file, because the network has work while others are begun.
    """
    must_wait = job.edges or job.dedup or job.wishes.if_exists != "overwrite"
    begins = not must_wait and job.store.farther_than(FAR) and shared.idle.acquire(blocking=False)
    chunks = Layout(source.size, strategy.chunk_size).count
    parts = min(START, strategy.threads, shared.slots.most, chunks) if begins else 0
    calls = min(FIRST_CALLS, shared.slots.pacer.limit)
    job.store.expect(job.target.key, min(calls + parts, job.wishes.threads or calls + parts))
    return Ahead(shared, job, source, strategy) if begins else None

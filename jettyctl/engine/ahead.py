"""Beginning before it is known that there is something to send: where the answer takes long, and will most likely be that
nothing is at the target, a session begun in vain costs less than the wait.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from jettyctl.core.model import Layout
from jettyctl.core.tiers import Strategy
from jettyctl.engine.sessions import Opened, open_session
from jettyctl.engine.shared import Job, Shared
from jettyctl.errors import JettyError
from jettyctl.files.source import Source

FAR = 0.02  # seconds of a round trip from which on it is worth saving


class Ahead:
    """A session that is opened on a helper thread. Whoever has this uses `opened` within `owned`, or gives it up."""

    def __init__(self, shared: Shared, job: Job, source: Source, strategy: Strategy) -> None:
        self._shared = shared
        self._job = job
        self.owned = ExitStack()
        self._opening = shared.helpers.submit(open_session, shared, job, source, strategy, None, self.owned)

    async def opened(self) -> Opened:
        """Raises what opening it raised."""
        return await asyncio.wrap_future(self._opening)

    def leave(self) -> None:
        """Nothing can be said of the target: what was begun stays, to be resumed."""
        with self.owned:
            self._opening.exception()

    def withdraw(self) -> None:
        """There is nothing to send: the store forgets the upload, and the journal the session. Where the store does not
        listen, both stay for `sessions gc`.
        """
        with self.owned:
            try:
                opened = self._opening.result()
                self._job.store.abort(opened.upload)
                self._shared.journal.delete(opened.session.session_id)
            except JettyError:
                return


def begin_ahead(shared: Shared, job: Job, source: Source, strategy: Strategy) -> Ahead | None:
    """Begin if that saves a round trip. Only the run's first large file: the network has work while others are begun."""
    if not job.store.farther_than(FAR) or not shared.idle.acquire(blocking=False):
        return None
    job.store.expect(job.target.key, min(shared.slots.pacer.limit, Layout(source.size, strategy.chunk_size).count))
    return Ahead(shared, job, source, strategy)

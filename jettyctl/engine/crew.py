"""The other processes of a run: when one is started, and which of the waiting files they get."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from jettyctl.core.tiers import is_near
from jettyctl.engine.shared import Job, Shared

if TYPE_CHECKING:
    from jettyctl.engine.handover import Answer
    from jettyctl.engine.workers import Worker

ENOUGH = 128  # files that wait, for another process to be started: it takes a moment until it is of use


class Crew:
    """Belongs to the event loop. `waiting` is shared with carriers and workers, who take from its left end.

    `complete`: all jobs are known, and what waits is all that is left.
    """

    def __init__(self, shared: Shared, waiting: deque[Job]) -> None:
        self._shared = shared
        self._waiting = waiting
        self._workers: list[Worker] = []
        self._dismissed = False
        self.complete = False

    def hire(self, answered: Callable[[list[Job], Answer], None]) -> Worker | None:
        """One more, if there is work for it: the next one when this process is busy although the last one is at work.

        Where the store is far, files wait for the network, and one process can have as many on their way as that takes.
        `answered` is called on the loop.
        """
        if len(self._waiting) < ENOUGH or len(self._workers) >= self._shared.most_workers:
            return None
        job = self._waiting[-1]
        if not (job.portable and is_near(job.store.round_trip()) and all(worker.ready for worker in self._workers)):
            return None
        from jettyctl.engine.workers import Desk  # few runs need any

        def pass_on(jobs: list[Job], answer: Answer) -> None:
            self._shared.loop.call_soon_threadsafe(answered, jobs, answer)

        worker = self._shared.hire(Desk(self._hand_over, pass_on, self._closed))
        self._workers.append(worker)
        return worker

    def dismiss(self) -> None:
        """End all of them. What they have in their hands is given back."""
        self._dismissed = True
        for worker in self._workers:
            worker.kill()

    def _hand_over(self, most: int) -> list[Job]:
        """On a worker's thread."""
        jobs: list[Job] = []
        with suppress(IndexError):
            while len(jobs) < most and not self._shared.stop.requested():
                job = self._waiting.popleft()
                if not job.portable:
                    self._waiting.appendleft(job)
                    break
                jobs.append(job)
        return jobs

    def _closed(self) -> bool:
        """Whether nothing more will be handed over. On a worker's thread."""
        return self._dismissed or self._shared.stop.requested() or (self.complete and not self._waiting)

"""Other processes that take up small files, where what is done for each file is more than one interpreter can do."""

from __future__ import annotations

import select
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from jettyctl.engine.handover import OVER, READY, Answer, answer_of, line_of
from jettyctl.engine.shared import Job

LINE = 16  # files that are handed over together, at most
WHILE = 0.1  # seconds that they may take, as far as those before show: the end of a run waits for no more
LINES = 2  # that a worker has in its hands: it need not wait for the next
A_TICK = 1e-6  # seconds: two looks at a clock may see the same time
IDLE = 0.01  # seconds between two looks for something to do
LEAVING = 5.0  # seconds that a worker has to write down what it has done


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a worker's files come from, and its answers go. All are called on its thread."""

    take: Callable[[int], list[Job]]  # at most so many, which are in nobody else's hands then
    answered: Callable[[list[Job], Answer], None]
    closed: Callable[[], bool]  # no more files will come


class Worker:
    """One process. `run` belongs to a thread; `kill` may come from any."""

    def __init__(self, command: Sequence[str], introduction: bytes, desk: Desk) -> None:
        self._command = command
        self._introduction = introduction
        self._desk = desk
        self._process: subprocess.Popen[bytes] | None = None
        self._in_hands: deque[list[Job]] = deque()
        self.ready = False

    def run(self) -> None:
        """Hand files over until there are none left. Of a process that fails, what it had in its hands is given back."""
        with suppress(OSError, ValueError, TypeError, subprocess.TimeoutExpired):  # it did not start, or went wrong
            self._employ()
        for jobs in self._in_hands:
            self._desk.answered(jobs, [None] * len(jobs))

    def kill(self) -> None:
        """Do not wait for what it has in its hands."""
        if self._process:
            self._process.kill()

    def _employ(self) -> None:
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=nowhere) as self._process:  # noqa: S603 - ourselves
            inbox, outbox = self._process.stdin, self._process.stdout
            assert inbox
            assert outbox
            try:
                _say(inbox, self._introduction)
                if self._comes(outbox):
                    self.ready = True
                    self._hand_over(inbox, outbox)
                    _say(inbox, OVER)
                    self._process.wait(LEAVING)
            finally:
                self._process.kill()

    def _comes(self, outbox: IO[bytes]) -> bool:
        """Whether it is at work before there is nothing left to do."""
        poll = select.poll()
        poll.register(outbox, select.POLLIN)
        while not self._desk.closed():
            if poll.poll(IDLE * 1000):
                return outbox.readline() == READY
        return False

    def _hand_over(self, inbox: IO[bytes], outbox: IO[bytes]) -> None:
        """Until nothing is left, or nothing succeeds: a store that wants fewer requests gets none from here any more."""
        poll, most, failed, last = select.poll(), LINE, 0, 0.0
        poll.register(outbox, select.POLLIN)
        while True:
            while failed < LINE and len(self._in_hands) < LINES and (jobs := self._desk.take(most)):
                if not self._in_hands:
                    last = time.monotonic()  # it had nothing to do before
                self._in_hands.append(jobs)
                _say(inbox, line_of(jobs))
            if self._in_hands:
                answer = answer_of(outbox.readline())
                if len(answer) != len(self._in_hands[0]):
                    raise ValueError("an answer to something else")
                before, last = last, time.monotonic()
                if done := sum(file is not None for file in answer):
                    most = max(1, min(LINE, round(WHILE * done / max(last - before, A_TICK))))
                failed = 0 if done else failed + len(answer)
                self._desk.answered(self._in_hands.popleft(), answer)
            elif failed >= LINE or self._desk.closed() or poll.poll(IDLE * 1000):  # it died, if there is something to read
                return


def _say(inbox: IO[bytes], line: bytes) -> None:
    inbox.write(line)
    inbox.flush()

"""How many files a worker is given at a time, with a process that answers and does nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from jettyctl.core.events import FileDone, Planned
from jettyctl.core.model import ObjectOptions, Target
from jettyctl.engine.handover import Answer
from jettyctl.engine.shared import Job, Wishes
from jettyctl.engine.workers import LINE, Desk, Worker
from tests.support.memory_store import MemoryStore

FILES = 48
CODE = """
import json, sys, time
numbers = iter(range(1000))
def done():
    fails = int(sys.argv[2]) <= next(numbers) < int(sys.argv[3])
    return None if fails else [[None] * int(count) for count in sys.argv[4:]]
sys.stdin.readline()
print("ready", flush=True)
for line in iter(sys.stdin.readline, "\\n"):
    files = json.loads(line)
    time.sleep(float(sys.argv[1]) * len(files))
    print(json.dumps([done() for _ in files]), flush=True)
"""


@dataclass
class Files:
    """So many files, and how they were taken."""

    left: int = FILES
    taken: list[int] = field(default_factory=list)
    done: int = 0

    def take(self, most: int) -> list[Job]:
        count = min(most, self.left)
        self.left -= count
        if count:
            self.taken.append(count)
        return [Job("file", Target("local", "", "", "key"), MemoryStore(), ObjectOptions(), Wishes())] * count

    def answered(self, jobs: list[Job], answer: Answer) -> None:
        assert len(jobs) == len(answer)
        self.done += sum(file is not None for file in answer)


def employ(seconds: float, failing: range = range(0)) -> Files:
    """Let a worker do them that takes so many seconds for each, and fails with some, by their numbers."""
    files = Files()
    fields = [str(len(kind._fields)) for kind in (Planned, FileDone)]
    command = [sys.executable, "-I", "-c", CODE, str(seconds), str(failing.start), str(failing.stop), *fields]
    Worker(command, b"{}\n", Desk(files.take, files.answered, lambda: not files.left)).run()
    return files


def test_many_quick_files_at_a_time() -> None:
    """A line is written and read for sixteen, also after the first two."""
    files = employ(0)
    assert LINE in files.taken[2:]
    assert files.done == FILES


def test_few_slow_files_at_a_time() -> None:
    """The first two lines are given before anything is known."""
    files = employ(0.02)
    assert max(files.taken[2:]) <= 5
    assert files.done == FILES


def test_a_few_failures_among_slow_files() -> None:
    """It is of use all the same, though each line is one file."""
    failing = range(2 * LINE + 1, 3 * LINE - 1)
    files = employ(0.07, failing)
    assert set(files.taken[2:]) == {1}
    assert files.done == FILES - len(failing)


def test_a_worker_that_does_nothing() -> None:
    """A store that refuses everything is not asked by it any more."""
    files = employ(0, range(FILES))
    assert (files.taken, files.done) == ([LINE, LINE], 0)

"""How many files a worker is given at a time, with a process that answers and does nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from jettyctl.core.events import FileDone, Planned
from jettyctl.core.model import ObjectOptions, Target
from jettyctl.engine.handover import Answer
from jettyctl.engine.shared import Job, Wishes
from jettyctl.engine.workers import LINE, Desk, Worker
from jettyctl.storage.memory import MemoryStore

FILES = 100
CODE = """
import json, sys, time
sys.stdin.readline()
print("ready", flush=True)
for line in iter(sys.stdin.readline, "\\n"):
    files = json.loads(line)
    time.sleep(float(sys.argv[1]) * len(files))
    print(json.dumps([[[None] * int(count) for count in sys.argv[2:]]] * len(files)), flush=True)
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


def taken(seconds: float) -> list[int]:
    """The numbers of files that a worker was given, which takes so many seconds for each."""
    files = Files()
    fields = [str(len(kind._fields)) for kind in (Planned, FileDone)]
    command = [sys.executable, "-I", "-c", CODE, str(seconds), *fields]
    Worker(command, b"{}\n", Desk(files.take, files.answered, lambda: not files.left)).run()
    assert (files.done, sum(files.taken)) == (FILES, FILES)
    return files.taken


def test_many_quick_files_at_a_time() -> None:
    """A line is written and read for sixteen, also after the first two."""
    assert LINE in taken(0)[2:]


def test_few_slow_files_at_a_time() -> None:
    """The first two lines are given before anything is known."""
    assert max(taken(0.02)[2:]) <= 5

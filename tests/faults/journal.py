"""The journal's promises: what a power cut, a rotten bit or a bad disk leave of it is right or absent, and never a crash."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import crashes, journal_model, journal_trouble, writing
from tests.faults.figures import Figure
from tests.faults.running import run
from tests.faults.tracing import TRACE, recording, traced, why_not
from tests.support.journals import check_answers, fill, make_session

IMAGES, FLIPS, STEPS = 1_000, 3_000, 20_000
MEMORY = "/dev/shm"  # where syncs cost nothing: what they are good for is shown by images


@contextmanager
def workplace() -> Iterator[str]:
    """A directory for journals, in memory where there is such a place."""
    directory = tempfile.mkdtemp(prefix="jettyctl-journal-", dir=MEMORY if os.path.isdir(MEMORY) else None)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def recorded(directory: str) -> list[crashes.Call]:
    """What the system is asked for by a writer."""
    path = os.path.join(directory, "data", "journal.sqlite")
    ended = asyncio.run(run(traced(recording(crashes.CALLS), ["write", path]), os.environ, directory, 60.0))
    with open(os.path.join(directory, TRACE), encoding="ascii") as file:
        calls = crashes.read(file)
    if ended.status != 0 or crashes.words(calls) != ["done"] * writing.STEPS:
        raise AssertionError(f"the writer has not done all: {ended}")
    return calls


def images(count: int) -> list[str]:
    """So many power cuts; what was wrong after them."""
    found, losses = [], list(crashes.Loss)
    with workplace() as directory:
        calls = recorded(os.path.join(directory, "recorded"))
        for seed in range(count):
            draw, loss = random.Random(seed), losses[seed % len(losses)]
            before = calls[: draw.randint(0, len(calls))]
            place = os.path.join(directory, "image")
            os.makedirs(place, mode=0o700)
            for name, content in crashes.image(before, loss, draw).items():
                Path(place, name).write_bytes(content)
            if wrong := writing.fault(os.path.join(place, "journal.sqlite"), crashes.words(before)):
                found.append(f"image {seed}, {loss} after {len(before)} calls: {wrong}")
            shutil.rmtree(place)
    return found


def flips(count: int) -> list[str]:
    """So many journals with one bit flipped; what was read from them that was never written, and what was raised."""
    found, new = [], make_session(77)
    with workplace() as directory:
        path = os.path.join(directory, "data", "journal.sqlite")
        truth = fill(path)
        content = Path(path).read_bytes()
        for seed in range(count):
            bit = random.Random(seed).randrange(len(content) * 8)
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            Path(path).write_bytes(damaged)
            try:
                check_answers(path, truth, new, f"bit {bit}")
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                found.append(f"bit {bit}: {type(error).__name__}: {str(error)[:200]}")
            for moved in Path(path).parent.glob("*.corrupt-*"):
                moved.unlink()
    return found


def figures() -> list[Figure]:
    """The rows of the report."""
    flipped = _counted("Journal bit flips: wrong value used", f"0 of {FLIPS:,}", FLIPS, flips)
    return [_images(), flipped, *journal_trouble.figures(), _model()]


def _images() -> Figure:
    name, goal = "Journal crash images recovered", f"{IMAGES:,}; 0 wrong rows, 0 lost acked rows, 0 exceptions"
    if reason := why_not():
        return Figure(name, goal, f"left out: {reason}", ok=True)
    return _counted(name, goal, IMAGES, images)


def _counted(name: str, goal: str, count: int, work: Callable[[int], list[str]]) -> Figure:
    wrong = work(count)
    return Figure(name, goal, f"{len(wrong)} wrong of {count:,}", not wrong, tuple(wrong[:20]))


def _model() -> Figure:
    with workplace() as directory:
        steps, wrong = journal_model.walked(directory, STEPS)
    name, goal = "Stateful journal steps against a model", f"{STEPS:,}, 0 contradictions"
    got = f"{steps:,} steps, {len(wrong)} contradictions"
    return Figure(name, goal, got, steps >= STEPS and not wrong, tuple(wrong))

"""How small files are handed to another process, and what it does with them.

Each line is JSON: a list of files on the way there; on the way back what became of them, in the same order. Only success
comes back. A file that failed, or that is not small, is null: whoever handed it over does it again, and says why.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any, Protocol

from jettyctl.core.bottleneck import SMALL
from jettyctl.core.events import FileDone, Planned
from jettyctl.core.model import ObjectOptions, Target
from jettyctl.engine.sessions import options_json
from jettyctl.engine.shared import Job, Shared, Wishes
from jettyctl.engine.upload import Prepared, prepare

READY = b"ready\n"  # what the other process says once everything is imported
OVER = b"\n"  # what it is told when no more files come

Answer = list[tuple[Planned, FileDone] | None]  # what became of the files of a line; None: it is still to be done


class MakeJob(Protocol):
    """Makes a job anew; `follow`: a link at the path may be followed."""

    def __call__(self, path: str, target: Target, options: ObjectOptions, wishes: Wishes, /, *, follow: bool) -> Job: ...


def line_of(jobs: Iterable[Job]) -> bytes:
    """What another process has to know of portable jobs."""
    return _line([(job.path, job.target, options_json(job.options), job.wishes.chunk_size, job.follow) for job in jobs])


def answer_of(line: bytes) -> Answer:
    """What a line says. Raises ValueError or TypeError if it is no answer."""
    return [(Planned(*file[0]), FileDone(*file[1])) if file else None for file in json.loads(line)]


def serve(shared: Shared, make_job: MakeJob, inbox: Iterable[bytes], outbox: IO[bytes]) -> None:
    """Carry out what each line asks for, one file after the other, and answer; until `inbox` ends. Blocks.

    Two files at a time would not be quicker: each waits for the interpreter most of the time, and little for its answer.
    """
    outbox.write(READY)
    outbox.flush()
    for line in _as_they_come(inbox):
        outbox.write(_line([_carried_out(shared, make_job, *fields) for fields in json.loads(line)]))
        outbox.flush()


def _as_they_come(inbox: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, read by a thread of its own: the end of `inbox` is seen while one is carried out."""
    lines: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        try:
            for line in inbox:
                lines.put(line)
        finally:
            lines.put(OVER)

    Thread(target=read, name="inbox", daemon=True).start()
    while (line := lines.get()) != OVER:
        yield line


def _carried_out(
    shared: Shared, make_job: MakeJob, path: str, target: list[str], options: dict[str, Any], chunk_size: int, follow: bool
) -> tuple[Planned, FileDone] | None:
    """What was planned for a small file, and what came of it, from open to record in one try."""
    shared.told.clear()
    try:
        if os.stat(path).st_size > SMALL:
            return None
        job = make_job(path, Target(*target), ObjectOptions(**options), Wishes(chunk_size), follow=follow)
        done = prepare(shared, job)
    except Exception:  # noqa: BLE001 - it is done again where errors are told, bugs of ours among them
        return None
    if isinstance(done, Prepared):  # it grew in between
        _given_up(done)
    if not isinstance(done, FileDone):
        return None
    planned = shared.told.pop()
    assert isinstance(planned, Planned)
    return planned, done


def _given_up(prepared: Prepared) -> None:
    """Undo what was begun, so that whoever sends the file finds it free; close it when nobody reads it any more."""
    if prepared.ahead:
        prepared.ahead.withdraw()
    elif prepared.feed:
        prepared.feed.abandon()
    prepared.source.close()


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"

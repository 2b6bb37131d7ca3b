"""How small files are handed to another process, and what it does with them.

Each line is JSON: a list of files on the way there; on the way back what became of them, in the same order. Only success
comes back. A file that failed, or that is not small, is null: whoever handed it over does it again, and says why.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
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
    return _line([(job.path, _values(job.target), options_json(job.options), job.wishes.chunk_size, job.follow) for job in jobs])


def answer_of(line: bytes) -> Answer:
    """What a line says. Raises ValueError or TypeError if it is no answer."""
    return [(Planned(*file[0]), FileDone(*file[1])) if file else None for file in json.loads(line)]


def serve(shared: Shared, make_job: MakeJob, inbox: Iterable[bytes], outbox: IO[bytes], *, hands: int) -> None:
    """Carry out what each line asks for, `hands` files at a time, and answer; until `inbox` ends. Blocks."""
    begun: SimpleQueue[list[Future[FileDone | None]]] = SimpleQueue()
    plans: dict[str, Planned] = {}

    def begin() -> None:
        try:
            for line in inbox:
                begun.put([pool.submit(_carry_out, shared, make_job, *fields) for fields in json.loads(line)])
        finally:
            begun.put([])

    def told(done: FileDone) -> tuple[list[Any], list[Any]]:
        return _values(plans.pop(done.url)), _values(done)

    pool = ThreadPoolExecutor(hands, "hand")
    Thread(target=begin, name="inbox", daemon=True).start()
    outbox.write(READY)
    outbox.flush()
    while futures := begun.get():
        ended = [future.result() for future in futures]
        while shared.told:
            planned = shared.told.popleft()
            assert isinstance(planned, Planned)
            plans[planned.url] = planned
        outbox.write(_line([told(done) if done else None for done in ended]))
        outbox.flush()


def _carry_out(
    shared: Shared, make_job: MakeJob, path: str, target: list[str], options: dict[str, Any], chunk_size: int, follow: bool
) -> FileDone | None:
    """One small file from open to record, in one try."""
    try:
        if os.stat(path).st_size > SMALL:
            return None
        job = make_job(path, Target(*target), ObjectOptions(**options), Wishes(chunk_size), follow=follow)
        done = prepare(shared, job)
    except Exception:  # noqa: BLE001 - it is done again where errors are told, bugs of ours among them
        return None
    if isinstance(done, Prepared):  # it grew in between
        done.source.close()
    return done if isinstance(done, FileDone) else None


def _values(value: Target | Planned | FileDone) -> list[Any]:
    return [getattr(value, name) for name in value.__slots__]


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"

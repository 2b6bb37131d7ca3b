"""SIGKILL at every system call of one upload of 12 parts, and at random moments of uploads and of their resumes.

strace kills at the K-th call of one kind, for K = 1 until a run ends unharmed, and then for the next kind. It counts for each
thread: the first thread that gets to its K-th call takes the others with it. After each kill the journal is compared with
what the judge saw, and the upload is resumed and checked as every trial is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jettyctl.core.session import SessionStatus
from jettyctl.journal.sqlite import SqliteJournal
from tests.faults import writing
from tests.faults.figures import Figure
from tests.faults.running import run
from tests.faults.tracing import killing, traced, why_not
from tests.faults.trial import MIB, Expected, Trial
from tests.support.judge.faults import draw
from tests.support.running import random_file

CHUNK, PARTS = 5 * MIB, 12
SIZE = (PARTS - 1) * CHUNK + 54_321  # bytes
THREADS = 4
# What opens, reads, writes, syncs, cuts, locks, sends, receives and closes. Sockets are written and read by nothing else.
FILE_CALLS = ("openat", "pread64", "pwrite64", "fdatasync", "ftruncate", "fcntl", "unlink", "close")
CALLS = (*FILE_CALLS, "connect", "sendto", "recvfrom")
JOURNAL_CALLS = ("pwrite64", "fdatasync", "ftruncate", "fcntl")
JOURNAL_STEPS = 8
GOAL = 300  # kill points of the upload
RANDOM, DEPTH = 200, 5
AT_ONCE = 4
LANES = 3  # of one kind of call, so that a long one is not alone at the end
DEADLINE = 60.0  # seconds
SPAN = 0.9  # seconds in which a random kill falls; a run takes about as long with others beside it
KEY = "key"


@dataclass(frozen=True, slots=True)
class Harm:
    """How many kills one trial had, and what was wrong after them. `again` counts the parts sent beyond those in flight."""

    kills: int
    wrong: tuple[str, ...] = ()
    again: int = 0


class Killed(Trial):
    """A trial of a run that does not live to its end."""

    async def dies(self, args: Sequence[str], deadline: float) -> bool:
        """One run; whether it was killed. What it left is checked."""
        ended = await run(args, self.env, os.path.join(self.directory, "run"), deadline)
        killed = ended.status == -signal.SIGKILL or (ended.status is None and deadline < DEADLINE)
        await self._settle()
        self._check_objects(ended)
        self._check_requests()
        if killed:
            self._check_journal()
        elif ended.status != 0:
            self.wrong.append(f"neither killed nor done: exit {ended.status}: {ended.said.strip()[-300:]}")
        return killed

    async def resumes(self, args: Sequence[str]) -> int:
        """A run to the end; how many parts were sent again that were not in flight at a kill."""
        ended = await self.runs(args, None, DEADLINE)
        if ended.status != 0:
            self.wrong.append(f"not resumed: exit {ended.status}: {ended.said.strip()[-300:]}")
        sent = self.judge.log.of("part", KEY)
        in_flight = sum(not (entry.applied and entry.delivered) for entry in sent)
        again = max(0, len(sent) - PARTS - in_flight)
        if again:
            self.wrong.append(f"I3: {again} parts sent again that were not in flight")
        return again

    def harm(self, kills: int, again: int = 0) -> Harm:
        return Harm(kills, tuple(f"{self.name}: {item}" for item in self.wrong), again)

    async def _settle(self) -> None:
        """What the dead client had given to the kernel arrives, and its connections end."""
        await asyncio.sleep(0.03)
        while self.judge._tasks:
            await asyncio.sleep(0.01)

    def _check_journal(self) -> None:
        """I4: what stands in the journal before a request is sent is there whenever the judge saw one."""
        path = os.path.join(self.env["JETTY_DATA_DIR"], "journal.sqlite")
        journal = SqliteJournal(path)
        try:
            session = next(iter(journal.sessions()), None)
            chunks = dict(journal.chunks(session.session_id)) if session else {}
            damaged = journal.damaged or journal.moved_aside
        finally:
            journal.close()
        log = self.judge.log
        etags = {part.number: part.etag for upload in self.judge.shelf.uploads.values() for part in upload.parts.values()}
        stored = self.judge.shelf.objects.get(KEY)
        etags |= {part.number: part.etag for part in stored.parts} if stored else {}
        if damaged:
            self.wrong.append("I4: the journal is damaged")
        if log.of("create") and session is None:
            self.wrong.append("I4: the intent is gone")
        if log.of("part") and (session is None or session.upload_id is None):
            self.wrong.append("I4: the upload id is gone")
        done = session is not None and session.status in (SessionStatus.COMPLETING, SessionStatus.COMPLETED)
        if log.of("complete") and not (done and len(chunks) == PARTS):
            self.wrong.append(f"I4: Complete was sent, and the journal has {len(chunks)} parts")
        if any(etags.get(index + 1) != record.etag.strip('"') for index, record in chunks.items()):
            self.wrong.append("I4: the journal has a part that the store has not")


@dataclass(slots=True)
class Lab:
    """A file that all trials send, and how many of them run at the same time."""

    directory: str
    gate: asyncio.Semaphore
    data: bytes = b""

    def prepare(self) -> Lab:
        random_file(self._file, SIZE, seed=12)
        with open(self._file, "rb") as file:
            self.data = file.read()
        return self

    @property
    def _file(self) -> str:
        return os.path.join(self.directory, "file")

    def _trial(self, name: str) -> Killed:
        return Killed(name, os.path.join(self.directory, name.replace(" ", "_")), [Expected(KEY, self.data)])

    def _args(self, threads: int) -> list[str]:
        return ["upload", "--threads", str(threads), "--chunk-size", str(CHUNK), self._file, f"s3://bucket/{KEY}"]

    async def upload(self, call: str, number: int) -> Harm:
        """Killed at one call, and resumed."""
        async with self.gate, self._trial(f"{call} {number}") as trial:
            args = self._args(THREADS)
            if not await trial.dies(traced(killing(call, number), args), DEADLINE):
                return trial.harm(0)
            return trial.harm(1, await trial.resumes(args))

    async def journal(self, call: str, number: int) -> Harm:
        """A writer of the journal alone: what it said was done is done."""
        async with self.gate:
            directory = os.path.join(self.directory, f"journal-{call}-{number}")
            path = os.path.join(directory, "data", "journal.sqlite")
            args = traced(killing(call, number), ["write", path, str(JOURNAL_STEPS)])
            ended = await run(args, os.environ, directory, DEADLINE)
            wrong = await asyncio.to_thread(writing.fault, path, ended.said.split())
            shutil.rmtree(directory)
            return Harm(int(ended.status == -signal.SIGKILL), (f"journal, {call} {number}: {wrong}",) if wrong else ())

    async def random(self, seed: int) -> Harm:
        """Killed at random moments, as its resumes are, and resumed in the end."""
        async with self.gate, self._trial(f"seed {seed}") as trial:
            args = self._args(1 + draw(seed, "threads") % THREADS)
            depth = 1 + draw(seed, "depth") % DEPTH
            for kills in range(depth):
                moment = SPAN * (1 + draw(seed, "moment", kills) % 1000) / 1000
                if not await trial.dies(args, moment):
                    return trial.harm(kills)
            return trial.harm(depth, await trial.resumes(args))

    async def every(self, calls: Sequence[str], at: str) -> list[Harm]:
        """All kill points of these calls."""
        lanes = (self._lane(call, at, lane) for call in calls for lane in range(1, LANES + 1))
        return [harm for found in await asyncio.gather(*lanes) for harm in found]

    async def _lane(self, call: str, at: str, first: int) -> list[Harm]:
        found = []
        for number in itertools.count(first, LANES):
            found.append(await (self.upload(call, number) if at == "upload" else self.journal(call, number)))
            if not found[-1].kills:
                return found
        return found


async def _with_lab(work: str, calls: Sequence[str] = CALLS, count: int = RANDOM, points: Sequence[int] = ()) -> list[Harm]:
    """`points`: only these numbers of each call, instead of all."""
    directory = tempfile.mkdtemp(prefix="jettyctl-kills-")
    try:
        lab = Lab(directory, asyncio.Semaphore(AT_ONCE)).prepare()
        if work == "random":
            return await _until(lab, count)
        if points:
            return list(await asyncio.gather(*(lab.upload(call, number) for call in calls for number in points)))
        return await lab.every(calls, work)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _until(lab: Lab, count: int) -> list[Harm]:
    """Seed after seed until there were enough kills."""
    seeds, found = itertools.count(), list[Harm]()
    while (kills := sum(harm.kills for harm in found)) < count:
        batch = max(AT_ONCE, (count - kills) // DEPTH)
        found += await asyncio.gather(*(lab.random(next(seeds)) for _ in range(batch)))
    return found


def some(points: Sequence[int], calls: Sequence[str] = CALLS) -> list[Harm]:
    """A share of the kill points of an upload."""
    return asyncio.run(_with_lab("upload", calls, points=points))


def storm(count: int) -> list[Harm]:
    """So many random kills."""
    return asyncio.run(_with_lab("random", count=count))


def figures() -> list[Figure]:
    """The rows of the report."""
    return list(_figures())


def _figures() -> Iterator[Figure]:
    again = 0
    if reason := why_not():
        yield Figure("kill -9 at every system call", f">= {GOAL} points", f"left out: {reason}", ok=True)
    else:
        upload = asyncio.run(_with_lab("upload"))
        again += sum(harm.again for harm in upload)
        yield _figure("kill -9 at every call of a 12-part upload, resumed", upload, GOAL)
        yield _figure("kill -9 at every call of a journal's writer", asyncio.run(_with_lab("journal", JOURNAL_CALLS)), 100)
    random = storm(RANDOM)
    yield _figure(f"kill -9 at random, resumes too (up to {DEPTH} deep)", random, RANDOM)
    again += sum(harm.again for harm in random)
    yield Figure("Parts re-sent beyond those in flight at a kill", "0", str(again), again == 0)


def _figure(name: str, found: Sequence[Harm], goal: int) -> Figure:
    kills = sum(harm.kills for harm in found)
    wrong = tuple(problem for harm in found for problem in harm.wrong)
    got = f"{kills} kills, {len(wrong)} violations of I1-I5"
    return Figure(name, f">= {goal}, 0 violations", got, kills >= goal and not wrong, wrong[:20])

"""A disk that fails, is full or cannot be written, and files of other versions: an upload says so in a line, or does without.

Each call by which a journal's writer writes, syncs or cuts fails once, and all of them from some call on; whole uploads meet
the same, a full disk and a read-only one, and are repeated once the trouble is over.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from jettyctl.errors import JournalError
from jettyctl.journal.sqlite import SCHEMA_VERSION, SqliteJournal
from tests.faults import writing
from tests.faults.figures import Figure
from tests.faults.running import run
from tests.faults.tracing import failing, traced, why_not
from tests.faults.trial import MIB, Expected, Trial
from tests.support.journals import fill, make_session
from tests.support.running import random_file

CHUNK = 5 * MIB
SIZE = 2 * CHUNK + 1_000  # bytes
WRITER_STEPS = 5
FAILURES = (("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("ftruncate", "EIO"))
WRITER_CALLS = (*range(1, 12), *range(12, 80, 5))
UPLOAD_CALLS = (1, 2, 4, 7, 11, 16, 22)
SMALL_DISK = 256 * 1024  # bytes
ROOM = (0, 4_096, 32_768, 40_960, 45_056, 49_152, 57_344)  # bytes that are left on it
DEADLINE = 60.0  # seconds
AT_ONCE = 4
KEY = "key"


@contextmanager
def small_disk(parent: str) -> Iterator[str | None]:
    """A file system of its own; None where nobody may mount one."""
    disk = tempfile.mkdtemp(prefix="disk-", dir=parent)
    options = ["-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=0700", "tmpfs"]
    if shutil.which("mount") is None or subprocess.run(["mount", *options, disk], capture_output=True).returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@dataclass(slots=True)
class Lab:
    """The file that all uploads send, and how many trials run at the same time. `tried` counts them."""

    directory: str
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    data: bytes = b""
    tried: int = 0

    def prepare(self) -> Lab:
        random_file(self.file, SIZE, seed=3)
        with open(self.file, "rb") as file:
            self.data = file.read()
        return self

    @property
    def file(self) -> str:
        return os.path.join(self.directory, "file")

    def trial(self, name: str) -> Trial:
        self.tried += 1
        return Trial(name, os.path.join(self.directory, name.replace(" ", "_")), [Expected(KEY, self.data)])

    def args(self) -> list[str]:
        return ["upload", "--chunk-size", str(CHUNK), self.file, f"s3://bucket/{KEY}"]

    async def writer(self, call: str, error: str, when: str) -> list[str]:
        """A writer of the journal alone goes on after a call that failed, and what it said was done is done."""
        async with self.gate:
            self.tried += 1
            name = f"writer, {call} {error} {when}"
            directory = os.path.join(self.directory, name.replace(" ", "_"))
            path = os.path.join(directory, "data", "journal.sqlite")
            args = traced(failing(call, error, when), ["write", path, str(WRITER_STEPS)])
            ended = await run(args, os.environ, directory, DEADLINE)
            said = ended.said.split()
            if ended.status != 0 or len(said) != WRITER_STEPS or "Traceback" in ended.said:
                return [f"{name}: exit {ended.status}: {ended.said[-300:]}"]
            wrong = await asyncio.to_thread(writing.fault, path, said)
            return [f"{name}: after {' '.join(said)}: {wrong}"] if wrong else []

    async def upload(self, call: str, error: str, when: str) -> list[str]:
        """An upload whose journal cannot write: done, or failed with a reason and done by the next run."""
        async with self.gate, self.trial(f"upload, {call} {error} {when}") as trial:
            ended = await trial.runs(traced(failing(call, error, when), self.args()), None, DEADLINE)
            await trial.recovers(self.args(), ended, DEADLINE)
            return list(trial.seen(ended).wrong)

    async def full(self, disk: str, room: int) -> list[str]:
        """The disk of the journal is full before the upload, or gets full in it."""
        async with self.trial(f"disk with {room} bytes left") as trial:
            trial.env["JETTY_DATA_DIR"] = os.path.join(disk, "data")
            ballast = os.path.join(disk, "ballast")
            with open(ballast, "wb") as file:
                file.write(bytes(SMALL_DISK - room - 8_192))  # two pages are directories
            ended = await trial.runs(self.args(), None, DEADLINE)
            if ended.status != 0 and "space" not in ended.said:
                trial.wrong.append(f"does not say that space is short: {ended.said.strip()[-300:]}")
            os.unlink(ballast)
            await trial.recovers(self.args(), ended, DEADLINE)
            shutil.rmtree(trial.env["JETTY_DATA_DIR"])
            return list(trial.seen(ended).wrong)

    async def read_only(self, disk: str) -> list[str]:
        """A directory in which nothing can be written."""
        async with self.trial("read-only") as trial:
            trial.env["JETTY_DATA_DIR"] = os.path.join(disk, "data")
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            ended = await trial.runs(self.args(), None, DEADLINE)
            if ended.status == 0 or "ead-only" not in ended.said:
                trial.wrong.append(f"exit {ended.status} on a read-only disk: {ended.said.strip()[-300:]}")
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            await trial.recovers(self.args(), ended, DEADLINE)
            return list(trial.seen(ended).wrong)


async def failed_calls(lab: Lab, writer: Sequence[int], upload: Sequence[int]) -> list[str]:
    """Every kind of failure at these calls: of the writer, and of uploads."""
    places = [(call, error, f"{number}{rest}") for call, error in FAILURES for number in writer for rest in ("", "+")]
    works = [lab.writer(*place) for place in places]
    places = [(call, error, f"{number}{rest}") for call, error in FAILURES for number in upload for rest in ("", "+")]
    works += [lab.upload(*place) for place in places]
    return list(itertools.chain.from_iterable(await asyncio.gather(*works)))


async def bad_disks(lab: Lab) -> list[str] | None:
    """Full and read-only ones; None where there can be none."""
    with small_disk(lab.directory) as disk:
        if disk is None:
            return None
        found = [problem for room in ROOM for problem in await lab.full(disk, room)]
        return found + await lab.read_only(disk)


def schemas(directory: str) -> list[str]:
    """Older files are taken over with all rows, newer ones are left alone."""
    path, wrong = os.path.join(directory, "schemas", "journal.sqlite"), []
    truth = fill(path)
    for version in range(SCHEMA_VERSION):
        _set_version(path, version)
        with closing(SqliteJournal(path)) as journal:
            held = {session.session_id: session for session in journal.sessions()}
        if held != truth:
            wrong.append(f"schema {version}: {len(held)} of {len(truth)} sessions")
    for version in (SCHEMA_VERSION + 1, 1 << 30):
        _set_version(path, version)
        with open(path, "rb") as file:
            before = file.read()
        with closing(SqliteJournal(path)) as journal:
            wrong += [f"schema {version}: {name} is not refused" for name in ("read", "write") if not _refused(journal, name)]
        with open(path, "rb") as file:
            if file.read() != before:
                wrong.append(f"schema {version}: the file was changed")
    return wrong


def _set_version(path: str, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()


def _refused(journal: SqliteJournal, name: str) -> bool:
    try:
        if name == "read":
            journal.sessions()
        else:
            journal.save(make_session(77))
    except JournalError as error:
        return "newer jettyctl" in error.message
    return False


def figures() -> list[Figure]:
    """The rows of the report."""
    directory = tempfile.mkdtemp(prefix="jettyctl-trouble-")
    try:
        return list(_figures(Lab(directory).prepare()))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _figures(lab: Lab) -> Iterator[Figure]:
    name, goal = "A call of the journal fails (EIO, ENOSPC)", "done, or one line and done by the next run"
    if reason := why_not():
        yield Figure(name, goal, f"left out: {reason}", ok=True)
    else:
        wrong = asyncio.run(failed_calls(lab, WRITER_CALLS, UPLOAD_CALLS))
        yield Figure(name, goal, f"{len(wrong)} wrong of {lab.tried}", not wrong, tuple(wrong[:20]))
    name = "Uploads with the journal on a full or read-only disk"
    found = asyncio.run(bad_disks(lab))
    if found is None:
        yield Figure(name, goal, "left out: nothing can be mounted", ok=True)
    else:
        yield Figure(name, goal, f"{len(found)} wrong of {len(ROOM) + 1}", not found, tuple(found))
    wrong = schemas(lab.directory)
    name, goal = "Journals of older and newer versions", "taken over; refused and unchanged"
    yield Figure(name, goal, f"{len(wrong)} wrong", not wrong, tuple(wrong))

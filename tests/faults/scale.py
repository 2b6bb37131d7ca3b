"""Figures that need size and not faults: what a resume of 10,000 parts sends, and when; what throttling costs in requests."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jettyctl.core.model import Target
from jettyctl.core.session import ChunkRecord, ChunkStatus, Session, SourceRecord
from jettyctl.files.source import Source
from jettyctl.journal.sqlite import SqliteJournal
from tests.faults.figures import Figure
from tests.faults.running import run
from tests.faults.trial import MIB, Trial
from tests.support.judge import Log, Strike
from tests.support.judge.hashes import Hashes
from tests.support.judge.shelf import Part

CHUNK = 5 * MIB
SMALL_CHUNK = MIB // 16
PARTS = 10_000
DEADLINE = 60.0  # seconds
ROUND_TRIP = 0.02  # seconds
RESUME_GOAL = 5.0  # seconds until the first new byte
STORED, JOURNALED, KILLED = 9_980, 9_900, 9_990  # parts at the store; parts in the journal, too; with that part, a kill
PAGE = 1_000  # parts in one answer of a store
THROTTLED_PARTS, CAPACITY, SERVICE = 150, 15.0, 0.25  # parts; parts a second; seconds that a part takes at the store
AMPLIFICATION_GOAL = 1.5  # requests for a part


def figures() -> list[Figure]:
    """The rows of the report."""
    directory = tempfile.mkdtemp(prefix="jettyctl-scale-")
    try:
        return [asyncio.run(measure(directory)) for measure in (_resume, _killed, _throttled)]
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _sparse(path: str, size: int) -> str:
    with open(path, "wb") as file:
        file.truncate(size)
    return path


async def _resume(directory: str) -> Figure:
    """All parts but the last are at the store and in the journal: when does the request for the last one begin?"""
    path = _sparse(os.path.join(directory, "huge"), PARTS * CHUNK)
    async with Trial("resume", os.path.join(directory, "resume"), []) as trial:
        trial.judge.latency = ROUND_TRIP
        _begin(trial, path, CHUNK, PARTS - 1, PARTS - 1)
        began = time.monotonic()
        args = ["upload", "--chunk-size", str(CHUNK), path, "s3://bucket/key"]
        running = asyncio.ensure_future(run(args, trial.env, os.path.join(trial.directory, "run"), 30.0))
        while not (sent := trial.judge.log.of("part", "key")) and not running.done():
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        seconds = sent[0].began - began if sent else float("inf")
        right = [entry.part for entry in sent] == [PARTS]
    ok = right and seconds <= RESUME_GOAL
    return Figure("Resume of 10,000 parts, 20 ms round trip", "<= 5 s to the first new byte", f"{seconds:.1f} s", ok)


def _begin(trial: Trial, path: str, chunk: int, stored: int, journaled: int) -> None:
    """Store and journal as a run leaves them that has sent so many parts of `chunk` zeros, and noted so many of them."""
    upload = trial.judge.shelf.begin("key", {}, time.time())
    part = Part.of(1, Hashes.of(bytes(chunk), keep=False), time.time())
    upload.parts.update({number: replace(part, number=number) for number in range(1, stored + 1)})
    _record(trial, path, upload.id, part, journaled)


def _record(trial: Trial, path: str, upload_id: str, part: Part, parts: int) -> None:
    data = trial.env["JETTY_DATA_DIR"]
    os.makedirs(data, mode=0o700)
    journal = SqliteJournal(os.path.join(data, "journal.sqlite"))
    now = time.time()
    with Source.open(path) as source:
        record = SourceRecord(path, source.identity)
    target = Target("s3", trial.judge.endpoint, "bucket", "key")
    session = Session(str(uuid.uuid4()), record, target, part.size, 16, now, now, upload_id=upload_id)
    journal.save(session)
    done = ChunkRecord(0, ChunkStatus.COMPLETED, now, bytes_uploaded=part.size, etag=part.etag, crc64=part.crc64)
    journal.save_chunks(session.session_id, [replace(done, index=index) for index in range(parts)])
    journal.close()


@dataclass(slots=True)
class _Killer:
    """A schedule without faults that kills a process when a part begins."""

    pid: int = 0

    def born(self, pid: int) -> None:
        self.pid = pid

    def decide(self, op: str, key: str, part: int | None, attempt: int) -> Strike | None:
        if part == KILLED and attempt == 1:
            os.kill(self.pid, signal.SIGKILL)
        return None


async def _killed(directory: str) -> Figure:
    """Killed near its end, an upload of 10,000 parts learns from 10 pages what the store has, and sends the rest.

    The parts are those of a store that takes small ones: each run reads the whole file once.
    """
    path = _sparse(os.path.join(directory, "many"), PARTS * SMALL_CHUNK)
    async with Trial("killed", os.path.join(directory, "killed"), []) as trial:
        trial.judge._bucket.profile = replace(trial.judge._bucket.profile, min_part=SMALL_CHUNK)
        _begin(trial, path, SMALL_CHUNK, STORED, JOURNALED)
        args = ["upload", "-q", "--threads", "4", path, "s3://bucket/key"]
        killer = trial.judge.schedule = _Killer()
        died = await run(args, trial.env, os.path.join(trial.directory, "first"), DEADLINE, killer.born)
        while trial.judge._tasks:  # what it had given to the kernel arrives
            await asyncio.sleep(0.01)
        there = {number for upload in trial.judge.shelf.uploads.values() for number in upload.parts}
        count = len(trial.judge.log.entries)
        ended = await trial.runs(args, None, DEADLINE)
        log, stored = trial.judge.log, trial.judge.shelf.objects.get("key")
        second = log.entries[count:]
    sent = sorted(entry.part or 0 for entry in second if entry.op == "part")
    covered = [entry.covered for entry in log.of("complete")]
    pages = sum(entry.op == "list_parts" for entry in second)
    whole = stored is not None and len(stored.parts) == PARTS and len({part.sha256 for part in stored.parts}) == 1
    wrong = list(trial.wrong)
    if (died.status, ended.status) != (-signal.SIGKILL, 0) or not whole:
        wrong.append(f"exit {died.status}, then {ended.status}: {ended.said.strip()[-300:]}")
    if sent != sorted(set(range(1, PARTS + 1)) - there) or covered != [PARTS * SMALL_CHUNK]:
        wrong.append(f"sent {sent}, and Complete of {covered} bytes")
    got = f"{len(there):,} were there, {pages} pages asked for, {len(sent)} sent; done in {ended.seconds:.0f} s"
    name, goal = "10,000 parts, killed near the end and resumed", "only what is missing is sent"
    return Figure(name, goal, got, not wrong and pages >= PARTS // PAGE, tuple(wrong))


async def _throttled(directory: str) -> Figure:
    """A store that takes a fraction of what all threads together would send it says so with 503."""
    path = _sparse(os.path.join(directory, "big"), THROTTLED_PARTS * CHUNK)
    async with Trial("throttled", os.path.join(directory, "throttled"), []) as trial:
        trial.judge.latency, trial.judge.capacity = SERVICE, CAPACITY
        args = ["upload", "--chunk-size", str(CHUNK), path, "s3://bucket/key"]
        ended = await trial.runs(args, None, 120.0)
        log = trial.judge.log
    settled = _requests(log, range(THROTTLED_PARTS // 3, THROTTLED_PARTS + 1))
    refused = log.hits["throttle-503", "part"] / len(log.of("part"))
    got = f"{settled:.2f}; {refused:.0%} of all were throttled; exit {ended.status}"
    ok = settled <= AMPLIFICATION_GOAL and ended.status == 0 and refused > 0
    return Figure("Requests per part, offered four times the capacity, once settled", f"<= {AMPLIFICATION_GOAL}", got, ok)


def _requests(log: Log, parts: Sequence[int]) -> float:
    """How many requests each of these parts took."""
    sent = [entry for entry in log.of("part") if entry.part in parts]
    return len(sent) / len({entry.part for entry in sent})

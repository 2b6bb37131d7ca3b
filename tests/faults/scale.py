"""Figures that need size and not faults: how soon a resume of 10,000 parts sends, and what throttling costs in requests."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from jettyctl.core.model import Target
from jettyctl.core.session import ChunkRecord, ChunkStatus, Session, SourceRecord
from jettyctl.files.source import Source
from jettyctl.journal.sqlite import SqliteJournal
from tests.faults.figures import Figure
from tests.faults.running import run
from tests.faults.trial import MIB, Trial
from tests.support.judge import Log
from tests.support.judge.hashes import Hashes
from tests.support.judge.shelf import Part

CHUNK = 5 * MIB
PARTS = 10_000
ROUND_TRIP = 0.02  # seconds
RESUME_GOAL = 5.0  # seconds until the first new byte
THROTTLED_PARTS, CAPACITY, SERVICE = 150, 15.0, 0.25  # parts; parts a second; seconds that a part takes at the store
AMPLIFICATION_GOAL = 1.5  # requests for a part


def figures() -> list[Figure]:
    """The rows of the report."""
    directory = tempfile.mkdtemp(prefix="jettyctl-scale-")
    try:
        return [asyncio.run(_resume(directory)), asyncio.run(_throttled(directory))]
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
        upload = trial.judge.shelf.begin("key", {}, time.time())
        part = Part.of(1, Hashes.of(bytes(CHUNK), keep=False), time.time())
        upload.parts.update({number: replace(part, number=number) for number in range(1, PARTS)})
        _record(trial, path, upload.id, part)
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


def _record(trial: Trial, path: str, upload_id: str, part: Part) -> None:
    """The journal of a run that was killed before its last part."""
    data = trial.env["JETTY_DATA_DIR"]
    os.makedirs(data, mode=0o700)
    journal = SqliteJournal(os.path.join(data, "journal.sqlite"))
    now = time.time()
    with Source.open(path) as source:
        record = SourceRecord(path, source.identity)
    target = Target("s3", trial.judge.endpoint, "bucket", "key")
    session = Session(str(uuid.uuid4()), record, target, CHUNK, 16, now, now, upload_id=upload_id)
    journal.save(session)
    done = ChunkRecord(0, ChunkStatus.COMPLETED, now, bytes_uploaded=CHUNK, etag=part.etag, crc64=part.crc64)
    journal.save_chunks(session.session_id, [replace(done, index=index) for index in range(PARTS - 1)])
    journal.close()


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

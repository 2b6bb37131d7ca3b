"""Load that goes on while something is killed under a control plane, and what must be true when it is over.

Uploads are jettyctl processes; what one cannot end by itself is resumed. Chunks are kept and read by a client of the
contract, which remembers what was acknowledged.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
from sqlalchemy import select

from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import upload_chunks
from tests.server.machines import Hosted, Machine
from tests.support.plane import PlaneProcess, with_database
from tests.support.proxy import RecordingProxy
from tests.support.relay import Request
from tests.support.running import random_file
from tests.support.uploading import API

MIB = 1 << 20
PATIENCE = 150.0  # seconds for an upload, with all its resumes: the claim of a killed Complete alone may last 20
NOT_NOW = (5, 75)  # exit statuses of a run that can be resumed
LATER = (429, 503)  # 429: a process that is killed takes the tickets with it that it had reserved
SESSION_CHUNKS = 60  # then a committer begins another session
PACE = 0.02  # seconds between two chunks of a committer


@dataclass(frozen=True, slots=True)
class Arrived:
    """An upload that was done."""

    key: str
    path: Path
    said: tuple[str, ...]  # by the runs that did not end it


class Work(threading.Thread):
    """Something that goes on until it is told that it is over. `close` raises what went wrong in it."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.over = threading.Event()
        self._error: Exception | None = None

    def step(self) -> None:
        """What is done again and again, at least once."""
        raise NotImplementedError

    def run(self) -> None:
        try:
            while True:
                self.step()
                if self.over.is_set():
                    return
        except Exception as error:  # noqa: BLE001 - `close` raises it
            self._error = error

    def close(self) -> None:
        """Wait for the last step."""
        self.over.set()
        self.join(PATIENCE + 10)
        if self._error:
            raise self._error
        assert not self.is_alive(), f"{self.name} does not end"


class Uploader(Work):
    """Uploads one new file after the other from one machine."""

    def __init__(self, machine: Machine, name: str, seed: int, size: int, options: Sequence[str]) -> None:
        super().__init__(name)
        self.machine = machine
        self.arrived: list[Arrived] = []
        self._seed = seed
        self._size = size
        self._options = options

    def step(self) -> None:
        key = f"{self.name}-{len(self.arrived)}.bin"
        path = self.machine.data.parent / key
        random_file(path, self._size, self._seed + len(self.arrived))
        deadline = time.monotonic() + PATIENCE
        said: list[str] = []
        while True:
            assert time.monotonic() < deadline, f"{key} does not arrive: {said}"
            done = self.machine(*self._command(key, path), timeout=PATIENCE)
            if done.returncode == 0:
                break
            said.append(f"{time.monotonic():.2f}: {done.args[0]} {done.returncode}: {done.stderr}")
            assert done.returncode in NOT_NOW, said
        self.arrived.append(Arrived(key, path, tuple(said)))

    def _command(self, key: str, path: Path) -> list[str]:
        for session in self.machine.sessions():
            if session.target.key == key and session.unfinished and session.upload_id:
                return ["resume", session.session_id]
        return ["upload", str(path), f"jetty:{key}", *self._options]


class Committer(Work):
    """Keeps one chunk after the other; after a failure the same one again."""

    def __init__(self, client: httpx.Client, name: str, seed: int) -> None:
        super().__init__(name)
        self.acknowledged: dict[str, dict[int, str]] = {}  # session -> index -> hash
        self.unanswered = 0
        self._client = client
        self._draw = random.Random(seed)

    @property
    def count(self) -> int:
        return sum(len(chunks) for chunks in list(self.acknowledged.values()))

    def step(self) -> None:
        session = str(uuid.UUID(int=self._draw.getrandbits(128)))
        chunks = self.acknowledged.setdefault(session, {})
        while len(chunks) < SESSION_CHUNKS and not self.over.is_set():
            index, value = len(chunks), f"{self._draw.getrandbits(64):016x}"
            while not self._kept(session, index, value):
                self.unanswered += 1
                time.sleep(0.1)
            chunks[index] = value
            time.sleep(PACE)

    def newest(self) -> tuple[str, dict[int, str]]:
        """The session that is being written, and what was acknowledged of it by now."""
        sessions = list(self.acknowledged.items())
        return (sessions[-1][0], dict(sessions[-1][1])) if sessions else ("none", {})

    def _kept(self, session: str, index: int, value: str) -> bool:
        body = {"sessionId": session, "chunkIndex": index, "status": "completed", "chunkHash": value, "bytesUploaded": index}
        try:
            reply = self._client.post(f"{API}/cache-chunk", json=body)
        except httpx.TransportError:
            return False
        assert reply.status_code in (200, *LATER), reply.text
        return reply.status_code == 200


class Reader(Work):
    """Asks for the chunks that were acknowledged: whatever was killed, an answer has all of them."""

    def __init__(self, client: httpx.Client, name: str, committer: Committer) -> None:
        super().__init__(name)
        self.answers = 0
        self._client = client
        self._committer = committer

    def step(self) -> None:
        session, known = self._committer.newest()
        found = chunks_of(self._client, session)
        if found is not None:
            lost = {index for index, value in known.items() if found.get(index) != value}
            assert not lost, f"chunks {sorted(lost)} of {session} are not in the answer"
            self.answers += 1
        time.sleep(0.1)


@dataclass(slots=True)
class Load:
    """All that goes on at once. Use it as a context manager: it ends well, or raises what went wrong."""

    plane: PlaneProcess
    uploaders: Sequence[Uploader]
    api_key: str
    seed: int
    committers: list[Committer] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    _clients: list[httpx.Client] = field(default_factory=list)

    def __enter__(self) -> Self:
        for number in range(2):
            client = self.plane.client(self.api_key)
            self._clients.append(client)
            self.committers.append(Committer(client, f"committer-{number}", self.seed + number))
            self.readers.append(Reader(client, f"reader-{number}", self.committers[-1]))
        for work in self._all():
            work.start()
        return self

    def __exit__(self, *_: object) -> None:
        for work in self._all():
            work.over.set()
        try:
            for work in self._all():
                work.close()
        finally:
            for client in self._clients:
                client.close()

    @property
    def arrived(self) -> list[Arrived]:
        return [one for uploader in self.uploaders for one in uploader.arrived]

    def report(self) -> str:
        """Figures for who reads the output."""
        runs = sum(1 + len(one.said) for one in self.arrived)
        chunks, unanswered = sum(c.count for c in self.committers), sum(c.unanswered for c in self.committers)
        return (
            f"{len(self.arrived)} uploads in {runs} runs; {chunks} chunks acknowledged, {unanswered} tries without an answer, "
            f"{sum(r.answers for r in self.readers)} listings"
        )

    def _all(self) -> list[Work]:
        return [*self.uploaders, *self.committers, *self.readers]


def chunks_of(client: httpx.Client, session: str) -> dict[int, str] | None:
    """Index -> hash as the service answers; None if it does not."""
    try:
        reply = client.get(f"{API}/cache-chunk", params={"sessionId": session})
    except httpx.TransportError:
        return None
    assert reply.status_code in (200, *LATER), reply.text
    return {chunk["chunkIndex"]: chunk["chunkHash"] for chunk in reply.json()["chunks"]} if reply.status_code == 200 else None


def check_chunks(load: Load) -> None:
    """Every acknowledged chunk is in the database, and in the service's answer."""
    wanted = {session: chunks for committer in load.committers for session, chunks in committer.acknowledged.items()}

    async def look(database: Database) -> dict[str, dict[int, str]]:
        c = upload_chunks.c
        found: dict[str, dict[int, str]] = {}
        async with database.read() as connection:
            query = select(c.session_id, c.chunk_index, c.chunk_hash).where(c.session_id.in_([*wanted]))
            for session, index, value in await connection.execute(query):
                found.setdefault(session, {})[index] = value
        return found

    kept = with_database(load.plane.settings.database_url, look)
    with load.plane.client(load.api_key) as client:
        for session, chunks in wanted.items():
            for where, found in (("the database", kept.get(session, {})), ("the answer", chunks_of(client, session) or {})):
                lost = {index: value for index, value in chunks.items() if found.get(index) != value}
                assert not lost, f"of {session} these chunks are not in {where}: {sorted(lost)}"


def check_uploads(load: Load, hosted: Hosted) -> None:
    """Every upload is in the store byte by byte, and completed for the control plane."""
    for uploader in load.uploaders:
        statuses = {one["key"]: one["status"] for one in reversed(uploader.machine.ask("/sessions", limit="1000")["sessions"])}
        for one in uploader.arrived:
            assert sha256(hosted.stored(one.key)) == sha256(one.path.read_bytes()), one
            assert statuses[one.key] == "completed", one


def check_log(plane: PlaneProcess) -> None:
    """Nothing happened that nobody expected: no 500, no bug in the background."""
    bad = [line for line in plane.log.splitlines() if '"status": 500' in line or '"where": [' in line]
    assert not bad, "\n".join(bad[:5])


@dataclass(frozen=True, slots=True)
class Parts:
    """What the requests for parts that passed a proxy tell."""

    sent: int
    again: int
    unanswered: int


def check_parts(requests: dict[tuple[str, int], list[Request]], wanted: dict[str, int]) -> Parts:
    """Each part was sent once, and again only when nobody heard that it had arrived. `wanted`: how many parts a key has."""
    for key, count in wanted.items():
        assert {part for name, part in requests if name == key} == {*range(1, count + 1)}, key
    for (key, part), sent in requests.items():
        heard = [request.at for request in sent if request.succeeded]
        told = f"part {part} of {key}: " + ", ".join(f"{one.at:.2f}-{one.ended or 0:.2f} {one.status}" for one in sent)
        assert len(heard) == 1, told
        assert heard[0] == max(request.at for request in sent), told
    total = sum(map(len, requests.values()))
    unanswered = sum(not request.succeeded for sent in requests.values() for request in sent)
    return Parts(total, total - len(requests), unanswered)


def parts_at_s3(proxy: RecordingProxy, prefix: str) -> dict[tuple[str, int], list[Request]]:
    """Key and part -> requests, where clients send to the store."""
    found: dict[tuple[str, int], list[Request]] = {}
    for request in list(proxy.requests):
        if request.part is not None and request.path.startswith(f"/{proxy.bucket}/{prefix}"):
            found.setdefault((request.path.rpartition("/")[2], request.part), []).append(request)
    return found


def parts_at_service(proxy: RecordingProxy, keys: dict[str, str]) -> dict[tuple[str, int], list[Request]]:
    """Key and part -> requests, where clients send to the control plane. `keys`: of sessions."""
    found: dict[tuple[str, int], list[Request]] = {}
    for request in list(proxy.requests):
        if request.path.startswith(f"{API}/blobs/"):
            said = request.path.rpartition("/")[2].partition(".")[0]
            session, _, part, *_ = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
            found.setdefault((keys[session], part), []).append(request)
    return found


def check_completes(proxy: RecordingProxy, prefix: str, keys: Sequence[str]) -> int:
    """The store completed each upload once, and was asked again only when its answer was lost, or was that it had failed
    (5xx). How often it was asked, those failures left out.
    """
    asked: dict[str, list[int | None]] = {}
    for request in list(proxy.requests):
        failed = request.status is not None and request.status >= 500
        if request.op == "complete" and not failed and request.path.startswith(f"/{proxy.bucket}/{prefix}"):
            asked.setdefault(request.path.rpartition("/")[2], []).append(request.status)
    for key in keys:
        statuses = asked.get(key, [])
        assert statuses, f"{key} was never completed"
        assert sum(status == 200 for status in statuses) <= 1, f"{key} was completed twice"
        assert len(statuses) <= 1 + statuses.count(None), f"{key} was completed again: {statuses}"
    return sum(map(len, asked.values()))


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()

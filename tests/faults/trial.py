"""One upload against one judge with faults, and the invariants that hold whatever happens to it.

I1 the object is absent, the old one, or exactly the file. I2 exit 0 means exactly the file, and a journal that says so.
I3 a part is sent again only if it was in flight, failed, or its upload was lost. I5 no request after the exit, and no
Complete that does not cover the file. I6 no secret in what is printed or kept. I7 an end before the deadline. I8 memory.
A run that fails says why in a line, and the same command succeeds once the faults are over.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from jettyctl.core.session import SessionStatus
from jettyctl.journal.sqlite import SqliteJournal
from tests.faults.running import Ended, run
from tests.support.judge import Entry, Judge, Schedule
from tests.support.judge.faults import Quiet
from tests.support.judge.signature import Key
from tests.support.running import clean_environment
from tests.support.servers import ACCESS_KEY, SECRET_KEY

MIB = 1 << 20
BEFORE_EXIT = 0.05  # seconds in which the judge takes up what was sent before the exit
AFTERWARDS = 0.15  # seconds in which a request after the exit would be seen
BASE_MEMORY = 150 * MIB  # and twice what all threads have in flight
CLEAN = frozenset({0, 1, 3, 4, 5, 6, 7})  # of an upload that nobody stops, whose file holds still
SECRETS = (SECRET_KEY, "Signature=")


@dataclass(frozen=True, slots=True)
class Expected:
    """What is to be at a key, and what was there before (None: nothing)."""

    key: str
    data: bytes
    before: bytes | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A trial's end. `wrong` are the invariants that were broken; `injected` counts faults; `stalls` are the requests that a
    slow fault held, with how long the client bore it, in seconds."""

    name: str
    status: int | None
    said: str
    seconds: float
    wrong: tuple[str, ...]
    hits: dict[tuple[str, str], int]
    stalls: tuple[tuple[str, str, float], ...]
    peak: int

    @property
    def injected(self) -> int:
        return sum(self.hits.values())


@dataclass(slots=True)
class Trial:
    """Use as an asynchronous context manager. `directory` is its own, and removed at the end."""

    name: str
    directory: str
    expected: Sequence[Expected]
    checksum: str = "crc64nvme"
    profile: str = "aws"
    keys: Mapping[str, Key] = field(default_factory=lambda: {ACCESS_KEY: Key(SECRET_KEY)})
    judge: Judge = field(init=False)
    env: dict[str, str] = field(init=False)
    wrong: list[str] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        os.makedirs(self.directory)
        self.judge = await Judge(self.profile, keys=self.keys).open()
        home = clean_environment(os.path.join(self.directory, "home"))
        data = os.path.join(self.directory, "data")
        self.env = {**home, **self.judge.env, "JETTY_DATA_DIR": data, "JETTY_CHECKSUM": self.checksum}
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.judge.shut()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def runs(self, args: Sequence[str], schedule: Schedule | None, deadline: float) -> Ended:
        """One run under a schedule, checked."""
        self.judge.schedule = schedule or Quiet()
        ended = await run(args, self.env, os.path.join(self.directory, "run"), deadline)
        await asyncio.sleep(BEFORE_EXIT)
        count = len(self.judge.log.entries)
        await asyncio.sleep(AFTERWARDS)
        if len(self.judge.log.entries) > count:
            self.wrong.append("I5: a request after the exit")
        self._check_end(ended)
        self._check_objects(ended)
        self._check_requests()
        return ended

    async def recovers(self, args: Sequence[str], ended: Ended, deadline: float) -> None:
        """A run that failed is repeated without faults, and does it."""
        if ended.status != 0 and (again := await self.runs(args, None, deadline)).status != 0:
            self.wrong.append(f"not recovered from exit {ended.status}: exit {again.status}: {again.said.strip()[-300:]}")

    def seen(self, ended: Ended) -> Seen:
        """The verdict."""
        log = self.judge.log
        stalls = tuple((e.fault, e.op, (e.ended or ended.at) - e.began) for e in log.entries if _is_slow(e))
        wrong = tuple(f"{self.name}: {item}" for item in self.wrong)
        return Seen(self.name, ended.status, ended.said, ended.seconds, wrong, dict(log.hits), stalls, ended.peak)

    def _check_end(self, ended: Ended) -> None:
        if ended.status is None:
            self.wrong.append(f"I7: killed at its deadline after {ended.seconds:.0f} s")
        elif ended.status not in CLEAN or "Traceback" in ended.said:
            self.wrong.append(f"no clean end: exit {ended.status}: {ended.said.strip()[-500:]}")
        elif ended.status and "jettyctl: " not in ended.said:
            self.wrong.append(f"exit {ended.status} without a reason: {ended.said.strip()[-200:]!r}")
        if any(secret in ended.said for secret in SECRETS):
            self.wrong.append("I6: a secret was printed")
        if ended.peak > BASE_MEMORY + 2 * 16 * 5 * MIB:
            self.wrong.append(f"I8: {ended.peak // MIB} MiB of memory")

    def _check_objects(self, ended: Ended) -> None:
        for item in self.expected:
            stored = self.judge.shelf.objects.get(item.key)
            exact = stored is not None and stored.holds(item.data)
            old = stored is not None and item.before is not None and stored.holds(item.before)
            if not (exact or old or (stored is None and item.before is None)):
                self.wrong.append(f"I1: {item.key} is neither the old object nor the file")
            if ended.status == 0 and not exact:
                self.wrong.append(f"I2: exit 0, and {item.key} is not the file")
        path = os.path.join(self.env["JETTY_DATA_DIR"], "journal.sqlite")
        if ended.status == 0 and os.path.exists(path):
            journal = SqliteJournal(path)
            newest = {session.target.key: session.status for session in reversed(journal.sessions())}
            journal.close()
            if unfinished := [key for key, status in newest.items() if status is not SessionStatus.COMPLETED]:
                self.wrong.append(f"I2: exit 0, and the journal calls {unfinished} unfinished")

    def _check_requests(self) -> None:
        log = self.judge.log
        if self.judge.trapped:
            self.wrong.append("a redirect was followed")
        for item in self.expected:
            if log.short_completes(item.key, len(item.data)):
                self.wrong.append(f"I5: a Complete of {item.key} that does not cover the file")
            if again := [] if self._lied() else [f"part {e.part}, try {e.attempt}" for e in log.sent_again(item.key)]:
                self.wrong.append(f"I3: sent again: {', '.join(again)}")

    def _lied(self) -> bool:
        """A list of parts that is damaged on its way makes parts suspect: then they are sent again, rightly."""
        lies = {"flip-reply", "wrong-etag"}
        return any(kind in lies and op == "list_parts" for kind, op in self.judge.log.hits)


def _is_slow(entry: Entry) -> bool:
    return entry.fault in ("black-hole", "withheld-reply", "trickle")

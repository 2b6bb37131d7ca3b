"""Every kind of fault at every operation, three seeds each, as uploads by real processes: what happens to whom is in `cells`.

Kinds that pass are survived: exit 0 and the object exact. Of the others a run may fail, cleanly. Seeds differ in how often the
fault strikes, which part it strikes, which checksum guards the bytes, and whether an object was there before.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.faults.figures import Figure
from tests.faults.trial import MIB, Expected, Seen, Trial
from tests.support.judge import KINDS, Cell, Kind
from tests.support.judge.faults import draw
from tests.support.running import random_file

OPERATIONS = ("create", "part", "complete", "head", "list_parts", "put", "abort", "copy", "part_copy")
SEEDS = (1, 2, 3)
CHUNK = 5 * MIB
BIG, SMALL = 2 * CHUNK + 100_000, 150_000  # bytes: three parts, and one request
QUICK, PATIENT = 5, 80  # runs at the same time: those that work, and those that wait
LONG_WAIT = frozenset({"complete", "copy", "part_copy"})  # a store may take its time for these: five minutes of silence
STALL, TRICKLE, ASSEMBLY = 35.0, 90.0, 310.0  # seconds after which a client has to have noticed
KEY = "key"
CHECKSUMS = ("crc64nvme", "md5", "sha256")


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of fault, an operation and a seed."""

    kind: Kind
    op: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind.name} x {self.op} #{self.seed}"

    @property
    def times(self) -> int:
        """How many attempts in a row are struck. Slow ones take long enough once."""
        return 1 if self.kind.slow else 1 + self.seed % 2

    @property
    def deadline(self) -> float:
        """In seconds; a loaded machine included."""
        if not self.kind.slow:
            return 90.0
        return 60.0 + (ASSEMBLY if self.op in LONG_WAIT else 2 * TRICKLE)

    def schedule(self) -> Cell:
        """The seed 2 strikes all parts at once, others one of them."""
        part = 1 + draw(self.seed, self.kind.name) % 3 if self.op in ("part", "part_copy") and self.seed != 2 else None
        return Cell(self.seed, self.kind.name, self.op, KEY, self.times, part)


def places(kinds: Iterable[str] = KINDS, operations: Sequence[str] = OPERATIONS, seeds: Sequence[int] = SEEDS) -> list[Place]:
    """The cells of the table that can be, the longest first."""
    found = [Place(KINDS[kind], op, seed) for kind in kinds for op in operations for seed in seeds if KINDS[kind].befalls(op)]
    return sorted(found, key=lambda place: -place.deadline)


@dataclass(slots=True)
class Lab:
    """Files that all trials send, and how many of them run at the same time."""

    directory: str
    big: bytes = b""
    small: bytes = b""
    quick: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(QUICK))
    patient: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PATIENT))

    def prepare(self) -> Lab:
        """Write the files."""
        random_file(self.path("big"), BIG, seed=1)
        random_file(self.path("small"), SMALL, seed=2)
        self.big, self.small = (_content(self.path(name)) for name in ("big", "small"))
        return self

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    async def trial(self, place: Place) -> Seen:
        """One cell."""
        async with self.patient if place.kind.slow else self.quick:
            data = self.small if place.op == "put" else self.big
            before = b"the old object" if place.seed == 3 or place.op in ("abort", "head") else None
            expected = Expected(KEY, data, before)
            directory = self.path(place.name.replace(" ", "_"))
            async with Trial(place.name, directory, [expected], CHECKSUMS[place.seed % 3]) as trial:
                return await self._run(trial, place, expected)

    async def _run(self, trial: Trial, place: Place, expected: Expected) -> Seen:
        if expected.before is not None:
            trial.judge.put(KEY, expected.before)
        args = self._command(place.op)
        if place.op in ("copy", "part_copy"):
            trial.judge.put("source", self.big, CHUNK)
        if place.op in ("list_parts", "abort"):
            refused = Cell(place.seed, "expired", "part", KEY, times=1, part=2)
            if (await trial.runs(self._command("part"), refused, 60.0)).status == 0:
                trial.wrong.append("the upload that is to be resumed was not interrupted")
        ended = await trial.runs(args, place.schedule(), place.deadline)
        if place.kind.passing and ended.status != 0:
            trial.wrong.append(f"not survived: exit {ended.status}: {ended.said.strip()[-300:]}")
        if not trial.judge.log.hits[place.kind.name, place.op]:
            trial.wrong.append("the fault never struck")
        await trial.recovers(args, ended, 90.0)
        return trial.seen(ended)

    def _command(self, op: str) -> list[str]:
        if op in ("copy", "part_copy"):
            return ["copy", "source", KEY, str(BIG), "whole" if op == "copy" else "parts"]
        more = ["--restart"] if op == "abort" else []
        return ["upload", "--chunk-size", str(CHUNK), *more, self.path("small" if op == "put" else "big"), f"s3://bucket/{KEY}"]


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


async def tried(wanted: Sequence[Place]) -> list[Seen]:
    """All of them, many at a time."""
    directory = tempfile.mkdtemp(prefix="jettyctl-faults-")
    try:
        lab = Lab(directory).prepare()
        return list(await asyncio.gather(*(lab.trial(place) for place in wanted)))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def run(wanted: Sequence[Place]) -> list[Seen]:
    """The same, from where there is no event loop."""
    return asyncio.run(tried(wanted))


def figures() -> list[Figure]:
    """The rows of the report."""
    wanted = places()
    return list(_figures(wanted, run(wanted)))


def _figures(wanted: Sequence[Place], seen: Sequence[Seen]) -> Iterator[Figure]:
    hits: Counter[tuple[str, str]] = Counter()
    for item in seen:
        hits.update(item.hits)
    cells = sorted({(place.kind.name, place.op) for place in wanted})
    covered = [cell for cell in cells if hits[cell] >= len(SEEDS)]
    operations = len({op for _, op in cells})
    got = f"{len(covered)} of {len(cells)} ({len(KINDS)} kinds, {operations} operations)"
    missing = tuple(f"{kind} x {op}" for kind, op in cells if (kind, op) not in covered)
    yield Figure("Fault kinds x operations covered", "100 %, each >= 3 seeds", got, not missing, missing)
    wrong = tuple(problem for item in seen for problem in item.wrong)
    survived = sum(item.status == 0 for item in seen)
    got = f"{len(seen)} runs: {survived} survived, {len(seen) - survived} failed cleanly; {len(wrong)} violations"
    yield Figure("Invariants I1-I9 in every cell of the matrix", "0 violations", got, not wrong, wrong)
    yield from _stalls([stall for item in seen for stall in item.stalls])


def _stalls(stalls: Sequence[tuple[str, str, float]]) -> Iterator[Figure]:
    for name, limit, kinds, long_wait in (
        ("Stall found", STALL, ("black-hole", "withheld-reply"), False),
        ("Trickle found", TRICKLE, ("trickle",), False),
        ("Stall or trickle found while a store assembles an object", ASSEMBLY, ("black-hole", "withheld-reply", "trickle"), True),
    ):
        found = [seconds for kind, op, seconds in stalls if kind in kinds and (op in LONG_WAIT) == long_wait]
        longest = max(found, default=0.0)
        yield Figure(name, f"<= {limit:.0f} s", f"{longest:.0f} s, longest of {len(found)}", bool(found) and longest <= limit)

"""Files that change while they are sent: written in place with their time put back, cut, grown, replaced, touched.

The moment is a request, and a seeded few milliseconds after it: an upload is disturbed at the same step of its work on a
quick machine and on a slow one. Whatever the object is afterwards, the file must have been just that, whole, at one moment;
otherwise the run says that the source changed. The same command afterwards uploads the file as it is then.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.faults.figures import Figure
from tests.faults.running import Ended, run
from tests.faults.trial import MIB
from tests.support.judge import Judge, Strike
from tests.support.judge.faults import Quiet, draw
from tests.support.judge.shelf import Stored
from tests.support.running import clean_environment, random_file

COUNT = 300
AT_ONCE = 4
CHUNK = 5 * MIB
BIG, SMALL = 2 * CHUNK + 70_000, 150_000  # bytes: three parts, and one request
LONGEST_DELAY = 60  # milliseconds
DEADLINE = 90.0  # seconds
KEY = "key"
CLEAN = frozenset({0, 8})  # what a run may end with; also with 1, if its file may not be read any more
MOMENTS = ("head", "create", "part-1", "part-2", "part-3", "complete")  # of a file in parts


@dataclass(slots=True)
class Victim:
    """A file, its content now, and every content that it had, whole."""

    path: str
    content: bytes
    lived: list[bytes] = field(default_factory=list)

    def becomes(self, content: bytes) -> None:
        """The file has just been changed to this."""
        self.content = content
        self.lived.append(content)

    def whole(self, stored: Stored | None) -> bool:
        """Whether there is no object, or one that the file was at one moment."""
        return stored is None or any(stored.holds(content) for content in self.lived)


Mutation = Callable[[Victim, int], None]  # the number decides where, and what


def _written(victim: Victim, seed: int) -> None:
    """Three writes, first and last part among them, each with the time put back."""
    before = os.stat(victim.path)
    for number, share in enumerate((0.9, 0.5, 0.05)):
        offset = int(len(victim.content) * share)
        data = draw(seed, "write", number).to_bytes(8, "big") * 16
        with open(victim.path, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), data, offset)
        os.utime(victim.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        victim.becomes(victim.content[:offset] + data + victim.content[offset + len(data) :])


def _byte_flipped(victim: Victim, seed: int) -> None:
    """One byte, and the time put back: nothing but a hash of all bytes, or the inode's own time, can tell."""
    before, offset = os.stat(victim.path), draw(seed, "byte") % len(victim.content)
    flipped = bytes([victim.content[offset] ^ 1])
    with open(victim.path, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), flipped, offset)
    os.utime(victim.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    victim.becomes(victim.content[:offset] + flipped + victim.content[offset + 1 :])


def _truncated(victim: Victim, seed: int) -> None:
    size = draw(seed, "size") % len(victim.content)
    os.truncate(victim.path, size)
    victim.becomes(victim.content[:size])


def _grown(victim: Victim, seed: int) -> None:
    more = draw(seed, "more").to_bytes(8, "big") * 4096
    with open(victim.path, "ab", buffering=0) as file:
        file.write(more)
    victim.becomes(victim.content + more)


def _replaced(victim: Victim, seed: int) -> None:
    """Another file of the same size and time takes the name."""
    other, before = victim.path + ".new", os.stat(victim.path)
    random_file(other, len(victim.content), seed)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    with open(other, "rb") as file:
        content = file.read()
    os.replace(other, victim.path)
    victim.becomes(content)


def _rewritten(victim: Victim, seed: int) -> None:
    """As an editor without care saves: emptied, then written."""
    content = draw(seed, "again").to_bytes(8, "big") * (len(victim.content) // 8)
    with open(victim.path, "wb", buffering=0) as file:
        victim.becomes(b"")
        file.write(content)
    victim.becomes(content)


def _chmod(victim: Victim, seed: int) -> None:
    os.chmod(victim.path, 0)


def _touched(victim: Victim, seed: int) -> None:
    os.utime(victim.path)


MUTATIONS: dict[str, Mutation] = {
    "write": _written,
    "flip": _byte_flipped,
    "truncate": _truncated,
    "grow": _grown,
    "rename": _replaced,
    "rewrite": _rewritten,
    "chmod": _chmod,
    "touch": _touched,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed stands for."""

    seed: int

    @property
    def mutation(self) -> str:
        return tuple(MUTATIONS)[self.seed % len(MUTATIONS)]

    @property
    def small(self) -> bool:
        """Whether the file goes in one request. It has two moments: before it, and in it."""
        return draw(self.seed, "small") % 4 == 0

    @property
    def moment(self) -> str:
        moments = ("head", "put") if self.small else MOMENTS
        return moments[draw(self.seed, "moment") % len(moments)]

    @property
    def delay(self) -> float:
        """In seconds."""
        return draw(self.seed, "delay") % LONGEST_DELAY / 1000

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.mutation} {self.delay * 1000:.0f} ms after {self.moment}"


@dataclass(slots=True)
class Meddler:
    """A schedule without faults; it changes the file once, at its moment."""

    plan: Plan
    victim: Victim
    done: bool = False
    task: asyncio.TimerHandle | None = None

    def decide(self, op: str, key: str, part: int | None, attempt: int) -> Strike | None:
        moment = op if part is None else f"{op}-{part}"
        if moment == self.plan.moment and self.task is None:
            self.task = asyncio.get_running_loop().call_later(self.plan.delay, self.meddle)
        return None

    def meddle(self) -> None:
        """Change the file, if it was not changed already."""
        if not self.done:
            self.done = True
            MUTATIONS[self.plan.mutation](self.victim, self.plan.seed)


@dataclass(frozen=True, slots=True)
class Race:
    """How one ended. `struck`: the file changed before the run had ended."""

    plan: Plan
    status: int | None
    struck: bool
    wrong: tuple[str, ...]


async def _race(plan: Plan, directory: str) -> Race:
    os.makedirs(directory)
    path = os.path.join(directory, "file")
    random_file(path, SMALL if plan.small else BIG, plan.seed)
    with open(path, "rb") as file:
        content = file.read()
    victim = Victim(path, content, [content])
    meddler = Meddler(plan, victim)
    judge = await Judge(schedule=meddler).open()
    try:
        if plan.seed % 2:
            judge.put(KEY, b"the old object")  # makes the client look first, and never turns into a mixture
            victim.lived.append(b"the old object")
        env = {**clean_environment(os.path.join(directory, "home")), **judge.env}
        env["JETTY_DATA_DIR"] = os.path.join(directory, "data")
        args = ["upload", "--chunk-size", str(CHUNK), path, f"s3://bucket/{KEY}"]
        ended = await run(args, env, os.path.join(directory, "run"), DEADLINE)
        struck = meddler.done
        wrong = [*_problems(victim, judge, ended)]
        meddler.meddle()
        os.chmod(path, 0o600)
        judge.schedule = Quiet()
        again = await run(args, env, os.path.join(directory, "run"), DEADLINE)
        stored = judge.shelf.objects.get(KEY)
        if again.status != 0 or stored is None or not stored.holds(victim.content):
            wrong.append(f"afterwards: exit {again.status}, not the file as it is: {again.said.strip()[-300:]}")
    finally:
        await judge.shut()
        shutil.rmtree(directory, ignore_errors=True)
    return Race(plan, ended.status, struck, tuple(f"{plan}: {problem}" for problem in wrong))


def _problems(victim: Victim, judge: Judge, ended: Ended) -> Iterator[str]:
    stored = judge.shelf.objects.get(KEY)
    if not victim.whole(stored):
        yield f"exit {ended.status}, and the object is a mixture"
    clean = CLEAN | {1} if os.stat(victim.path).st_mode & 0o777 == 0 else CLEAN
    if ended.status not in clean or "Traceback" in ended.said:
        yield f"no clean end: exit {ended.status}: {ended.said.strip()[-500:]}"
    elif ended.status and "jettyctl: " not in ended.said:
        yield f"exit {ended.status} without a reason"
    if ended.status == 0 and (stored is None or stored.holds(b"the old object")):
        yield "exit 0, and nothing was stored"


async def _races(seeds: Sequence[int]) -> list[Race]:
    directory = tempfile.mkdtemp(prefix="jettyctl-mutations-")
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> Race:
        async with gate:
            return await _race(Plan(seed), os.path.join(directory, str(seed)))

    try:
        return list(await asyncio.gather(*map(one, seeds)))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def races(seeds: Sequence[int]) -> list[Race]:
    """One race for each seed."""
    return asyncio.run(_races(seeds))


def figures() -> list[Figure]:
    """The rows of the report."""
    seen = races(range(COUNT))
    wrong = tuple(problem for race in seen for problem in race.wrong)
    statuses = Counter(race.status for race in seen)
    ends = ", ".join(f"exit {status}: {count}" for status, count in sorted(statuses.items(), key=str))
    got = f"{sum(race.struck for race in seen)} struck of {len(seen)} ({ends}); {len(wrong)} wrong"
    goal = f"{COUNT} races, 0 mixed objects"
    return [Figure("File-mutation races", goal, got, not wrong and len(seen) == COUNT, wrong)]

"""Several processes that want one session: one owns it, the others are told so and write nothing, whoever sleeps or dies.

The first is stopped at a seeded moment of its work (SIGSTOP: it keeps its lock, its sockets and what it was about to say), and
woken or killed while others run the same command. A lock of the kernel does not expire: who is stopped is not overtaken, and
who is dead is succeeded by one of those who come. Requests are told apart by the keys that sign them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.faults.figures import Figure
from tests.faults.running import Ended, run
from tests.faults.trial import MIB, Expected, Trial
from tests.support.judge import Strike
from tests.support.judge.faults import Quiet, draw
from tests.support.judge.signature import Key
from tests.support.running import random_file
from tests.support.servers import SECRET_KEY

COUNT = 200
AT_ONCE = 4
CHUNK, PARTS = 5 * MIB, 4
SIZE = (PARTS - 1) * CHUNK + 54_321  # bytes
DEADLINE = 60.0  # seconds
LONGEST_DELAY = 80  # milliseconds
KEY = "key"
BUSY = 75  # exit status
KINDS = ("refused", "woken", "killed", "heirs")
MOMENTS = ("head", "create", "part-1", "part-2", "part-3", "part-4", "complete")
NAMES = ("AKIAFIRST", "AKIASECOND", "AKIATHIRD", "AKIAFOURTH")
WRITES = frozenset({"create", "part", "complete", "abort", "put"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed stands for.

    `refused`: another comes while the first is stopped, which then goes on. `woken`: two come, and the first wakes up among
    them. `killed`: the first dies in its sleep after another was refused, and two come. `heirs`: it dies, and three come.
    """

    seed: int

    @property
    def kind(self) -> str:
        return KINDS[self.seed % len(KINDS)]

    @property
    def moment(self) -> str:
        return MOMENTS[draw(self.seed, "moment") % len(MOMENTS)]

    def delay(self, what: str) -> float:
        """In seconds."""
        return draw(self.seed, what) % LONGEST_DELAY / 1000

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.kind}, {self.delay('stop') * 1000:.0f} ms after {self.moment}"


@dataclass(slots=True)
class Lullaby:
    """A schedule without faults; it stops a process at the plan's moment. `over` is set then."""

    plan: Plan
    pid: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def decide(self, op: str, key: str, part: int | None, attempt: int) -> Strike | None:
        if (op if part is None else f"{op}-{part}") == self.plan.moment:
            asyncio.get_running_loop().call_later(self.plan.delay("stop"), self.stop)
        return None

    def stop(self) -> None:
        if self.pid and not self.over.is_set():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, signal.SIGSTOP)
                self.over.set()

    def born(self, pid: int) -> None:
        self.pid = pid


@dataclass(slots=True)
class Rivalry(Trial):
    """One race. `ends` says how each of the processes ended, in the order of their keys."""

    plan: Plan = field(kw_only=True)
    args: Sequence[str] = field(kw_only=True)
    ends: list[tuple[str, Ended]] = field(default_factory=list)
    struck: bool = False

    async def race(self) -> None:
        """From the first process to the last, and what can be said of it all."""
        lullaby = Lullaby(self.plan)
        self.judge.schedule = lullaby
        first = asyncio.create_task(run(self.args, self._env(0), self._directory(0), DEADLINE, lullaby.born))
        stopped = asyncio.create_task(lullaby.over.wait())
        await asyncio.wait({first, stopped}, return_when=asyncio.FIRST_COMPLETED)
        lullaby.pid, pid = 0, lullaby.pid
        self.struck = lullaby.over.is_set()
        stopped.cancel()
        self.judge.schedule = Quiet()
        if self.struck:
            await self._others(first, pid)
        self.ends.append((NAMES[0], await first))
        await self._check()

    async def _others(self, first: asyncio.Task[Ended], pid: int) -> None:
        def tell(number: int) -> None:
            if not first.done():  # it was stopped when it had done its work, and ended with that
                os.kill(pid, number)

        if self.plan.kind in ("refused", "killed"):
            await self._come(1)
        if self.plan.kind == "woken":
            coming = asyncio.create_task(self._come(1, 2))
            await asyncio.sleep(20 * self.plan.delay("wake"))
            tell(signal.SIGCONT)
            await coming
        elif self.plan.kind == "refused":
            tell(signal.SIGCONT)
        else:
            tell(signal.SIGKILL)
            await self._come(*((2, 3) if self.plan.kind == "killed" else (1, 2, 3)))

    async def _come(self, *numbers: int) -> None:
        runs = (run(self.args, self._env(number), self._directory(number), DEADLINE) for number in numbers)
        self.ends += zip((NAMES[number] for number in numbers), await asyncio.gather(*runs), strict=True)

    def _env(self, number: int) -> dict[str, str]:
        return {**self.env, "AWS_ACCESS_KEY_ID": NAMES[number]}

    def _directory(self, number: int) -> str:
        return os.path.join(self.directory, NAMES[number])

    async def _check(self) -> None:
        count = len(self.judge.log.entries)
        await asyncio.sleep(0.1)
        if len(self.judge.log.entries) > count:
            self.wrong.append("I5: a request after the last exit")
        dead = self.plan.kind in ("killed", "heirs") and self.struck
        for name, ended in self.ends:
            if not (name == NAMES[0] and dead and ended.status == -signal.SIGKILL):
                self.wrong += self._end(name, ended)
        done = [ended for _, ended in self.ends if ended.status == 0]
        if not done:
            self.wrong.append(f"nobody did it: {[(ended.status, ended.said.strip()[-200:]) for _, ended in self.ends]}")
        for ended in done[-1:]:
            self._check_objects(ended)
        self._check_requests()
        completed = Counter(entry.upload_id for entry in self.judge.log.of("complete", KEY) if entry.applied)
        self.wrong += [f"an upload was completed {times} times" for times in completed.values() if times > 1]

    def _end(self, name: str, ended: Ended) -> Iterator[str]:
        said = ended.said.strip()
        if ended.status not in (0, BUSY) or "Traceback" in said:
            yield f"{name}: exit {ended.status}: {said[-300:]}"
        if ended.status == BUSY:
            if not any(words in said for words in ("held by", "is locked")) or len(said.splitlines()) != 1:
                yield f"{name} is not told in a line who works on it: {said[-300:]}"
            if wrote := [entry.op for entry in self.judge.log.entries if entry.who == name and entry.op in WRITES]:
                yield f"{name} was refused, and wrote: {', '.join(wrote)}"


async def _races(seeds: Sequence[int]) -> list[Rivalry]:
    directory = tempfile.mkdtemp(prefix="jettyctl-rivals-")
    gate = asyncio.Semaphore(AT_ONCE)
    path = os.path.join(directory, "file")
    random_file(path, SIZE, seed=4)
    with open(path, "rb") as file:
        expected = [Expected(KEY, file.read())]

    async def one(seed: int) -> Rivalry:
        plan, keys = Plan(seed), {name: Key(SECRET_KEY) for name in NAMES}
        threads = str(1 + draw(seed, "threads") % 4)
        args = ["upload", "-q", "--threads", threads, "--chunk-size", str(CHUNK), path, f"s3://bucket/{KEY}"]
        rivalry = Rivalry(str(plan), os.path.join(directory, str(seed)), expected, keys=keys, plan=plan, args=args)
        async with gate, rivalry:
            await rivalry.race()
        return rivalry

    try:
        return list(await asyncio.gather(*map(one, seeds)))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def races(seeds: Sequence[int]) -> list[Rivalry]:
    """One race for each seed."""
    return asyncio.run(_races(seeds))


def figures() -> list[Figure]:
    """The rows of the report."""
    seen = races(range(COUNT))
    wrong = tuple(f"{race.name}: {problem}" for race in seen for problem in race.wrong)
    others = Counter(ended.status for race in seen for name, ended in race.ends if name != NAMES[0])
    came = f"{others[BUSY]} of {others.total()} who came were refused"
    got = f"{sum(race.struck for race in seen)} struck of {len(seen)}; {came}; {len(wrong)} violations"
    goal = f"{COUNT} races; 0 double Completes, 0 writes of who is refused"
    return [Figure("Processes that want one session, its owner stopped or killed", goal, got, not wrong, wrong[:20])]

"""Storms: batches of 120 small files and one in parts, each under a seed and a rate of faults of its own.

The first half of the seeds has kinds that pass: up to a rate of 20 % practically every upload succeeds. The other half has all
kinds, so that a run may fail: cleanly, and the same command does it once the storm is over.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.faults.figures import Figure
from tests.faults.regressions import SEEDS as FAILED_BEFORE
from tests.faults.trial import MIB, Expected, Seen, Trial
from tests.support.judge import KINDS, PROFILES, Storm
from tests.support.judge.faults import draw
from tests.support.running import random_file

COUNT = 500
FILES = 120
CHUNK = 5 * MIB
LARGEST_SMALL = 6_000  # bytes
DEADLINE = 240.0  # seconds; a few stalls of 30 s or trickles of a minute one after another are possible
AT_ONCE = 32
LOW, HIGH = 0.05, 0.30
RARELY = 0.01
CALM = 0.20  # up to this rate practically all uploads succeed
GOAL = 0.999
PASSING = tuple(kind.name for kind in KINDS.values() if kind.passing)
CHECKSUMS = ("crc64nvme", "md5", "sha256")


@dataclass(frozen=True, slots=True)
class Weather:
    """What a seed stands for."""

    seed: int
    rarely: float  # how much rarer than others the faults are that take a client's whole patience

    @property
    def passing(self) -> bool:
        """Whether only faults come that pass."""
        return self.seed % 2 == 0

    @property
    def rate(self) -> float:
        """The share of requests that are struck."""
        return LOW + (HIGH - LOW) * (draw(self.seed, "rate") % 1000) / 1000

    def storm(self) -> Storm:
        return Storm(self.seed, self.rate, PASSING if self.passing else tuple(KINDS), self.rarely)


async def tried(seeds: Sequence[int], rarely: float = RARELY) -> list[Seen]:
    """All of them, some at a time."""
    directory = tempfile.mkdtemp(prefix="jettyctl-storms-")
    try:
        source = os.path.join(directory, "source")
        files = _files(source)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(seed: int) -> Seen:
            async with gate:
                return await _storm(Weather(seed, rarely), directory, source, files)

        return list(await asyncio.gather(*map(one, seeds)))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _storm(weather: Weather, directory: str, source: str, files: dict[str, bytes]) -> Seen:
    old = {name: b"old" for name in files if draw(weather.seed, name) % 4 == 0}
    expected = [Expected(name, data, old.get(name)) for name, data in files.items()]
    profile = sorted(PROFILES)[weather.seed % len(PROFILES)]
    checksum = CHECKSUMS[weather.seed % 3] if profile in ("aws", "minio") else "md5"
    name = f"seed {weather.seed} at {weather.rate:.0%}"
    async with Trial(name, os.path.join(directory, str(weather.seed)), expected, checksum, profile) as trial:
        for key, data in old.items():
            trial.judge.put(key, data)
        args = ["upload", "-r", "--chunk-size", str(CHUNK), source, "s3://bucket/"]
        ended = await trial.runs(args, weather.storm(), DEADLINE)
        seen = trial.seen(ended)
        await trial.recovers(args, ended, DEADLINE)
        return trial.seen(ended) if len(trial.wrong) > len(seen.wrong) else seen


def _files(directory: str) -> dict[str, bytes]:
    """Write the files; name and content of each."""
    os.makedirs(directory)
    sizes = {f"small-{number:03}": draw(number, "size") % LARGEST_SMALL for number in range(FILES)}
    found = {}
    for number, (name, size) in enumerate({**sizes, "in-parts": CHUNK + 70_000}.items()):
        path = os.path.join(directory, name)
        random_file(path, size, seed=number)
        with open(path, "rb") as file:
            found[name] = file.read()
    return found


@functools.cache
def storms(count: int, rarely: float = RARELY) -> list[Seen]:
    """The seeds that failed before, and as many others."""
    seeds = [*FAILED_BEFORE, *(seed for seed in range(count) if seed not in FAILED_BEFORE)][:count]
    return asyncio.run(tried(seeds, rarely))


def figures() -> list[Figure]:
    """The rows of the report."""
    return list(_figures(storms(COUNT)))


def _figures(seen: Sequence[Seen]) -> Iterator[Figure]:
    wrong = tuple(problem for item in seen for problem in item.wrong)
    done = sum(item.status == 0 for item in seen)
    got = f"{len(seen)} runs of {FILES + 1} files: {done} complete, {len(seen) - done} failed cleanly; {len(wrong)} violations"
    yield Figure("Seeded fault uploads at 5-30 %", f"{COUNT}, 0 violations of I1-I9", got, not wrong, wrong)
    calm = [item for item in seen if _calm(item)]
    files = (FILES + 1) * len(calm)
    failed = sum(_failures(item) for item in calm)
    share = 1 - failed / files if files else 0.0
    got = f"{share:.3%} of {files} uploads"
    yield Figure("Complete at <= 20 % passing faults", f">= {GOAL:.1%}", got, share >= GOAL, _reasons(calm))
    hits: Counter[tuple[str, str]] = Counter()
    for item in seen:
        hits.update(item.hits)
    total = hits.total()
    false = sum("I1" in problem or "I2" in problem for problem in wrong)
    got = f"{total}; {false} corrupt objects or false successes"
    yield Figure("Faults injected and survived in storms", ">= 10,000; 0 corrupt, 0 false", got, total >= 10_000 and not false)


def _calm(item: Seen) -> bool:
    weather = Weather(int(item.name.split()[1]), RARELY)
    return weather.passing and weather.rate <= CALM


def _failures(item: Seen) -> int:
    """How many files of a batch were not uploaded."""
    return 0 if item.status == 0 else max(1, item.said.count("jettyctl: /"))


def _reasons(calm: Sequence[Seen]) -> tuple[str, ...]:
    return tuple(f"{item.name}: exit {item.status}: {item.said.strip()[-200:]}" for item in calm if item.status != 0)

"""Small boxes: few descriptors, little memory, and a clock that jumps by an hour in the middle of an upload."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.faults.figures import Figure
from tests.faults.trial import MIB, Expected, Seen, Trial
from tests.support.judge import Strike
from tests.support.judge.faults import draw
from tests.support.running import random_file

FILES, MEMORY = "64", str(256 * MIB)  # descriptors; bytes of address space beyond those at the start
SMALL, SMALL_SIZE = 300, 3_000  # files; bytes
LARGE = (60 * MIB + 123, 20 * MIB)  # bytes
THREADS = ("1", "16", "64")
JUMPS = 20
HOUR = 3_600  # seconds
CHUNK, PARTS = 5 * MIB, 5
DEADLINE = 60.0  # seconds
KEY = "key"
MOMENTS = ("head", "create", "part-1", "part-3", "part-5", "complete")

# Between a run and the kernel: the time of day is so many seconds ahead as a file says; the monotonic clock is not touched.
CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long *ahead;
__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("CLOCK_AHEAD"), O_RDONLY);
    void *page = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) abort();
    ahead = page;
    close(fd);
}
int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, id, at);
    if (!failed && ahead && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += *ahead;
    return failed;
}
int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


@dataclass(slots=True)
class Clock:
    """A schedule without faults: a client's time of day jumps at one moment, and with half of the seeds back at a later one.

    `skewed` counts the requests that the store then refused, by its own clock.
    """

    seed: int
    path: str
    jumps: int = 0
    skewed: int = 0
    _moments: list[str] = field(init=False)

    def __post_init__(self) -> None:
        first = draw(self.seed, "moment") % len(MOMENTS)
        self._moments = [MOMENTS[first], *MOMENTS[first + 1 :][: self.seed // 2 % 2]]
        self.set(0)

    def set(self, seconds: int) -> None:
        """Of now on, the clock is so much ahead of what it should be."""
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb", buffering=0) as file:
            os.pwrite(file.fileno(), seconds.to_bytes(8, "little", signed=True), 0)

    def decide(self, op: str, key: str, part: int | None, attempt: int) -> Strike | None:
        if self._moments and (op if part is None else f"{op}-{part}") == self._moments[0]:
            self._moments.pop(0)
            self.jumps += 1
            self.set(0 if self.jumps > 1 else HOUR if self.seed % 2 else -HOUR)
        return None


@functools.cache
def compiler() -> str | None:
    """What makes the clock; None where there is none."""
    return shutil.which("cc") or shutil.which("gcc")


async def boxed(directory: str, limits: Iterable[tuple[str, str]], threads: Sequence[str] = THREADS) -> list[Seen]:
    """A batch of small and large files in each box, with few and many threads."""
    source = os.path.join(directory, "source")
    os.makedirs(source)
    sizes = {**{f"small-{number:03}": SMALL_SIZE for number in range(SMALL)}, **{f"large-{size}": size for size in LARGE}}
    expected = []
    for seed, (name, size) in enumerate(sizes.items()):
        path = os.path.join(source, name)
        random_file(path, size, seed)
        with open(path, "rb") as file:
            expected.append(Expected(name, file.read()))
    seen = []
    for what, limit in limits:
        for count in threads:
            async with Trial(f"{what} {limit}, {count} threads", os.path.join(directory, "trial"), expected) as trial:
                args = ["limited", what, limit, "upload", "-q", "-r", "--threads", count, source, "s3://bucket/"]
                ended = await trial.runs(args, None, DEADLINE)
                if ended.status != 0:
                    trial.wrong.append(f"exit {ended.status}: {ended.said.strip()[-300:]}")
                seen.append(trial.seen(ended))
    return seen


async def jumped(directory: str, seeds: Iterable[int]) -> list[tuple[Clock, Seen]]:
    """An upload for each seed, whose clock jumps."""
    found, path, library = [], os.path.join(directory, "file"), os.path.join(directory, "clock.so")
    random_file(path, (PARTS - 1) * CHUNK + 54_321, seed=5)
    with open(path, "rb") as file:
        expected = [Expected(KEY, file.read())]
    built = [compiler() or "cc", "-shared", "-fPIC", "-O", "-x", "c", "-o", library, "-"]
    subprocess.run(built, input=CLOCK, text=True, check=True)
    for seed in seeds:
        async with Trial(f"seed {seed}", os.path.join(directory, "trial"), expected) as trial:
            clock = Clock(seed, os.path.join(directory, "ahead"))
            trial.env |= {"LD_PRELOAD": library, "CLOCK_AHEAD": clock.path}
            threads = str(1 + draw(seed, "threads") % 3)
            args = ["afresh", "upload", "-q", "--threads", threads, "--chunk-size", str(CHUNK), path, f"s3://bucket/{KEY}"]
            ended = await trial.runs(args, clock, DEADLINE)
            if ended.status != 0:
                trial.wrong.append(f"exit {ended.status}: {ended.said.strip()[-300:]}")
            clock.skewed = sum(entry.code == "RequestTimeTooSkewed" for entry in trial.judge.log.entries)
            if not clock.skewed:
                trial.wrong.append("the clock did not jump")
            found.append((clock, trial.seen(ended)))
    return found


def figures() -> list[Figure]:
    """The rows of the report."""
    directory = tempfile.mkdtemp(prefix="jettyctl-boxes-")
    try:
        files = asyncio.run(boxed(os.path.join(directory, "files"), [("files", FILES)]))
        memory = asyncio.run(boxed(os.path.join(directory, "memory"), [("memory", MEMORY)]))
        return [
            _boxed(f"Uploads with `ulimit -n {FILES}`", files),
            _boxed("Uploads with 256 MiB of address space", memory),
            _jumps(directory),
        ]
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _boxed(name: str, seen: Sequence[Seen]) -> Figure:
    wrong = tuple(problem for item in seen for problem in item.wrong)
    peak = max(item.peak for item in seen) // MIB
    threads = f"{THREADS[0]} to {THREADS[-1]} threads"
    got = f"{len(seen)} runs of {SMALL + len(LARGE)} files, {threads}, {peak} MiB at most in use; {len(wrong)} violations"
    return Figure(name, "done, 0 violations", got, not wrong, wrong)


def _jumps(directory: str) -> Figure:
    name, goal = "Clock jumps by an hour during an upload", f"{JUMPS} uploads done, 0 violations"
    if compiler() is None:
        return Figure(name, goal, "left out: there is no C compiler", ok=True)
    found = asyncio.run(jumped(directory, range(JUMPS)))
    wrong = tuple(problem for _, item in found for problem in item.wrong)
    jumps, skewed = (sum(getattr(clock, name) for clock, _ in found) for name in ("jumps", "skewed"))
    got = f"{len(found)} uploads, {jumps} jumps, {skewed} requests refused for their time; {len(wrong)} violations"
    return Figure(name, goal, got, not wrong, wrong)

"""jettyctl as a process, by the hundred: forked from a server that has imported it already, so that a run costs what it does
and not what Python's start costs. A run has an environment, a directory, descriptors and an exit status of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PRELOADED = [
    "awscrt.auth",
    "awscrt.checksums",
    "jettyctl.cli.app",
    "jettyctl.cli.upload",
    "jettyctl.control.service",
    "jettyctl.engine.multipart",
    "jettyctl.storage.s3.client",
    "jettyctl.wiring",
    "tests.faults.copying",
    "tests.faults.running",
    "tests.faults.tracing",
    "tests.faults.writing",
]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. `status` is None for one that had to be killed at its deadline; `peak` is its memory in bytes."""

    status: int | None
    said: str
    seconds: float
    at: float
    peak: int


def context() -> multiprocessing.context.ForkServerContext:
    """The server that runs are forked from; it lives as long as this process."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


async def run(
    args: Sequence[str], env: Mapping[str, str], directory: str, deadline: float, born: Callable[[int], None] = lambda pid: None
) -> Ended:
    """One run from begin to end; cancelled, it is killed. `born` is told its process id.

    `copy` as the first word of `args` is `tests.faults.copying`, `write` is `tests.faults.writing`. Others have another run
    behind them: `traced` is `tests.faults.tracing`; `limited` is followed by `files`, how many may be open, or `memory`, how
    many bytes of address space there are beyond those in use at the start; `afresh` is a new Python, as LD_PRELOAD needs it.
    """
    os.makedirs(directory, exist_ok=True)
    began = time.monotonic()
    process = context().Process(target=_child, args=(list(args), dict(env), directory), daemon=True)
    process.start()
    assert process.pid
    born(process.pid)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), deadline)
    finally:
        at, killed = time.monotonic(), not ended.is_set()
        loop.remove_reader(process.sentinel)
        if killed:
            process.kill()
        process.join()
        status = None if killed else process.exitcode
        process.close()
    return Ended(status, _read(directory, "said"), at - began, at, _peak(directory))


def _read(directory: str, name: str) -> str:
    try:
        with open(os.path.join(directory, name), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _peak(directory: str) -> int:
    text = _read(directory, "peak")
    return int(json.loads(text)) if text else 0


def _child(args: list[str], env: dict[str, str], directory: str) -> None:
    """In the forked process."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(directory)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if args[0] == "traced":
        from tests.faults.tracing import attach

        args = attach(args)
    if args[0] == "limited":
        args = _limit(args)
    if args[0] == "afresh":
        os.execve(sys.executable, [sys.executable, "-m", "jettyctl", *args[1:]], env)
    sys.argv = ["jettyctl", *args]
    status = _main(args)
    with open("peak", "w", encoding="ascii") as file:
        json.dump(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file)
    sys.exit(status)


def _limit(args: list[str]) -> list[str]:
    """Make the box of this process small. What is left of its arguments."""
    what, limit, kind = args[1], int(args[2]), resource.RLIMIT_NOFILE
    if what == "memory":
        with open("/proc/self/statm", encoding="ascii") as file:
            limit += int(file.read().split()[0]) * resource.getpagesize()
        kind = resource.RLIMIT_AS
    resource.setrlimit(kind, (limit, limit))
    return args[3:]


def _main(args: list[str]) -> int:
    if args[0] == "copy":
        from tests.faults.copying import copy

        return copy(*args[1:])
    if args[0] == "write":
        from tests.faults.writing import write

        return write(*args[1:])
    from jettyctl.__main__ import main

    return main()

"""strace on a run of its own: a system call is its last one, or fails, and what it calls is written down.

A run takes strace's hands on itself and goes on then, so that neither Python's start is traced nor its calls are counted.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

TRACE = "trace"  # in the directory of the run
PATIENCE = 10.0  # seconds
PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)


@functools.cache
def why_not() -> str | None:
    """Why nothing can be traced here; None if it can."""
    if (strace := shutil.which("strace")) is None:
        return "there is no strace"
    probe = [strace, "-qq", "-o", os.devnull, "-e", "inject=getpid:error=EIO", "true"]
    done = subprocess.run(probe, capture_output=True, text=True)
    return None if done.returncode == 0 else f"strace does not work here: {done.stderr.strip()[-100:]}"


def killing(call: str, number: int) -> list[str]:
    """`number` counts from 1, for each thread: the first thread that gets so far takes all with it."""
    return ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]


def failing(call: str, error: str, when: str) -> list[str]:
    """`when` as strace has it: `3` is the third call only, `3+` all from there on."""
    return ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]


def recording(calls: str) -> list[str]:
    """All bytes of each call, in hexadecimal."""
    return ["-e", f"trace={calls}", "-y", "-xx", "-s", "1000000"]


def traced(options: Sequence[str], args: Sequence[str]) -> list[str]:
    """The arguments of `running.run` for a run under strace."""
    return ["traced", str(len(options)), *options, *args]


def attach(args: list[str]) -> list[str]:
    """In the run: begin to trace it. What is left of its arguments."""
    count = int(args[1])
    options, rest = args[2 : 2 + count], args[2 + count :]
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)  # or Yama lets no child trace its parent
    command = ["strace", "-f", "-qq", "-o", TRACE, *options, "-p", str(os.getpid())]
    with open(os.devnull, "wb") as nowhere:
        quiet = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 2)]
        os.posix_spawnp(command[0], command, os.environ, file_actions=quiet)
    deadline = time.monotonic() + PATIENCE
    while not _is_traced():
        if time.monotonic() > deadline:
            sys.exit("strace may not trace its parent")
        time.sleep(0.001)
    time.sleep(0.002)
    return rest


def _is_traced() -> bool:
    with open("/proc/self/status", encoding="ascii") as file:
        return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in file)

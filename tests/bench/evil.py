"""`python -m tests.bench.evil`: what an evil edge costs. An upload over two healthy edges and a third that is killed,
frozen, lies, corrupts or crawls, as a multiple of the same upload without the third.

Everything is on loopback: what paces a route is a proxy with a rate, so the machine only has to keep up with their sum.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from tests.support.edge_process import EdgeProcess
from tests.support.evil_edges import Evil, EvilEdge, SlowDirect, corrupt, lie
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl, clean_environment, random_file
from tests.support.servers import MotoServer

MIB = 1 << 20
SIZE = 180 * MIB
DIRECT, HEALTHY = 4 * MIB, 8 * MIB  # bytes a second
STRIKE = 3.0  # seconds after its first part in which an edge is well
GOAL = 1.3

Strike = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Ground:
    """The store behind its slow direct route, and the healthy edges' addresses."""

    direct: SlowDirect
    edges: tuple[str, ...]
    file: str
    directory: str

    @property
    def host(self) -> Jettyctl:
        """Where servers run."""
        return Jettyctl(clean_environment(os.path.join(self.directory, "host")), self.directory)

    @contextmanager
    def real(self, rate: float, evil_signal: int | None = None) -> Iterator[tuple[RecordingProxy, Strike]]:
        """A real edge at a rate, and what befalls it."""
        with EdgeProcess(self.host, self.direct.endpoint, args=("--quiet",)) as edge:

            def strike() -> None:
                if evil_signal:
                    edge.process.send_signal(evil_signal)

            try:
                with RecordingProxy(f"http://127.0.0.1:{edge.port}", rate=rate) as way:
                    yield way, strike
            finally:
                edge.process.send_signal(signal.SIGCONT)

    @contextmanager
    def made(self, evil: Evil, honest: int = 0) -> Iterator[tuple[RecordingProxy, Strike]]:
        """An edge that is evil of itself, as fast as the healthy ones."""
        with EvilEdge(evil, honest) as edge, RecordingProxy(edge.endpoint, rate=HEALTHY) as way:
            yield way, lambda: None


KINDS: dict[str, Callable[[Ground], AbstractContextManager[tuple[RecordingProxy, Strike]]]] = {
    "killed": lambda ground: ground.real(HEALTHY, signal.SIGKILL),
    "frozen": lambda ground: ground.real(HEALTHY, signal.SIGSTOP),
    "liar": lambda ground: ground.made(lie),
    "late liar": lambda ground: ground.made(lie, honest=6),
    "corrupter": lambda ground: ground.made(corrupt),
    "50x slower": lambda ground: ground.real(HEALTHY / 50),
}


@contextmanager
def ground_of(directory: str) -> Iterator[Ground]:
    """Store, file, direct route and two healthy edges."""
    file = str(random_file(os.path.join(directory, "file"), SIZE))
    with ExitStack() as stack:
        direct = stack.enter_context(SlowDirect(stack.enter_context(MotoServer()), rate=DIRECT))
        ground = Ground(direct, (), file, directory)
        ways = [stack.enter_context(ground.real(HEALTHY))[0] for _ in range(2)]
        yield Ground(direct, tuple(way.endpoint for way in ways), file, directory)


def upload(ground: Ground, evil: tuple[RecordingProxy, Strike] | None, *, show: bool) -> float:
    """Seconds of one upload by a user who has never used these edges before."""
    with tempfile.TemporaryDirectory(dir=ground.directory) as home:
        user = Jettyctl(clean_environment(home), home)
        addresses = {f"good{number}": url for number, url in enumerate(ground.edges, 1)}
        if evil:
            addresses["evil"] = evil[0].endpoint
        for name, url in addresses.items():
            user("edges", "add", name, url, check=0)
        command = ("upload", "-v", "--json", "--no-progress", ground.file, f"s3://bucket/{os.path.basename(home)}")
        with user.start(*command, server=ground.direct, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            if evil:
                strike_in_the_middle(process, *evil)
            out, err = process.communicate(timeout=300)
    if process.returncode:
        raise RuntimeError(f"the upload failed: {out.decode()}{err.decode()}")
    lines = [json.loads(line) for line in out.splitlines()]
    if show:
        print("".join(f"    {line}\n" for line in [*err.decode().splitlines(), *lines[-1]["routes"]]), end="", flush=True)
    return float(next(line["seconds"] for line in lines if line["type"] == "result"))


def strike_in_the_middle(process: subprocess.Popen[bytes], way: RecordingProxy, strike: Strike) -> None:
    """Wait until the edge has been at work for a while, then let it have it."""
    while not any(request.body_bytes for request in list(way.requests) if request.op == "part"):
        if process.poll() is not None:
            return
        time.sleep(0.02)
    time.sleep(STRIKE)
    strike()


def main() -> int:
    """Measure and print the table; the exit status says whether the goal is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.evil", description=__doc__)
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="what each run said, and its route report")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, ground_of(directory) as ground:
        without = [upload(ground, None, show=options.show) for _ in range(options.runs)]
        base = median(without)
        print(f"{'without':12} {base:6.2f} s           runs {[round(seconds, 1) for seconds in without]}", flush=True)
        worst = 0.0
        for kind in options.kind or list(KINDS):
            seconds = [one_run(ground, kind, show=options.show) for _ in range(options.runs)]
            ratio = median(seconds) / base
            worst = max(worst, ratio)
            print(f"{kind:12} {median(seconds):6.2f} s  x {ratio:4.2f}   runs {[round(one, 1) for one in seconds]}", flush=True)
    print(f"at worst x {worst:.2f}; the goal is x {GOAL}")
    return 0 if worst <= GOAL else 1


def one_run(ground: Ground, kind: str, *, show: bool) -> float:
    """Seconds of an upload with an edge of a kind."""
    with KINDS[kind](ground) as evil:
        return upload(ground, evil, show=show)


if __name__ == "__main__":
    sys.exit(main())

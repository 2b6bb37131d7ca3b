"""Runs clients one after the other and takes their cost. A run that does not upload ends the benchmark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.cases import Case
from tests.bench.ground import NullServer, WanServer, make_file
from tests.bench.peers import Job, Peer, jettyctl_command
from tests.support.running import clean_environment
from tests.support.servers import RcloneServer, Server, head

LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launcher.py")
TIMEOUT = 1800


class RunFailedError(Exception):
    """A client failed, or said that it had uploaded and had not."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The cost of one run: seconds of wall clock and of CPU, bytes of the largest process's peak."""

    wall: float
    cpu: float
    rss: int


@dataclass(slots=True)
class Arena:
    """A case that is set up: its file is written and its server answers."""

    case: Case
    directory: str
    path: str
    server: Server
    runs: int = 0

    def run(self, peer: Peer) -> Sample:
        """One measured run, in a home of its own unless the case is about doing it again."""
        self.runs += 1
        again = self.case.kind == "again"
        name = peer.name if again else f"run-{self.runs}"
        home = os.path.join(self.directory, f"home-{name}")
        job = Job(self.path, self.server.endpoint, self.server.bucket, f"bench/{name}")
        first = again and not os.path.exists(home)
        env = {**clean_environment(home), **self.server.env}
        try:
            if first:
                self._measured(peer, job, env)  # the upload before the first; not counted
            return self._measured(peer, job, env)
        finally:
            if not again:
                shutil.rmtree(home)

    def _measured(self, peer: Peer, job: Job, env: Mapping[str, str]) -> Sample:
        command = self._command(peer, job)
        log = os.path.join(self.directory, "log")
        sized = self.case.kind != "version"
        ask = [f"{job.endpoint}/{job.bucket}/{job.key}"] if sized and self.case.server == "null" else []
        launch = [sys.executable, "-I", "-S", LAUNCHER, log, *ask, "--", *command]
        if isinstance(self.server, WanServer):
            launch = self.server.wrap(self.case, launch)
        done = subprocess.run(launch, env=env, cwd=self.directory, stdout=subprocess.PIPE, timeout=TIMEOUT)
        if done.returncode:
            raise RunFailedError(f"{peer.name} could not be measured: exit status {done.returncode} of the launcher")
        cost = json.loads(done.stdout)
        if cost["status"]:
            with open(log, errors="replace") as file:
                raise RunFailedError(f"{peer.name} failed with exit status {cost['status']}:\n{file.read()}")
        if sized:
            self._check(peer, job, cost["stored"])
        return Sample(cost["wall"], cost["cpu"], cost["rss"])

    def _command(self, peer: Peer, job: Job) -> list[str]:
        if self.case.kind == "version":
            start = jettyctl_command(peer.program) if peer.name == "jettyctl" else [peer.program]
            return [*start, peer.version]
        upload = peer.again if self.case.kind == "again" and peer.again else peer.upload
        return upload(peer.program, job)

    def _check(self, peer: Peer, job: Job, stored: int | None) -> None:
        if self.case.server != "null":
            described = head(self.server, job.key)
            stored = described["ContentLength"] if described else None
        if stored != self.case.size:
            raise RunFailedError(f"{peer.name} exited with 0, but the object's size is {stored}, not {self.case.size}")


@contextmanager
def arena(case: Case, directory: str) -> Iterator[Arena]:
    """The case's file and server, in a directory that is removed afterwards."""
    place = os.path.join(directory, case.name)
    os.makedirs(place)
    path = os.path.join(place, "file")
    make_file(path, case)
    try:
        with _server(case, place) as server:
            yield Arena(case, place, path, server)
    finally:
        shutil.rmtree(place)


def _server(case: Case, place: str) -> Server:
    if case.wan:
        return WanServer()
    return NullServer() if case.server == "null" else RcloneServer(os.path.join(place, "stored"))


def compare(case: Case, peers: list[Peer], runs: int, directory: str) -> dict[str, list[Sample]]:
    """`runs` samples of each client, taken in turns, so that a disturbance of the machine strikes all of them."""
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
    with arena(case, directory) as ready:
        for _ in range(runs):
            for peer in peers:
                samples[peer.name].append(ready.run(peer))
    return samples

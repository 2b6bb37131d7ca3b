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
from tests.bench.ground import NullServer, WanServer, make_files, no_emulator
from tests.bench.peers import OWN, Job, Peer, aws_settings, jettyctl_command
from tests.bench.samples import Sample, sample
from tests.bench.tls import TlsServer, no_tls
from tests.support.running import clean_environment
from tests.support.servers import RcloneServer, Server, head

LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launcher.py")
TIMEOUT = 1800


class RunFailedError(Exception):
    """A client failed, or said that it had uploaded and had not."""


def obstacle(case: Case) -> str | None:
    """Why the case cannot run on this machine; None where it can."""
    if case.wan:
        return no_emulator()
    return no_tls() if case.server == "tls" else None


@dataclass(slots=True)
class Arena:
    """A case that is set up: its files are written and its server answers."""

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
        job = self._job(peer, f"bench/{name}")
        first = again and not os.path.exists(home)
        env = {**clean_environment(home), **self.server.env}
        if peer.name == "aws-tuned":
            _write(os.path.join(home, ".aws", "config"), aws_settings(job))
        try:
            if first:
                self._measured(peer, job, env)  # the upload before the first; not counted
            return self._measured(peer, job, env)
        finally:
            if not again:
                shutil.rmtree(home)

    def _job(self, peer: Peer, key: str) -> Job:
        ca_file = self.server.ca_file if isinstance(self.server, TlsServer) else None
        tuned = self.case.tuned if peer.tuned else None
        return Job(self.path, self.server.endpoint, self.server.bucket, key, self.case.files > 1, ca_file, tuned)

    def _measured(self, peer: Peer, job: Job, env: Mapping[str, str]) -> Sample:
        log = os.path.join(self.directory, "log")
        launch = [sys.executable, "-I", "-S", LAUNCHER, log, *self._counts(), "--", *self._command(peer, job)]
        if isinstance(self.server, WanServer):
            launch, env = self.server.wrap(self.case, launch, env)
        done = subprocess.run(launch, env=env, cwd=self.directory, stdout=subprocess.PIPE, timeout=TIMEOUT)
        if done.returncode:
            raise RunFailedError(f"{peer.name} could not be measured: exit status {done.returncode} of the launcher")
        cost = json.loads(done.stdout)
        with open(log, errors="replace") as file:
            printed = file.read()
        if cost["status"]:
            raise RunFailedError(f"{peer.name} failed with exit status {cost['status']}:\n{printed[-4000:]}")
        self._check(peer, job, cost["stored"])
        return sample(cost, self.case.total, printed if peer.name in OWN else "")

    def _command(self, peer: Peer, job: Job) -> list[str]:
        if self.case.kind == "version":
            start = jettyctl_command(peer.program) if peer.name == "jettyctl" else [peer.program]
            return [*start, peer.version]
        upload = peer.again if self.case.kind == "again" and peer.again else peer.upload
        return upload(peer.program, job)

    def _counts(self) -> list[str]:
        """Where the launcher finds what a null server took."""
        if self.case.kind != "version" and isinstance(self.server, NullServer | WanServer):
            return [self.server.counts_url]
        return []

    def _check(self, peer: Peer, job: Job, stored: list[int] | None) -> None:
        if self.case.kind == "version":
            return
        if stored is None:
            described = head(self.server, job.key)
            stored = [1, described["ContentLength"]] if described else [0, 0]
        if stored[:2] != [self.case.files, self.case.total]:
            raise RunFailedError(
                f"{peer.name} exited with 0, but there are {stored[0]} objects of {stored[1]} bytes, "
                f"not {self.case.files} of {self.case.total}"
            )


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as file:
        file.write(text)


@contextmanager
def arena(case: Case, directory: str) -> Iterator[Arena]:
    """The case's files and server, in a directory that is removed afterwards."""
    place = os.path.join(directory, case.name)
    os.makedirs(place)
    path = os.path.join(place, "file")
    make_files(path, case)
    try:
        with _server(case, place) as server:
            yield Arena(case, place, path, server)
    finally:
        shutil.rmtree(place)


def _server(case: Case, place: str) -> Server:
    if case.wan:
        return WanServer()
    if case.server == "tls":
        return TlsServer(place)
    return NullServer() if case.server == "null" else RcloneServer(os.path.join(place, "stored"))


def compare(case: Case, peers: list[Peer], runs: int, directory: str) -> dict[str, list[Sample]]:
    """`runs` samples of each client, taken in turns, so that a disturbance of the machine strikes all of them."""
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
    with arena(case, directory) as ready:
        for number in range(runs):
            for peer in peers:
                if number == 0 or peer.name not in case.once:
                    samples[peer.name].append(ready.run(peer))
    return samples

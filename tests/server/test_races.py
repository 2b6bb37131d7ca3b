"""Two machines that want the same session: one of them ends it, the others say so, and there is one object, made once.

RACE_SEED=... repeats a run's draws.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.server.hosts import own_backend
from tests.server.machines import HERE, Hosted, Machine, ended, machine, until
from tests.server.storms import MIB, check_completes, check_log, sha256
from tests.support.faults import Fault, error
from tests.support.plane import PlaneProcess, plane_settings
from tests.support.proxy import RecordingProxy
from tests.support.running import random_file
from tests.support.servers import Server

SIZE, CHUNK = 22 * MIB, 5 * MIB
TENANT = "acme"


@dataclass(slots=True)
class Race:
    """One control plane, one file after the other, three machines. `told` is what happened, for messages and for the report."""

    hosted: Hosted
    proxy: RecordingProxy
    machines: list[Machine]
    directory: Path
    draw: random.Random
    told: list[str] = field(default_factory=list)
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, number: int) -> None:
        """One race: A begins, is killed or stopped half-way, and B and C, or B and the waking A, want the rest."""
        key = f"race-{number}.bin"
        path = self.directory / key
        random_file(path, SIZE, self.draw.getrandbits(32))
        kind = ("killed", "stopped", "woken")[number % 3]
        first = self._begin(key, path)
        session = self.machines[0].sessions()[0].session_id
        time.sleep(self.draw.uniform(0.0, 0.8))
        first.send_signal(signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
        rivals = [self._resume(machine, session, path) for machine in self.machines[1 : 2 if kind == "woken" else 3]]
        if kind == "woken":
            time.sleep(self.draw.uniform(0.3, 3.0))
            first.send_signal(signal.SIGCONT)
        outcomes = [ended(rival) for rival in rivals]
        if kind == "killed":
            ended(first)
        else:
            first.send_signal(signal.SIGCONT)
            outcomes.insert(0, ended(first))
        self._running.clear()
        self.told.append(f"{kind}: {outcomes}")
        self._judge(kind, key, path, outcomes)
        path.unlink()

    def start(self, one: Machine, *args: str) -> subprocess.Popen[bytes]:
        """A run that ends with the test."""
        process = one.start(*args, stderr=subprocess.PIPE)
        self._running.append(process)
        return process

    def close(self) -> None:
        """End what a failed race left."""
        for process in self._running:
            process.kill()
            process.communicate()

    def _begin(self, key: str, path: Path) -> subprocess.Popen[bytes]:
        one = self.machines[0]
        options = ("--chunk-size", str(CHUNK), "--threads", str(self.draw.randint(1, 3)), "--limit-rate", "8MiB/s")
        process = self.start(one, "upload", str(path), f"jetty:{key}", *options)

        def begun() -> bool:
            sent = [request for request in list(self.proxy.requests) if request.path.endswith(f"/{key}")]
            return any(request.part and request.succeeded for request in sent) or process.poll() is not None

        until(begun, "a part")
        return process

    def _resume(self, one: Machine, session: str, path: Path) -> subprocess.Popen[bytes]:
        time.sleep(self.draw.choice((0.0, 0.0, 0.2, 0.6)))
        rate = self.draw.choice(("5MiB/s", "20MiB/s", "100MiB/s"))
        return self.start(one, "resume", session, str(path), "--take-over", "--limit-rate", rate)

    def _judge(self, kind: str, key: str, path: Path, outcomes: list[tuple[int, str]]) -> None:
        """One has made the object, and says so alone: the others are told that it was taken over, or come too late."""
        what = f"{key}, {kind}: {outcomes}"
        assert [status for status, _ in outcomes].count(0) == 1, what
        for status, said in outcomes:
            assert status in (0, 75) or (status == 2 and "is completed" in said), what
            if status == 75:
                assert "taken over" in said, what
                assert HERE in said or "given up, elsewhere" in said, what  # nobody holds what is over
                assert len(said.strip().splitlines()) <= 2, what
        assert sha256(self.hosted.stored(key)) == sha256(path.read_bytes()), what
        assert check_completes(self.proxy, f"{self.hosted.prefix}{TENANT}/", [key]) == 1, what
        self.proxy.forget()


@pytest.fixture
def race(request: pytest.FixtureRequest, moto: Server, env: dict[str, str], tmp_path: Path) -> Iterator[Race]:
    """A control plane over moto, counted, and three machines of one user."""
    seed = int(os.environ.get("RACE_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"RACE_SEED={seed}")
    prefix = f"{tmp_path.name}/"
    with own_backend(request, tmp_path) as backend, RecordingProxy(moto) as proxy:
        store = {"store": f"s3://{moto.bucket}/{prefix}", "endpoint_url": proxy.endpoint, "region": "us-east-1"}
        long = {"lease_seconds": 600.0}  # nobody hears by chance, renewing a lease, what the next write tells
        with PlaneProcess(plane_settings(backend, tmp_path, **store, **long), tmp_path, proxy.env) as plane:
            hosted = Hosted(plane, TENANT, tmp_path, moto, prefix)
            machines = [machine(hosted, env, tmp_path / name) for name in ("a", "b", "c")]
            race = Race(hosted, proxy, machines, tmp_path, random.Random(seed))
            yield race
            race.close()
            print("\n".join(race.told))
            check_log(plane)


@pytest.mark.slow
def test_three_races(race: Race) -> None:
    """The first machine is killed, stopped, or wakes up in the middle: one ends the session, the others are refused."""
    for number in range(3):
        race.run(number)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_races(race: Race) -> None:
    """The same with other draws, fifty times."""
    for number in range(50):
        race.run(number)


@pytest.mark.slow
def test_a_part_that_comes_too_late(race: Race) -> None:
    """A machine that fell asleep with its last part on its way is refused, also where it hears first that there is no upload."""
    key, path, proxy = "late.bin", race.directory / "late.bin", race.proxy
    random_file(path, 4 * CHUNK, race.draw.getrandbits(32))
    proxy.faults.append(Fault("part", 1, error(404, "NoSuchUpload"), part=4))  # moto says 500 of an upload that was completed
    sleeper = race.start(race.machines[0], "upload", str(path), f"jetty:{key}", "--chunk-size", str(CHUNK), "--threads", "1")
    until(lambda: proxy.parts_sent()[3], "the part before")
    proxy.rate = CHUNK
    until(lambda: proxy.parts_sent()[4], "the part")
    session = race.machines[0].sessions()[0].session_id
    sleeper.send_signal(signal.SIGSTOP)
    proxy.rate = None
    race.machines[1]("resume", session, str(path), "--take-over", check=0)
    assert proxy.completed_parts()[4] == 1, "the sleeper's request had come to its end"
    sleeper.send_signal(signal.SIGCONT)
    status, said = ended(sleeper)
    assert (status, "taken over" in said) == (75, True), said
    assert len(said.strip().splitlines()) <= 2, said
    assert sha256(race.hosted.stored(key)) == sha256(path.read_bytes())
    asked = [request.op for request in proxy.requests if request.path.endswith(f"/{key}")]
    assert (asked.count("create"), asked.count("complete")) == (1, 1)

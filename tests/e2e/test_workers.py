"""Many small files, some of them sent by other processes: each arrives once, whoever fails or is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.e2e.watching import until
from tests.support.faults import EVERY, Fault, delay, status
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl
from tests.support.servers import Endpoint, Server, client

FILES = 200
STOP_SECONDS = 5.0


class Eager(Jettyctl):
    """Starts other processes at once."""

    @staticmethod
    def command(*args: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-P", "-m", "tests.support.eager", *args]


@dataclass(frozen=True)
class Stage:
    """A directory of small files, and a prefix of moto that is its own."""

    eager: Eager
    moto: Server
    folder: Path
    prefix: str

    def args(self, *options: str) -> tuple[str, ...]:
        return ("upload", "-r", "--json", "--no-progress", *options, str(self.folder), f"s3://{self.moto.bucket}/{self.prefix}/")

    @property
    def handed(self) -> int:
        """Files that others sent."""
        log = Path(self.eager.environment["EAGER_LOG"])
        return sum(map(int, log.read_text().split())) if log.exists() else 0

    def stored(self) -> dict[str, bytes]:
        with client(self.moto) as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.moto.bucket, Prefix=f"{self.prefix}/")
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
            return {key: s3.get_object(Bucket=self.moto.bucket, Key=key)["Body"].read() for key in keys}

    def arrived(self) -> bool:
        there = {f"{self.prefix}/{path.relative_to(self.folder)}": path.read_bytes() for path in self.folder.rglob("*.bin")}
        return self.stored() == there


@pytest.fixture
def stage(moto: Server, env: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest) -> Stage:
    """The checksum is given, so that no probe mixes with what is counted."""
    env |= {
        "JETTY_DATA_DIR": str(tmp_path / "data"),
        "JETTY_CHECKSUM": "md5",
        "EAGER_LOG": str(tmp_path / "handed"),
    }
    for number in range(FILES):
        path = tmp_path / "files" / f"{number % 3}" / f"é {number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * 40)
    return Stage(Eager(env, str(tmp_path)), moto, tmp_path / "files", request.node.name)


@pytest.fixture
def slow_store(moto: Server, proxied: Callable[..., RecordingProxy]) -> RecordingProxy:
    """moto, where each request takes a little longer."""
    return proxied(moto, faults=[Fault("put", 1, delay(0.01), times=EVERY)])


@pytest.fixture
def begun(stage: Stage) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`begun(server)` starts an upload of all files and waits until others have sent some."""
    processes = []

    def start(server: Endpoint) -> subprocess.Popen[bytes]:
        process = stage.eager.start(*stage.args(), server=server, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        processes.append(process)
        until(lambda: stage.handed > 0, "an answer of another process", process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Threads start them, and each thread has its own list."""
    tasks = Path(f"/proc/{process.pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def gone(pid: int) -> bool:
    """Ended, and not only waiting to be asked for its exit status."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def test_each_file_arrives_and_is_told_once(stage: Stage) -> None:
    """With its options, its plan before its result, and a memory of it: the second run sends nothing."""
    result = stage.eager(*stage.args("--cache-control", "no-cache", "--metadata", "k=v"), server=stage.moto, check=0)
    assert stage.handed > 0
    assert stage.arrived()
    told = [(event["type"], event["source"]) for event in result.events if event["type"] in ("plan", "result")]
    assert len(told) == len(set(told)) == 2 * FILES
    assert all(told.index(("plan", source)) < place for place, (kind, source) in enumerate(told) if kind == "result")
    summary = result.events[-1]
    assert (summary["uploaded"], summary["bytes_sent"], summary["failed"]) == (FILES, summary["bytes"], 0)
    with client(stage.moto) as s3:
        for number in range(FILES):
            found = s3.head_object(Bucket=stage.moto.bucket, Key=f"{stage.prefix}/{number % 3}/é {number}.bin")
            assert (found["CacheControl"], found["Metadata"]["k"]) == ("no-cache", "v")
    before = stage.handed
    again = stage.eager(*stage.args("--cache-control", "no-cache", "--metadata", "k=v"), server=stage.moto, check=0).events[-1]
    assert stage.handed > before
    assert (again["unchanged"], again["bytes_sent"]) == (FILES, 0)


def test_a_file_that_fails_is_told_once_with_its_reason(stage: Stage) -> None:
    """Whoever had it first, the process that was asked for it says why."""
    lost = stage.folder / "1" / "é 1.bin"
    lost.chmod(0)
    if os.access(lost, os.R_OK):  # root may read anything
        lost.unlink()
        lost.symlink_to("/nowhere")
        found = stage.eager(*stage.args("--follow-symlinks"), server=stage.moto, check=3)
    else:
        found = stage.eager(*stage.args(), server=stage.moto, check=3)
    errors = [event for event in found.events if event["type"] == "error"]
    assert [event["source"] for event in errors] == [str(lost)]
    assert len(stage.stored()) == FILES - 1


@pytest.mark.slow
def test_what_a_store_refuses_others_is_retried_here(stage: Stage, proxied: Callable[..., RecordingProxy]) -> None:
    """A worker tries once. Its failures cost no file."""
    proxy = proxied(stage.moto, faults=[Fault("put", number, status(500)) for number in range(1, FILES, 3)])
    stage.eager(*stage.args(), server=proxy, check=0)
    assert stage.handed > 0
    assert stage.arrived()


def test_a_worker_that_is_killed_costs_nothing(
    stage: Stage, slow_store: RecordingProxy, begun: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """What it had in its hands is done by others."""
    process = begun(slow_store)
    for pid in workers_of(process):
        os.kill(pid, signal.SIGKILL)
    said, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert said.count(b'"type": "result"') == FILES
    assert stage.arrived()


@pytest.mark.parametrize("whole_group", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_stop_ends_the_workers_too(
    stage: Stage, slow_store: RecordingProxy, begun: Callable[..., subprocess.Popen[bytes]], whole_group: bool
) -> None:
    """Ctrl-C reaches all of them at a terminal; a signal to the one process is as good."""
    process = begun(slow_store)
    workers = workers_of(process)
    for pid in [*workers, process.pid] if whole_group else [process.pid]:
        os.kill(pid, signal.SIGINT)
    process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == 130
    assert workers
    assert all(map(gone, workers))
    stage.eager(*stage.args(), server=stage.moto, check=0)
    assert stage.arrived()


@pytest.mark.slow
def test_no_worker_outlives_a_kill(
    stage: Stage, proxied: Callable[..., RecordingProxy], begun: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """It has files for more than three seconds in its hands, and sends none of them any more."""
    process = begun(proxied(stage.moto, faults=[Fault("put", 1, delay(0.2), times=EVERY)]))
    workers = workers_of(process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 1
    while not all(map(gone, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers
    assert all(map(gone, workers))


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--threads=4", "--limit-rate=1G", "--if-exists=skip", "--if-exists=fail"])
def test_what_only_one_process_can_promise_is_done_by_one(stage: Stage, option: str) -> None:
    """A bound of threads or of the rate, and a file that may not be replaced."""
    few = replace(stage, folder=stage.folder / "0")
    few.eager(*few.args(option), server=stage.moto, check=0)
    assert few.handed == 0
    assert few.arrived()


def test_credentials_that_are_asked_for_are_asked_for_once(stage: Stage, tmp_path: Path) -> None:
    """A credential process may want a person's answer."""
    asked = tmp_path / "asked"
    script = tmp_path / "credentials"
    script.write_text(
        f"#!/bin/sh\necho asked >> {asked}\n"
        """echo '{"Version": 1, "AccessKeyId": "testing", "SecretAccessKey": "testing"}'\n"""
    )
    script.chmod(0o700)
    config = tmp_path / "config"
    config.write_text(f"[profile asks]\ncredential_process = {script}\n")
    eager = replace(stage.eager, environment={**stage.eager.environment, "AWS_CONFIG_FILE": str(config)})
    eager(*stage.args("--profile", "asks"), server=stage.moto, check=0)
    assert stage.handed == 0
    assert asked.read_text() == "asked\n"


def test_nothing_is_imported_from_where_it_runs(stage: Stage) -> None:
    """Files to upload may be called as Python's modules are."""
    for name in ("json", "jettyctl", "signal", "sitecustomize"):
        (stage.folder / f"{name}.py").write_text("open('imported', 'w')\n")
    stage.eager(*stage.args("--include", "*.bin"), server=stage.moto, check=0, cwd=str(stage.folder))
    assert stage.handed > 0
    assert not (stage.folder / "imported").exists()

"""What examples/ shows is run: every example against the embedded store, and against S3 servers with trouble on the way."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.faults import Fault, reset
from tests.support.proxy import RecordingProxy
from tests.support.running import ROOT, random_file
from tests.support.servers import Endpoint, Server, fetch, stop

MIB = 1 << 20
EXAMPLES = os.path.join(ROOT, "examples")

Example = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def example(env: dict[str, str], tmp_path: Path) -> Iterator[Example]:
    """`example("name", *args, server=…, **variables)` starts an example in the test's directory, jettyctl on its PATH."""
    program = tmp_path / "bin" / "jettyctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m jettyctl "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(program.parent), os.path.dirname(sys.executable), env["PATH"]])
    started: list[subprocess.Popen[str]] = []

    def start(name: str, *args: str, server: Endpoint | None = None, **variables: str) -> subprocess.Popen[str]:
        settings = {**env, "JETTY_DATA_DIR": str(tmp_path / "data"), "PATH": path, **(server.env if server else {}), **variables}
        shell = "sh" if name.endswith(".sh") else sys.executable
        command = [shell, os.path.join(EXAMPLES, name), *args]
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(command, env=settings, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            stop(process)
        process.communicate()


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, str]:
    """A directory `dist` with two files; their SHA-256 by name."""
    content = {"a.txt": b"small", "sub/b.bin": os.urandom(300_000)}
    for name, data in content.items():
        path = tmp_path / "dist" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}


def finished(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    """Standard output and error of an example that ended as it should."""
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == status, stdout + stderr
    return stdout, stderr


def child_of(process: subprocess.Popen[str]) -> int:
    """The process id of the program that a shell script waits for."""
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
        return int(file.read().split()[0])


def wait_until(met: Callable[[], bool]) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + 30
    while not met():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_ci_upload_into_the_local_store(example: Example, artifacts: dict[str, str]) -> None:
    """The CI script prints address and SHA-256 of each file, also of those that a second run need not send."""
    expected = {f"local:artifacts/{name} {digest}" for name, digest in artifacts.items()}
    for _ in range(2):
        stdout, _ = finished(example("ci-upload.sh", "dist"))
        assert set(stdout.splitlines()) == expected


def test_ci_upload_to_a_server(example: Example, artifacts: dict[str, str], s3_server: Server) -> None:
    """With a destination and options the CI script uploads to an S3 server."""
    finished(example("ci-upload.sh", "dist", "s3://bucket/ci/", "--threads", "2", server=s3_server))
    for name, digest in artifacts.items():
        assert hashlib.sha256(fetch(s3_server, f"ci/{name}")).hexdigest() == digest


def test_ci_upload_says_why_it_failed(example: Example, tmp_path: Path) -> None:
    """What another try cannot mend ends the CI script with jettyctl's own status and message, and no result."""
    stdout, stderr = finished(example("ci-upload.sh", str(tmp_path / "missing")), status=1)
    assert (stdout, "does not exist" in stderr, "once more" in stderr) == ("", True, False)


@pytest.mark.slow
def test_ci_upload_tries_again_after_a_stop(
    example: Example, artifacts: dict[str, str], moto: Server, proxied: Callable[..., RecordingProxy]
) -> None:
    """A try that ends with 75 is made again, and the second one sends what is left."""
    proxy = proxied(moto, rate=30_000)  # ten seconds for the larger file
    process = example("ci-upload.sh", "dist", "s3://bucket/stopped/", server=proxy, PAUSE="0")
    wait_until(lambda: proxy.count("put") > 0)
    child = child_of(process)
    os.kill(child, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{child}").exists())
    proxy.rate = None
    stdout, stderr = finished(process)
    assert "attempt 1 ended with status 75" in stderr
    assert {line.split()[1] for line in stdout.splitlines()} == set(artifacts.values())


def test_resume_loop_into_the_local_store(example: Example, tmp_path: Path) -> None:
    """Without trouble the loop is one upload."""
    random_file(tmp_path / "disk.img", 100_000)
    stdout, stderr = finished(example("resume-loop.sh", "disk.img"))
    assert stdout.startswith("uploaded  local:disk.img")
    assert stderr == ""


@pytest.mark.slow
def test_resume_loop_goes_on_after_a_stop(
    example: Example, tmp_path: Path, rclone: Server, proxied: Callable[..., RecordingProxy]
) -> None:
    """A try that is stopped half-way keeps its parts; the next one sends the others, and the object is the file."""
    path = random_file(tmp_path / "disk.img", 32 * MIB)
    proxy = proxied(rclone, rate=16 * MIB)
    options = ["--threads", "1", "--chunk-size", "8MiB", "--checksum", "md5"]  # named, so that no parts of a probe count
    process = example("resume-loop.sh", "disk.img", "s3://bucket/loop.img", *options, server=proxy, FIRST_PAUSE="0")
    wait_until(lambda: len(proxy.completed_parts()) == 2)
    os.kill(child_of(process), signal.SIGTERM)
    stdout, stderr = finished(process)
    assert stdout.startswith("resumed  s3://bucket/loop.img")
    assert "try 1 ended with status 75" in stderr
    assert set(proxy.completed_parts().values()) == {1}, "a part was sent again"
    assert fetch(rclone, "loop.img") == Path(path).read_bytes()


@pytest.mark.slow
def test_resume_loop_goes_on_after_resets(
    example: Example, tmp_path: Path, rclone: Server, proxied: Callable[..., RecordingProxy]
) -> None:
    """A link that resets every connection until jettyctl gives up costs a try, not the parts that arrived."""
    path = random_file(tmp_path / "disk.img", 32 * MIB)
    proxy = proxied(rclone, faults=[Fault("part", 3, reset(), times=8)])
    options = ["--threads", "1", "--chunk-size", "8MiB", "--checksum", "md5"]
    process = example("resume-loop.sh", "disk.img", "s3://bucket/reset.img", *options, server=proxy, FIRST_PAUSE="0")
    stdout, stderr = finished(process)
    assert stdout.startswith("resumed  s3://bucket/reset.img")
    assert "try 1 ended with status 5" in stderr
    assert set(proxy.completed_parts().values()) == {1}, "a part was sent again"
    assert fetch(rclone, "reset.img") == Path(path).read_bytes()


def test_resume_loop_has_limits(example: Example, tmp_path: Path) -> None:
    """The loop does not try again what cannot succeed."""
    _, stderr = finished(example("resume-loop.sh", "missing"), status=1)
    assert "once more" not in stderr


def test_python_into_the_local_store(example: Example, tmp_path: Path) -> None:
    """The Python example shows progress and prints what was stored."""
    path = random_file(tmp_path / "disk.img", 12 * MIB)
    stdout, stderr = finished(example("upload.py", "disk.img"))
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert stdout == f"uploaded  local:disk.img  {12 * MIB} bytes  sha256:{digest}\n"
    assert "100 %" in stderr


def test_python_to_a_server(example: Example, tmp_path: Path, moto: Server) -> None:
    """The Python example takes an endpoint, and the object is the file."""
    path = random_file(tmp_path / "disk.img", 12 * MIB)
    credentials = {name: value for name, value in moto.env.items() if "ENDPOINT" not in name}
    process = example("upload.py", "disk.img", "s3://bucket/api/", "--endpoint-url", moto.endpoint, **credentials)
    assert finished(process)[0].startswith("uploaded  s3://bucket/api/disk.img")
    assert fetch(moto, "api/disk.img") == Path(path).read_bytes()


def test_python_reports_an_error(example: Example) -> None:
    """An error of the API becomes a message and the exit status that the command line would give."""
    _, stderr = finished(example("upload.py", "missing"), status=1)
    assert "missing does not exist. Check the path." in stderr

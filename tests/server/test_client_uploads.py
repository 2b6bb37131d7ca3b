"""Uploads through a control plane, from processes that hold a key and no storage credentials, into each kind of store."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.hosts import own_backend
from tests.server.machines import PATIENCE, Hosted, Machine, ended, machine, until
from tests.support.databases import Backend
from tests.support.faults import Fault, error
from tests.support.plane import PlaneProcess, plane_settings
from tests.support.proxy import RecordingProxy
from tests.support.running import random_file
from tests.support.servers import Server

MIB = 1 << 20
SLOW = ("--limit-rate", "6MiB/s", "--threads", "2")  # so that there is time to interrupt it


@pytest.fixture(scope="module", params=["local", *(pytest.param(name, marks=pytest.mark.slow) for name in ("moto", "rclone"))])
def hosted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A control plane in front of each store. The user's machines never learn how it is reached."""
    directory = tmp_path_factory.mktemp("hosted")
    with own_backend(request, directory) as backend:
        if request.param != "local":
            yield from hosted_by(request.getfixturevalue(request.param), request.param, backend, directory)
            return
        with PlaneProcess(plane_settings(backend, directory), directory) as plane:
            yield Hosted(plane, "acme", directory)


@pytest.fixture(scope="module", params=["moto", pytest.param("rclone", marks=pytest.mark.slow)])
def hosted_by_s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A control plane in front of an S3 server."""
    server, directory = request.getfixturevalue(request.param), tmp_path_factory.mktemp("hosted")
    with own_backend(request, directory) as backend:
        yield from hosted_by(server, f"quick-{request.param}", backend, directory)


def hosted_by(server: Server, tenant: str, backend: Backend, directory: Path) -> Iterator[Hosted]:
    """A control plane in front of a server, with a prefix of its own. The credentials stay in its environment."""
    prefix = f"{directory.name}/"
    changes = {"store": f"s3://{server.bucket}/{prefix}", "endpoint_url": server.endpoint, "region": "us-east-1"}
    with PlaneProcess(plane_settings(backend, directory, **changes), directory, server.env) as plane:
        yield Hosted(plane, tenant, directory, server, prefix)


@pytest.fixture
def here(hosted: Hosted, env: dict[str, str], tmp_path: Path) -> Machine:
    """The user's machine."""
    return machine(hosted, env, tmp_path / "here")


@pytest.fixture
def there(hosted: Hosted, env: dict[str, str], tmp_path: Path) -> Machine:
    """Another machine of the same user."""
    return machine(hosted, env, tmp_path / "there")


@pytest.fixture
def started(here: Machine) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Runs on `here` that end with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*args: str) -> subprocess.Popen[bytes]:
        processes.append(here.start(*args, stderr=subprocess.PIPE))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def begun(here: Machine, start: Callable[..., subprocess.Popen[bytes]], path: Path, key: str) -> subprocess.Popen[bytes]:
    """A slow upload of a file, of which the control plane knows some parts by now."""
    process = start("upload", str(path), f"jetty:{key}", *SLOW)
    session = until(lambda: [session for session in here.sessions() if session.upload_id], "the upload")[0]
    until(lambda: here.ask(f"/uploads/{session.session_id}/parts")["parts"], "a part")
    return process


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of some parts; no two tests have the same."""
    path = tmp_path / "file.bin"
    random_file(path, 32 * MIB + 5, seed=hash(str(tmp_path)))
    return path


@pytest.mark.parametrize("size", [0, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 5 * MIB)), 12 * MIB + 1])
def test_files_arrive(hosted: Hosted, here: Machine, tmp_path: Path, size: int) -> None:
    """A file of any size is in the store byte by byte, and the same command again sends nothing."""
    path = tmp_path / "name with spaces é.bin"
    random_file(path, size, seed=size)
    key = f"arrive-{size}/{path.name}"
    sent = here("upload", str(path), f"jetty:arrive-{size}/", "--json", "--no-progress", check=0).events
    assert [(e["status"], e["bytes_sent"]) for e in sent if e["type"] == "result"] == [("uploaded", size)]
    assert hosted.stored(key) == path.read_bytes()
    if size > 5 * MIB:
        again = here("upload", str(path), f"jetty:arrive-{size}/", "--json", "--no-progress", check=0).events
        assert [(e["status"], e["bytes_sent"]) for e in again if e["type"] == "result"] == [("unchanged", 0)]
    here("verify", str(path), f"jetty:{key}", check=0)


def test_kill_and_resume(
    hosted: Hosted, here: Machine, file: Path, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """After SIGKILL the same command goes on at once, with its own lease, and keeps what was acknowledged."""
    process = begun(here, started, file, "kill.bin")
    process.kill()
    process.wait()
    result = here("upload", str(file), "jetty:kill.bin", "--json", "--no-progress", check=0).events
    done = next(event for event in result if event["type"] == "result")
    assert done["status"] == "resumed"
    assert 0 < done["bytes_sent"] < file.stat().st_size
    assert hosted.stored("kill.bin") == file.read_bytes()


def test_another_machine_goes_on(
    hosted: Hosted, here: Machine, there: Machine, file: Path, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """A session that was killed here is held for a moment, can be taken over there, and only the rest is sent."""
    process = begun(here, started, file, "moved.bin")
    process.kill()
    process.wait()
    session = here.sessions()[0].session_id
    held = there("resume", session, str(file), check=75)
    assert "held by" in held.stderr
    assert "--take-over" in held.stderr
    moved = there("resume", session[:13], str(file), "--take-over", "--json", "--no-progress", check=0).events
    done = next(event for event in moved if event["type"] == "result")
    assert done["status"] == "resumed"
    assert done["session_id"] == session
    assert 0 < done["bytes_sent"] < file.stat().st_size
    assert hosted.stored("moved.bin") == file.read_bytes()


@pytest.mark.slow
def test_the_machine_that_slept_is_refused(
    hosted: Hosted, here: Machine, there: Machine, file: Path, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """While it is stopped another one takes over and ends; when it wakes up it changes nothing, and says why.

    In front of rclone it wakes up as soon as the other one has taken over: that server lets a part wait for a request of the
    same part that it has half of, for as long as the rest does not come.
    """
    process = begun(here, started, file, "slept.bin")
    session = here.sessions()[0].session_id  # not later: it may sleep in the middle of a write
    process.send_signal(signal.SIGSTOP)
    heir = there.start("resume", session, str(file), "--take-over", stderr=subprocess.PIPE)
    try:
        until(there.sessions, "the other to take over")
        if hosted.tenant != "rclone":
            heir.wait(PATIENCE)
    finally:
        process.send_signal(signal.SIGCONT)
    status, said = ended(heir)
    assert status == 0, said
    status, said = ended(process)
    assert status == 75, said
    assert "taken over" in said
    assert hosted.stored("slept.bin") == file.read_bytes()


@pytest.mark.slow
def test_another_file_is_refused(
    hosted: Hosted, here: Machine, there: Machine, file: Path, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """A file of the same size that differs in what was sent is an error: nothing is sent, nothing taken from the other."""
    process = begun(here, started, file, "wrong.bin")
    process.kill()
    process.wait()
    session = here.sessions()[0].session_id
    before = here.ask(f"/uploads/{session}/parts")
    other = file.with_name("other.bin")
    random_file(other, file.stat().st_size, seed=4)
    refused = there("resume", session, str(other), "--take-over", check=2)
    assert "not the file of this session" in refused.stderr
    shorter = file.with_name("shorter.bin")
    random_file(shorter, 100, seed=5)
    assert "100 bytes" in there("resume", session, str(shorter), "--take-over", check=2).stderr
    assert not there.sessions()
    assert here.ask(f"/uploads/{session}/parts") == before
    here("resume", session, check=0)  # its lease is its own still
    assert hosted.stored("wrong.bin") == file.read_bytes()


def test_if_exists(hosted: Hosted, here: Machine, file: Path) -> None:
    """What exists is refused, skipped or replaced, as asked."""
    here("upload", str(file), "jetty:exists.bin", check=0)
    other = file.with_name("other.bin")
    random_file(other, 8 * MIB, seed=6)
    assert "exists" in here("upload", str(other), "jetty:exists.bin", "--if-exists", "fail", check=7).stderr
    assert "skipped" in here("upload", str(other), "jetty:exists.bin", "--if-exists", "skip", check=0).stdout
    assert hosted.stored("exists.bin") == file.read_bytes()
    here("upload", str(other), "jetty:exists.bin", check=0)
    assert hosted.stored("exists.bin") == other.read_bytes()


def test_what_was_known_is_cloned(hosted: Hosted, here: Machine, there: Machine, file: Path) -> None:
    """A file that another machine sent is there at once under another name, once the service has read it; nothing is sent."""
    here("upload", str(file), "jetty:first.bin", check=0)
    until(lambda: here.ask("/object", key="first.bin")["verified"], "the service to read it")
    copy = file.with_name("copy.bin")
    copy.write_bytes(file.read_bytes())
    wishes = ("--json", "--no-progress", "--content-type", "text/x-mine")
    cloned = there("upload", str(copy), "jetty:second.bin", *wishes, check=0).events
    done = next(event for event in cloned if event["type"] == "result")
    assert (done["status"], done["bytes_sent"], done["bytes_reused"]) == ("cloned", 0, file.stat().st_size)
    assert [event["cloned"] for event in cloned if event["type"] == "summary"] == [1]
    assert hosted.stored("second.bin") == file.read_bytes()
    there("verify", str(copy), "jetty:second.bin", check=0)


def test_similar_files_are_sent(hosted: Hosted, here: Machine, file: Path) -> None:
    """A file with the same sample that differs elsewhere is sent whole: a sample proves nothing."""
    here("upload", str(file), "jetty:original.bin", check=0)
    until(lambda: here.ask("/object", key="original.bin")["verified"], "the service to read it")
    similar = bytearray(file.read_bytes())
    similar[5 * MIB] ^= 1
    path = file.with_name("similar.bin")
    path.write_bytes(similar)
    events = here("upload", str(path), "jetty:similar.bin", "--json", "--no-progress", check=0).events
    assert [event["status"] for event in events if event["type"] == "result"] == ["uploaded"]
    assert hosted.stored("similar.bin") == bytes(similar)


def test_standard_input(hosted: Hosted, here: Machine) -> None:
    """A short stream goes in one request; one whose length nobody knows is refused before its first part."""
    here("upload", "-", "jetty:stream.txt", input="a short stream\n", check=0)
    assert hosted.stored("stream.txt") == b"a short stream\n"
    refused = here("upload", "-", "jetty:long.txt", "--chunk-size", "5MiB", input="x" * (6 * MIB), check=2)
    assert "length" in refused.stderr


@pytest.mark.slow
def test_secrets_stay_secret(
    hosted: Hosted, here: Machine, file: Path, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Neither the key nor a signed address is in any output, argument or file beside the one for keys, whatever happens."""
    process = begun(here, started, file, "secret.bin")
    with open(f"/proc/{process.pid}/cmdline", "rb") as arguments:
        assert here.api_key.encode() not in arguments.read()
    process.kill()
    process.wait()
    said = [
        here("resume", here.sessions()[0].session_id, "-vv"),
        here("upload", str(file), "jetty:secret2.bin", "-vv", "--json"),
        here("sessions", "show", here.sessions()[0].session_id),
        here("upload", str(file), "jetty:x/../y.bin", "-vv"),
        here("config", "list", "--all"),
    ]
    texts = [text.encode() for result in said for text in (result.stdout, result.stderr)]
    texts += [path.read_bytes() for path in here.data.rglob("*") if path.is_file()]
    for secret in (here.api_key.encode(), b"X-Amz-Signature", b"/blobs/"):
        assert not [text for text in texts if secret in text]
    kept = [path for path in here.data.parent.rglob("*") if path.is_file() and here.api_key.encode() in path.read_bytes()]
    assert [path.name for path in kept] == ["keys.json"]
    assert os.stat(kept[0]).st_mode & 0o077 == 0


@pytest.mark.slow
def test_by_way_of_s3(
    hosted_by_s3: Hosted, env: dict[str, str], tmp_path: Path, file: Path
) -> None:
    """In front of S3: sent in parts, killed, taken over and ended by another machine, verified, and cloned."""
    here, there = (machine(hosted_by_s3, env, tmp_path / name) for name in ("here", "there"))
    process = begun(here, here.start, file, "quick.bin")
    process.kill()
    process.wait()
    there("resume", here.sessions()[0].session_id, str(file), "--take-over", check=0)
    assert hosted_by_s3.stored("quick.bin") == file.read_bytes()
    there("verify", str(file), "jetty:quick.bin", check=0)
    until(lambda: there.ask("/object", key="quick.bin")["verified"], "the service to read it")
    assert here("upload", str(file), "jetty:copy.bin", check=0).stdout.startswith("cloned")
    assert hosted_by_s3.stored("copy.bin") == file.read_bytes()


@pytest.mark.slow
def test_a_file_that_failed_is_free_while_the_others_go_on(
    request: pytest.FixtureRequest, moto: Server, env: dict[str, str], tmp_path: Path
) -> None:
    """Another machine gets its session without force when the lease has run out, though the run that had it goes on."""
    place = f"{tmp_path.name}/"
    with own_backend(request, tmp_path) as backend, RecordingProxy(moto) as proxy:
        store = {"store": f"s3://{moto.bucket}/{place}", "endpoint_url": proxy.endpoint, "region": "us-east-1"}
        with PlaneProcess(plane_settings(backend, tmp_path, **store, lease_seconds=1.0), tmp_path, proxy.env) as plane:
            hosted = Hosted(plane, "acme", tmp_path, moto, place)
            here, there = (machine(hosted, env, tmp_path / name) for name in ("here", "there"))
            files = [tmp_path / "a.bin", tmp_path / "b.bin"]
            for path, size in zip(files, (15 * MIB, 30 * MIB), strict=True):  # the second takes seconds more
                random_file(path, size)
            proxy.faults.append(Fault("complete", 1, error(400, "BadDigest")))
            slow = ("--chunk-size", "5MiB", "--threads", "1", "--limit-rate", "2560KiB/s")
            process = here.start("upload", *map(str, files), "jetty:", *slow, stderr=subprocess.PIPE)
            try:
                failed = until(lambda: [one for one in here.sessions() if one.status == "completing"], "the first to end")[0]
                time.sleep(1.5)
                there("resume", failed.session_id, failed.source.path, check=0)
                assert process.poll() is None
            finally:
                status, said = ended(process)
            assert status == 3, said
            assert [hosted.stored(path.name) for path in files] == [path.read_bytes() for path in files]

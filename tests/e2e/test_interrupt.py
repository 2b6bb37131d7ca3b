"""Stopping, and going on: signals, resume by session, sources that change, two processes, and a move to another machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_kill import (
    CHUNK,
    MIB,
    Proxied,
    Start,
    parts_begun,
    recorded_sessions,
    recorded_status,
    requests_for,
    until,
)
from tests.support.faults import EVERY, Fault, stall
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl, Result, random_file
from tests.support.servers import Server, fetch, head, list_uploads

CHUNKS = 4
SIZE = CHUNKS * CHUNK - 999
RATE = 12.0 * MIB  # bytes a second, until something was done to the first run
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Stage:
    """One file that goes to one key of moto through a proxy, slowly enough to be interrupted."""

    jettyctl: Jettyctl
    start: Start
    proxy: RecordingProxy
    server: Server
    directory: Path
    key: str

    @property
    def path(self) -> str:
        return str(self.directory / "file")

    @property
    def url(self) -> str:
        return f"s3://bucket/{self.key}"

    @property
    def env(self) -> dict[str, str]:
        return dict(self.jettyctl.environment)

    def args(self) -> tuple[str, ...]:
        return ("upload", "--threads", "1", "--chunk-size", str(CHUNK), self.path, self.url)

    def begun(self) -> subprocess.Popen[bytes]:
        """A process that has one part at the server, and another one on its way."""
        process = self.start(*self.args(), server=self.proxy, stderr=subprocess.PIPE)
        self.wait_for_parts(2, process)
        return process

    def wait_for_parts(self, count: int, process: subprocess.Popen[bytes]) -> None:
        until(lambda: parts_begun(self.proxy, self.key).total() >= count, f"{count} parts", process)

    def interrupted(self) -> str:
        """Begin, interrupt, and return the session's id. Some of the parts are at the server then."""
        process = self.begun()
        code, said = stopped(process, signal.SIGINT)
        assert code == 130, said
        return self.newest()

    def newest(self) -> str:
        return next(s.session_id for s in recorded_sessions(self.env) if s.target.key == self.key)

    def run(self, *args: str, check: int | None = 0) -> Result:
        """One more run, at full speed."""
        self.proxy.rate = None
        return self.jettyctl(*args, server=self.proxy, check=check)

    def is_done(self) -> None:
        assert fetch(self.server, self.key) == Path(self.path).read_bytes()
        assert recorded_status(self.env, self.key) == "completed"

    def each_part_once(self) -> None:
        assert parts_begun(self.proxy, self.key) == dict.fromkeys(range(1, CHUNKS + 1), 1)


@pytest.fixture
def stage(
    moto: Server,
    env: dict[str, str],
    jettyctl: Jettyctl,
    start_jettyctl: Start,
    proxied: Proxied,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Stage:
    """A key of its own for each test. The checksum is given, so that no probe mixes with what is counted."""
    env |= {"JETTY_DATA_DIR": str(tmp_path / "data"), "JETTY_CHECKSUM": "md5"}
    random_file(tmp_path / "file", SIZE)
    key = re.sub(r"\W+", "-", request.node.name)
    return Stage(jettyctl, start_jettyctl, proxied(moto, rate=RATE), moto, tmp_path, key)


def stopped(process: subprocess.Popen[bytes], number: signal.Signals) -> tuple[int, str]:
    """Send a signal; the exit status and what was said, both within the promised time."""
    process.send_signal(number)
    _, said = process.communicate(timeout=STOP_SECONDS)
    return process.returncode, said.decode()


def slow(value: str) -> Any:  # noqa: ANN401 - pytest's own type has no public name
    """A parameter that only the long run takes."""
    return pytest.param(value, marks=pytest.mark.slow)


# Signals.


def test_ctrl_c_keeps_the_parts_and_prints_the_command(stage: Stage) -> None:
    """SIGINT: exit 130, no Complete, the part in flight still arrives, and the printed command does the rest."""
    code, said = stopped(stage.begun(), signal.SIGINT)
    assert code == 130
    command = re.search(r"jettyctl (resume [0-9a-f-]{36})$", said.strip())
    assert command, said
    assert not requests_for(stage.proxy, stage.key, "complete")
    assert recorded_status(stage.env, stage.key) == "paused"
    assert "resumed  " in stage.run(*shlex.split(command[1])).stdout
    stage.each_part_once()
    stage.is_done()


@pytest.mark.slow
def test_no_complete_when_the_last_parts_arrive_after_the_signal(stage: Stage) -> None:
    """All that was left was in flight at the signal and arrives: even so, the object is made by the resume only."""
    process = stage.start(*stage.args(), server=stage.proxy, stderr=subprocess.PIPE)
    stage.wait_for_parts(CHUNKS, process)
    code, _ = stopped(process, signal.SIGINT)
    assert code == 130
    assert not requests_for(stage.proxy, stage.key, "complete")
    assert head(stage.server, stage.key) is None
    stage.run("resume")
    stage.each_part_once()
    stage.is_done()


def test_sigterm_is_resumable(stage: Stage) -> None:
    """SIGTERM: exit 75, which schedulers read as "try again", and the same command goes on."""
    code, said = stopped(stage.begun(), signal.SIGTERM)
    assert code == 75
    assert "jettyctl resume " in said
    assert "resumed: " in stage.run(*stage.args()).stderr
    stage.each_part_once()
    stage.is_done()


def test_second_ctrl_c_ends_at_once(stage: Stage) -> None:
    """The first SIGINT waits for what is in flight, the second one for nothing."""
    stage.proxy.faults.append(Fault("part", 2, stall()))
    process = stage.begun()
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=0.5) == 130
    stage.run(*stage.args())
    stage.is_done()


@pytest.mark.slow
def test_nohup_goes_on(stage: Stage) -> None:
    """A SIGHUP that is ignored stays ignored; the upload ends as if nothing had been."""
    with_nohup = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process = stage.start(*stage.args(), server=stage.proxy, **with_nohup)
    stage.wait_for_parts(2, process)
    process.send_signal(signal.SIGHUP)
    stage.proxy.rate = None
    assert process.wait(timeout=20) == 0
    stage.is_done()


@pytest.mark.slow
def test_hangup_is_resumable(stage: Stage) -> None:
    """A SIGHUP that is not ignored stops like SIGTERM."""
    code, _ = stopped(stage.begun(), signal.SIGHUP)
    assert code == 75
    stage.run("resume")
    stage.is_done()


@pytest.mark.slow
@pytest.mark.parametrize("op", [slow("head"), slow("create"), "part", slow("complete")])
def test_interrupt_before_a_black_hole(stage: Stage, op: str) -> None:
    """The server takes everything and answers nothing: SIGINT still ends it in time, and a later run does it all."""
    stage.proxy.faults.append(Fault(op, 1, stall(), times=EVERY))
    process = stage.start(*stage.args(), server=stage.proxy, stderr=subprocess.PIPE)
    until(lambda: requests_for(stage.proxy, stage.key, op), op, process)
    code, said = stopped(process, signal.SIGINT)
    assert code == 130, said
    stage.proxy.faults.clear()
    stage.run(*stage.args())
    stage.is_done()


@pytest.mark.slow
def test_interrupt_of_many_files_prints_the_same_command(stage: Stage) -> None:
    """With several files in work, the command that goes on is the one that was given."""
    others = stage.directory / "many files"
    others.mkdir()
    for number in range(3):
        random_file(others / f"{number}.bin", SIZE, number)
    args = ("upload", "-r", "--threads", "1", "--chunk-size", str(CHUNK), str(others), f"{stage.url}/")
    process = stage.start(*args, server=stage.proxy, stderr=subprocess.PIPE)
    until(lambda: stage.proxy.count("part") >= 2, "two parts", process)
    code, said = stopped(process, signal.SIGINT)
    assert code == 130
    assert said.strip().endswith(shlex.join(("jettyctl", *args)))
    stage.run(*args)
    assert max(stage.proxy.parts_sent().values()) <= 3  # each part once for each file
    for number in range(3):
        name = f"{stage.key}/{others.name}/{number}.bin"
        key = name if head(stage.server, name) else f"{stage.key}/{number}.bin"
        assert fetch(stage.server, key) == (others / f"{number}.bin").read_bytes()


# Which session is meant.


@pytest.mark.parametrize("named", [slow("id"), "prefix", slow("nothing"), slow("all")])
def test_resume_names(stage: Stage, named: str) -> None:
    """A session is resumed by its id, by how that begins, as the only one, or as one of all."""
    session_id = stage.interrupted()
    args = {"id": (session_id,), "prefix": (session_id[:6],), "nothing": (), "all": ("--all",)}[named]
    stage.run("resume", *args)
    stage.each_part_once()
    stage.is_done()


@pytest.mark.slow
def test_resume_of_what_is_not_there(stage: Stage) -> None:
    """An unknown id, an ambiguous prefix and an ambiguous nothing are usage errors; nothing to resume is none."""
    assert "there is nothing to resume" in stage.run("resume").stderr
    assert stage.run("resume", "12345678", check=2).stderr.startswith("jettyctl: there is no session")
    for part in ("a", "b"):
        random_file(stage.path, SIZE, ord(part))
        stage.proxy.forget()
        stage.proxy.rate = RATE
        args = ("upload", "--threads", "1", "--chunk-size", str(CHUNK), stage.path, stage.url + part)
        process = stage.start(*args, server=stage.proxy, stderr=subprocess.PIPE)
        until(lambda: stage.proxy.count("part") >= 2, "two parts", process)
        assert stopped(process, signal.SIGINT)[0] == 130
    assert "2 sessions are unfinished" in stage.run("resume", check=2).stderr
    assert "2 sessions start with" in stage.run("resume", "", check=2).stderr
    assert stage.run("resume", "--all", "12", check=2).stderr
    stage.run("resume", "--all")  # the first one's source is another one by now: it starts over
    assert fetch(stage.server, stage.key + "a") == fetch(stage.server, stage.key + "b") == Path(stage.path).read_bytes()


# Sources that change.


def test_source_changed_before_resume(stage: Stage) -> None:
    """The parts are of bytes that are gone: it is said, all is sent again, and the object is the new content."""
    stage.interrupted()
    random_file(stage.path, SIZE, seed=1)
    said = stage.run("resume").stderr
    assert re.search("starting over with .*: the file has changed since", said)
    stage.is_done()
    assert stage.key not in dict(list_uploads(stage.server))


def _append(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def _overwrite(path: str) -> None:
    """In place, other bytes in every chunk, and the time stamps put back."""
    before = os.stat(path)
    with open(path, "r+b") as file:
        for chunk in range(CHUNKS):
            file.seek(chunk * CHUNK + 100)
            file.write(b"other bytes")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _truncate(path: str) -> None:
    os.truncate(path, 2 * CHUNK + 5)


def _replace(path: str) -> None:
    random_file(path + ".new", SIZE, seed=9)
    os.replace(path + ".new", path)


CHANGES: dict[str, Callable[[str], None]] = {
    "append": _append,
    "overwrite": _overwrite,
    "truncate": _truncate,
    "replace": _replace,
    "touch": os.utime,
}


@pytest.mark.slow
@pytest.mark.parametrize("how", [slow("append"), "overwrite", slow("truncate"), "replace", slow("touch")])
def test_source_changed_while_it_is_sent(stage: Stage, how: str) -> None:
    """Exit 8 and no object, or an object that is exactly one whole content; the next run stores the new one."""
    before = Path(stage.path).read_bytes()
    process = stage.begun()
    CHANGES[how](stage.path)
    stage.proxy.rate = None
    after = Path(stage.path).read_bytes()
    process.communicate(timeout=20)
    if head(stage.server, stage.key):
        assert process.returncode == 0
        assert fetch(stage.server, stage.key) in (before, after)
    else:
        assert process.returncode == 8
    assert (process.returncode == 0) == (how in ("replace", "touch"))
    stage.run(*stage.args())
    assert fetch(stage.server, stage.key) == after
    assert stage.key not in dict(list_uploads(stage.server))  # parts of bytes that are gone are not kept


# Two processes.


def test_second_process_on_one_session(stage: Stage) -> None:
    """The second one leaves at once, with exit 75, and says who works on it; the first one is not disturbed."""
    stage.proxy.rate = 2.0 * MIB
    first = stage.begun()
    second = stage.jettyctl(*stage.args(), server=stage.proxy, check=75)
    assert f"held by pid {first.pid} on {socket.gethostname()}" in second.stderr
    refused = stage.jettyctl("sessions", "abort", stage.newest(), server=stage.proxy, check=75)
    assert f"held by pid {first.pid}" in refused.stderr
    stage.proxy.rate = None
    first.communicate(timeout=20)
    assert first.returncode == 0
    stage.each_part_once()
    stage.is_done()


# The sessions command.


@pytest.mark.slow
def test_sessions_list_show_abort_gc(stage: Stage) -> None:
    """An unfinished session is listed and shown; abort removes its parts from the server, gc its record."""
    session_id = stage.interrupted()
    assert re.search(rf"{session_id}  paused .* of 20.0 MiB", stage.run("sessions", "list").stdout)
    (listed,) = stage.run("sessions", "list", "--json").events
    assert [s["sessionId"] for s in listed["sessions"]] == [session_id]
    (shown,) = stage.run("sessions", "show", session_id[:8], "--json").events
    assert shown["session"]["status"] == "paused"
    assert shown["chunks"]["0"]["status"] == "completed"
    stage.run("sessions", "gc")
    assert stage.key in dict(list_uploads(stage.server))  # it is not old
    stage.run("sessions", "abort", session_id)
    assert stage.key not in dict(list_uploads(stage.server))
    assert recorded_status(stage.env, stage.key) == "failed"
    assert session_id in stage.run("sessions", "gc", "--older-than", "0s").stdout
    assert recorded_sessions(stage.env) == []
    stage.run("sessions", "show", session_id, check=2)


@pytest.mark.slow
def test_gc_of_old_unfinished_sessions(stage: Stage) -> None:
    """gc aborts an old unfinished upload at the server and forgets it; --dry-run only says so."""
    session_id = stage.interrupted()
    said = stage.run("sessions", "gc", "--older-than", "0s", "--dry-run").stdout
    assert f"would remove  unfinished upload  {session_id}" in said
    assert stage.key in dict(list_uploads(stage.server))
    stage.run("sessions", "gc", "--older-than", "0s")
    assert stage.key not in dict(list_uploads(stage.server))
    assert recorded_sessions(stage.env) == []


# Another machine.


@dataclass(frozen=True)
class Elsewhere:
    """A second machine: other directories, no endpoint in the environment, the same bytes at another path."""

    stage: Stage
    path: str

    def __call__(self, *args: str, check: int | None = 0) -> Result:
        env = {**self.stage.proxy.env, "JETTY_DATA_DIR": os.path.join(os.path.dirname(self.path), "data")}
        del env["AWS_ENDPOINT_URL_S3"]
        return self.stage.jettyctl(*args, env=env, check=check)

    def takes_over(self, exported: str) -> None:
        record = os.path.join(os.path.dirname(self.path), "session.json")
        Path(record).write_text(exported, encoding="utf-8")
        said = self("sessions", "import", "--source", self.path, record).stderr
        assert f"jettyctl resume --endpoint-url {self.stage.proxy.endpoint} " in said


@pytest.fixture
def elsewhere(stage: Stage) -> Elsewhere:
    place = stage.directory / "other machine"
    place.mkdir()
    random_file(place / "same.bin", SIZE)
    return Elsewhere(stage, str(place / "same.bin"))


@pytest.mark.slow
def test_a_session_moves_to_another_machine(stage: Stage, elsewhere: Elsewhere) -> None:
    """Exported here, imported there: only the rest is sent, and only once the endpoint was confirmed."""
    session_id = stage.interrupted()
    elsewhere.takes_over(stage.run("sessions", "export", session_id).stdout)
    stage.proxy.rate = None
    refused = elsewhere("resume", session_id, check=2)
    assert f"--endpoint-url {stage.proxy.endpoint}" in refused.stderr
    assert "resumed  " in elsewhere("resume", "--endpoint-url", stage.proxy.endpoint, session_id).stdout
    stage.each_part_once()
    assert fetch(stage.server, stage.key) == Path(stage.path).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("checksum", [slow("md5"), "none"])
@pytest.mark.parametrize("lie", ["checksums", slow("file"), "no checksums"])
def test_an_import_that_does_not_fit_the_file(stage: Stage, elsewhere: Elsewhere, lie: str, checksum: str) -> None:
    """Chunks whose record, or whose bytes at the server, are not the file's are sent again: never a wrong object."""
    exported = json.loads(stage.run("sessions", "export", stage.interrupted()).stdout)
    record = exported["chunks"]["0"]
    if lie == "checksums":
        record["chunkHash"] = "crc64nvme:0123456789abcdef"
    else:
        with open(elsewhere.path, "r+b") as file:
            file.write(b"other bytes than the server has")
    if lie == "no checksums":
        record["chunkHash"] = ""
    exported["session"]["options"]["connection"]["checksum"] = checksum
    elsewhere.takes_over(json.dumps(exported))
    endpoint = stage.proxy.endpoint
    elsewhere("resume", "--endpoint-url", endpoint, "--checksum", checksum, exported["session"]["sessionId"])
    assert fetch(stage.server, stage.key) == Path(elsewhere.path).read_bytes()
    assert parts_begun(stage.proxy, stage.key) == {1: 2, 2: 1, 3: 1, 4: 1}


@pytest.mark.parametrize("text", ["[]", '{"session": 1, "chunks": {}}', "[" * 100_000])
def test_an_import_of_what_is_no_session(stage: Stage, text: str) -> None:
    """Anything else in the file is a usage error in one line."""
    record = stage.directory / "record.json"
    record.write_text(text)
    said = stage.run("sessions", "import", str(record), check=2).stderr
    assert said.count("\n") == 1


@pytest.mark.slow
def test_an_import_for_a_file_of_another_size(stage: Stage, elsewhere: Elsewhere) -> None:
    """A file of another length cannot be the same: refused at once."""
    exported = stage.run("sessions", "export", stage.interrupted()).stdout
    record = stage.directory / "record.json"
    record.write_text(exported)
    _append(elsewhere.path)
    assert "bytes, the session's file" in elsewhere("sessions", "import", "--source", elsewhere.path, str(record), check=2).stderr

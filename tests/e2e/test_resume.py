"""Going on: which session is meant, sources that change, and a move to another machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.runs import CHUNK, only
from tests.e2e.stages import CHUNKS, RATE, SIZE, Stage, slow, stopped
from tests.e2e.watching import parts_begun, requests_for, until
from tests.support.faults import Fault, delay, error, other_object
from tests.support.running import Result, random_file
from tests.support.servers import client, fetch, head, list_uploads, store

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


# What was wished for an object that exists.


def _refused(stage: Stage, wish: str) -> None:
    """A run that the server lets send one part, and no more."""
    stage.proxy.forget()
    refusal = Fault("part", 2, error(403, "AccessDenied"))
    stage.proxy.faults.append(refusal)
    stage.run(*stage.args(), "--if-exists", wish, check=4)
    stage.proxy.faults.remove(refusal)


def test_a_resume_refuses_to_replace(stage: Stage) -> None:
    """`--if-exists fail` holds for `resume` as well: at the look, and at Complete, where the store is told so."""
    _refused(stage, "fail")
    store(stage.server, stage.key, b"theirs")
    stage.run("resume", check=7)
    assert fetch(stage.server, stage.key) == b"theirs"
    with client(stage.server) as s3:
        s3.delete_object(Bucket="bucket", Key=stage.key)
    stage.run("resume")
    assert [r.headers.get("if-none-match") for r in requests_for(stage.proxy, stage.key, "complete")] == ["*"]
    stage.is_done()


@pytest.mark.parametrize(
    ("wishes", "status", "theirs"),
    [
        (("overwrite", "fail"), 7, True),
        pytest.param(("fail", "skip"), 0, True, marks=pytest.mark.slow),
        pytest.param(("skip", "overwrite"), 0, False, marks=pytest.mark.slow),
    ],
)
def test_a_resume_goes_by_the_newest_wish(stage: Stage, wishes: tuple[str, str], status: int, theirs: bool) -> None:
    """What the last `upload` of the file said of objects that exist is what `resume` does."""
    for wish in wishes:
        _refused(stage, wish)
    store(stage.server, stage.key, b"theirs")
    stage.run("resume", check=status)
    assert (fetch(stage.server, stage.key) == b"theirs") == theirs


# Objects that are not the file.


def test_an_object_that_is_not_the_file_is_sent_again(stage: Stage) -> None:
    """Exit 6 if the look after Complete shows other bytes; for the next run, what made them is no proof of the file."""
    stage.proxy.faults.append(Fault("head", 2, other_object(SIZE), times=2))
    args = (*stage.args(), "--checksum", "crc64nvme", "--json")
    assert only(stage.run(*args, check=6), "error")["code"] == "integrity"
    told = only(stage.run(*args))
    assert (told["status"], told["bytes_sent"]) == ("uploaded", SIZE)
    stage.is_done()


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


def _cut_off(stage: Stage) -> dict[str, Any]:
    """The error of a resume whose source becomes shorter while a part of it is on its way."""
    _refused(stage, "overwrite")
    stage.proxy.forget()
    stage.proxy.faults.append(Fault("part", 1, delay(0.4)))
    process = stage.start("resume", "--threads", "1", "--json", server=stage.proxy, stdout=subprocess.PIPE)
    stage.wait_for_parts(1, process)
    os.truncate(stage.path, 2 * CHUNK)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 8
    (failure,) = [event for event in map(json.loads, said.splitlines()) if event["type"] == "error"]
    return dict(failure)


def test_a_source_that_is_cut_off_while_it_is_read(stage: Stage) -> None:
    """Whoever notices: no part stays at the store, and no session is named to go on with."""
    failure = _cut_off(stage)
    assert (failure["code"], failure["session_id"]) == ("source-changed", None)
    assert stage.key not in dict(list_uploads(stage.server))


def test_parts_that_could_not_be_removed(stage: Stage) -> None:
    """Their record leads `sessions gc` there."""
    stage.proxy.faults.append(Fault("abort", 1, error(403, "AccessDenied")))
    _cut_off(stage)
    assert stage.key in dict(list_uploads(stage.server))
    stage.run("sessions", "gc", "--older-than", "0s")
    assert stage.key not in dict(list_uploads(stage.server))


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

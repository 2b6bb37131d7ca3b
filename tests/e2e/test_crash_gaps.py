"""The gaps of the journal's write order: a real process dies in each of them, and the next run puts it right.

1 intent row, 2 CreateMultipartUpload, 3 upload id recorded, 4 a part's PUT, 5 its receipt recorded, 6 state completing,
7 Complete, 8 state completed. A `stall` holds a request before the server has it; a `held` reply has been applied by the
server, but does not reach the client; a locked journal holds the process where it wants to write.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from jettyctl.core.model import SESSION_METADATA
from jettyctl.core.session import Session
from tests.e2e.runs import CHUNK, Proxied, Starter
from tests.e2e.watching import parts_begun, recorded_sessions, recorded_status, requests_for, until
from tests.support.faults import Fault, delay, drop_reply, other_object, stall, trickle
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl, Result, random_file
from tests.support.servers import Server, client, fetch, head, list_uploads

CHUNKS = 4
HELD = 3600.0  # seconds between two bytes of a reply that is not to arrive


@dataclass(frozen=True)
class Stage:
    """One file on its way to one key of a server, through a proxy with faults."""

    jettyctl: Jettyctl
    start: Starter
    proxy: RecordingProxy
    server: Server
    path: str
    key: str

    def args(self, *more: str) -> tuple[str, ...]:
        return ("upload", "--threads", "2", "--chunk-size", str(CHUNK), *more, self.path, f"s3://bucket/{self.key}")

    def killed_when(self, reached: Callable[[], Any], *more: str) -> None:
        """Run until `reached()`, then SIGKILL. The faults are over after that."""
        process = self.start(*self.args(*more), server=self.proxy)
        until(reached, "the moment to kill", process)
        assert process.poll() is None
        process.kill()
        process.wait()
        self.proxy.faults.clear()

    def runs_again(self, *more: str) -> Result:
        """The same command again does it all: object identical, journal completed."""
        result = self.jettyctl(*self.args(*more), server=self.proxy, check=0)
        self.is_done()
        return result

    def is_done(self) -> None:
        with open(self.path, "rb") as file:
            assert fetch(self.server, self.key) == file.read()
        assert recorded_status(dict(self.jettyctl.environment), self.key) == "completed"

    def session(self) -> Session:
        """The newest session of the key in the journal."""
        return next(s for s in recorded_sessions(dict(self.jettyctl.environment)) if s.target.key == self.key)

    def seen(self, op: str) -> int:
        return len(requests_for(self.proxy, self.key, op))

    def stored_parts(self) -> set[int]:
        """The part numbers that the server has."""
        with client(self.server) as s3:
            answer = s3.list_parts(Bucket="bucket", Key=self.key, UploadId=self.session().upload_id)
        return {part["PartNumber"] for part in answer.get("Parts", [])}

    def unfinished(self) -> int:
        """How many unfinished uploads of the key the server has."""
        try:
            return [key for key, _ in list_uploads(self.server)].count(self.key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchUpload":  # rclone's way to say that there is none
                return 0
            raise

    @contextmanager
    def locked_journal(self) -> Iterator[None]:
        """The process can write nothing into its journal meanwhile, and waits."""
        lock = sqlite3.connect(os.path.join(self.jettyctl.environment["JETTY_DATA_DIR"], "journal.sqlite"), isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            lock.close()


@pytest.fixture
def stage(
    env: dict[str, str],
    jettyctl: Jettyctl,
    start_jettyctl: Starter,
    proxied: Proxied,
    tmp_path: os.PathLike[str],
    request: pytest.FixtureRequest,
) -> Stage:
    """A key of its own on moto, or `on_both` servers. The checksum is given, so that no probe mixes with what is counted."""
    env |= {"JETTY_DATA_DIR": os.path.join(tmp_path, "data"), "JETTY_CHECKSUM": "md5"}
    path = os.path.join(tmp_path, "file")
    random_file(path, CHUNKS * CHUNK - 4321)
    server: Server = request.getfixturevalue(getattr(request, "param", "moto"))
    key = re.sub(r"\W+", "-", request.node.name)
    return Stage(jettyctl, start_jettyctl, proxied(server), server, path, key)


on_both = pytest.mark.parametrize("stage", ["moto", "rclone"], indirect=True)
rclone_later = pytest.mark.parametrize("stage", ["moto", pytest.param("rclone", marks=pytest.mark.slow)], indirect=True)


ALL_ONCE = dict.fromkeys(range(1, CHUNKS + 1), 1)


def held() -> Any:  # noqa: ANN401 - an action of tests.support.faults, which has no public name
    """The server applies the request; its reply does not arrive, nor does the connection end."""
    return trickle(HELD)


def test_between_intent_and_create(stage: Stage) -> None:
    """1-2: there is an intent and no upload; the next run begins one."""
    stage.proxy.faults.append(Fault("create", 1, stall()))
    stage.killed_when(lambda: stage.seen("create"))
    assert stage.session().upload_id is None
    assert stage.unfinished() == 0
    stage.runs_again()
    assert parts_begun(stage.proxy, stage.key) == ALL_ONCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "cleaned"),
    [pytest.param("moto", "first", marks=pytest.mark.slow), ("rclone", "first"), ("moto", "afterwards")],
    indirect=["stage"],
)
def test_between_create_and_its_record(stage: Stage, cleaned: str) -> None:
    """2-3: the server has an upload whose id nobody knows; `gc` finds it by its key, before or after the next run."""
    stage.proxy.faults.append(Fault("create", 1, held()))
    stage.killed_when(lambda: stage.unfinished() == 1)
    assert stage.session().upload_id is None
    time.sleep(1.1)  # servers tell the time of an upload's begin in whole seconds
    if cleaned == "first":
        said = stage.jettyctl("sessions", "gc", "--older-than", "0s", "--dry-run", server=stage.proxy, check=0).stdout
        assert "would remove  orphan" in said
        assert stage.unfinished() == 1
        stage.jettyctl("sessions", "gc", "--older-than", "0s", server=stage.proxy, check=0)
        assert stage.unfinished() == 0
        assert recorded_sessions(dict(stage.jettyctl.environment)) == []
    stage.runs_again()
    stage.jettyctl("sessions", "gc", "--older-than", "0s", server=stage.proxy, check=0)
    assert stage.unfinished() == 0
    assert head(stage.server, stage.key) is not None
    assert parts_begun(stage.proxy, stage.key) == ALL_ONCE


def test_between_upload_id_and_first_part(stage: Stage) -> None:
    """3-4: the id is in the journal and no part was sent; the next run sends all of them to the same upload."""
    stage.proxy.faults.append(Fault("part", 1, stall(read=False), times=CHUNKS))
    stage.killed_when(lambda: stage.seen("part"))
    begun = parts_begun(stage.proxy, stage.key)
    stage.runs_again()
    assert stage.seen("create") == 1
    assert parts_begun(stage.proxy, stage.key) - begun == ALL_ONCE


@on_both
def test_between_a_part_and_its_receipt(stage: Stage) -> None:
    """4-5: the server has a part whose reply never came; its list tells the next run, which does not send it again."""
    stage.proxy.faults += [Fault("part", 1, held(), part=2), Fault("part", 1, stall(), part=4)]
    stage.killed_when(lambda: stage.seen("part") == CHUNKS and stage.stored_parts() == {1, 2, 3})
    said = stage.runs_again().stderr
    assert "resumed: 15.0 MiB" in said
    assert parts_begun(stage.proxy, stage.key) == {1: 1, 2: 1, 3: 1, 4: 2}
    assert stage.seen("create") == 1


def test_between_receipts_and_completing(stage: Stage) -> None:
    """5-6: all parts are there, neither the last receipts nor the state are recorded; nothing is sent again."""
    stage.proxy.faults.append(Fault("part", 1, delay(0.5), part=CHUNKS))
    process = stage.start(*stage.args(), server=stage.proxy)
    until(lambda: stage.seen("part") == CHUNKS, "the last part", process)
    with stage.locked_journal():
        until(lambda: all(r.ended for r in requests_for(stage.proxy, stage.key, "part")), "all parts' replies")
        time.sleep(0.2)
        assert process.poll() is None
        process.kill()
        process.wait()
    assert stage.session().status.value == "in_progress"
    stage.runs_again()
    assert parts_begun(stage.proxy, stage.key) == ALL_ONCE
    assert stage.seen("complete") == 1


@rclone_later
def test_between_completing_and_complete(stage: Stage) -> None:
    """6-7: Complete never reached the server; the next run sends it, and no part."""
    stage.proxy.faults.append(Fault("complete", 1, stall()))
    stage.killed_when(lambda: stage.seen("complete"))
    assert stage.session().status.value == "completing"
    assert head(stage.server, stage.key) is None
    stage.runs_again()
    assert parts_begun(stage.proxy, stage.key) == ALL_ONCE
    assert stage.seen("complete") == 2


@on_both
@pytest.mark.parametrize("if_exists", ["overwrite", pytest.param("fail", marks=pytest.mark.slow)])
def test_between_complete_and_its_reply(stage: Stage, if_exists: str) -> None:
    """7: the server made the object and its reply never came; the next run finds it by the session in its metadata."""
    stage.proxy.faults.append(Fault("complete", 1, held()))
    stage.killed_when(lambda: head(stage.server, stage.key), "--if-exists", if_exists)
    result = stage.runs_again("--json", "--if-exists", if_exists)
    told = next(event for event in result.events if event["type"] == "result")
    assert (told["status"], told["bytes_sent"]) == ("resumed", 0)
    assert parts_begun(stage.proxy, stage.key) == ALL_ONCE
    assert stage.seen("complete") == 1


def test_an_object_that_was_not_looked_at(stage: Stage) -> None:
    """7: the object that Complete made is not the file, by the receipts that are recorded; the next run sends it again."""
    checksum = ("--checksum", "crc64nvme")
    stage.proxy.faults.append(Fault("complete", 1, held()))
    stage.killed_when(lambda: head(stage.server, stage.key), *checksum)
    stage.proxy.forget()
    stamps = {SESSION_METADATA: stage.session().session_id}
    stage.proxy.faults.append(Fault("head", 1, other_object(os.path.getsize(stage.path), stamps), times=2))
    assert "is not the file that was sent" in stage.runs_again(*checksum).stderr
    assert parts_begun(stage.proxy, stage.key) == ALL_ONCE


@on_both
def test_between_complete_and_completed(stage: Stage) -> None:
    """7-8: the reply came and the record could not be written; the next run finds the object and writes it."""
    stage.proxy.faults.append(Fault("complete", 1, delay(0.4)))
    process = stage.start(*stage.args(), server=stage.proxy)
    until(lambda: stage.seen("complete"), "Complete", process)
    with stage.locked_journal():
        until(lambda: stage.seen("head") >= 2 and requests_for(stage.proxy, stage.key, "head")[-1].ended, "the look afterwards")
        time.sleep(0.2)
        assert process.poll() is None
        process.kill()
        process.wait()
    assert stage.session().status.value == "completing"
    stage.runs_again()
    assert parts_begun(stage.proxy, stage.key) == ALL_ONCE
    assert stage.seen("complete") == 1


@pytest.mark.slow
@on_both
@pytest.mark.parametrize("op", ["create", "part", "complete"])
def test_reply_lost_after_effect(stage: Stage, op: str) -> None:
    """A living process whose reply is lost asks again, or looks: success, and one object."""
    stage.proxy.faults.append(Fault(op, 2 if op == "part" else 1, drop_reply()))
    stage.runs_again()
    lost = 1 if op == "part" else 0
    assert parts_begun(stage.proxy, stage.key).total() == CHUNKS + lost
    assert max(stage.seen("create"), stage.seen("complete")) <= 2


@rclone_later
def test_upload_aborted_by_somebody(stage: Stage) -> None:
    """The store does not know the upload any more and there is no object: the next run says so and starts over."""
    stage.proxy.faults.append(Fault("part", 1, stall(), part=3))
    stage.killed_when(lambda: stage.seen("part") == CHUNKS and stage.stored_parts() == {1, 2, 4})
    old = stage.session()
    with client(stage.server) as s3:
        s3.abort_multipart_upload(Bucket="bucket", Key=stage.key, UploadId=old.upload_id)
    said = stage.runs_again().stderr
    assert re.search("starting over with .*: the unfinished upload is gone from the store", said)
    assert stage.session().session_id != old.session_id
    assert parts_begun(stage.proxy, stage.key) == {1: 2, 2: 2, 3: 2, 4: 2}


@rclone_later
def test_upload_completed_by_somebody(stage: Stage) -> None:
    """Somebody else completed the very upload: the next run finds the object, and sends nothing."""
    stage.proxy.faults.append(Fault("complete", 1, stall()))
    stage.killed_when(lambda: stage.seen("complete"))
    upload_id = stage.session().upload_id
    with client(stage.server) as s3:
        parts = s3.list_parts(Bucket="bucket", Key=stage.key, UploadId=upload_id)["Parts"]
        listed = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
        s3.complete_multipart_upload(Bucket="bucket", Key=stage.key, UploadId=upload_id, MultipartUpload={"Parts": listed})
    stage.runs_again()
    assert parts_begun(stage.proxy, stage.key) == ALL_ONCE
    assert stage.seen("complete") == 1

"""A store that is far: the upload is begun beside the look at the target, and taken back where that finds the file there."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from jettyctl.core.model import SHA256_METADATA
from tests.e2e.runs import CHUNK, Proxied, Starter
from tests.e2e.watching import parts_begun, recorded_sessions, recorded_status, requests_for, until
from tests.support.faults import EVERY, Fault, delay, stall, status
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl, random_file
from tests.support.servers import Server, client, fetch, list_uploads

KEY = "far"
HELD_BACK = 1.0  # seconds that the look's request waits


@dataclass(frozen=True)
class Far:
    """One file, a key of moto, and a proxy that is far."""

    jettyctl: Jettyctl
    start: Starter
    proxy: RecordingProxy
    moto: Server
    path: str
    args: tuple[str, ...]

    def seen(self, op: str) -> int:
        return len(requests_for(self.proxy, KEY, op))

    def arrived(self) -> bool:
        with open(self.path, "rb") as file:
            return fetch(self.moto, KEY) == file.read()

    def unfinished(self) -> int:
        return [key for key, _ in list_uploads(self.moto)].count(KEY)


@pytest.fixture
def far(
    moto: Server,
    env: dict[str, str],
    jettyctl: Jettyctl,
    start_jettyctl: Starter,
    proxied: Proxied,
    tmp_path: os.PathLike[str],
) -> Callable[..., Far]:
    """`far(fault, …)`, with nothing at the key. The checksum is given, so that no probe mixes with what is counted."""
    with client(moto) as s3:
        s3.delete_object(Bucket=moto.bucket, Key=KEY)
    env |= {"JETTY_DATA_DIR": os.path.join(tmp_path, "data"), "JETTY_CHECKSUM": "md5"}
    path = random_file(os.path.join(tmp_path, "file"), 4 * CHUNK)

    def stage(*faults: Fault) -> Far:
        proxy = proxied(moto, far=True, faults=list(faults))
        key = f"s3://{moto.bucket}/{KEY}"
        return Far(jettyctl, start_jettyctl, proxy, moto, path, ("upload", "--chunk-size", str(CHUNK), path, key))

    return stage


def test_the_upload_is_begun_beside_the_look(far: Callable[..., Far]) -> None:
    """Create is not held up by a look whose answer takes long; parts are: they wait for what it says."""
    stage = far(Fault("head", 1, delay(HELD_BACK)))
    stage.jettyctl(*stage.args, server=stage.proxy, check=0)
    (created,) = requests_for(stage.proxy, KEY, "create")
    looked = requests_for(stage.proxy, KEY, "head")[0]
    assert created.ended is not None
    assert looked.ended is not None
    assert created.ended < looked.ended
    assert min(r.at for r in requests_for(stage.proxy, KEY, "part")) > looked.ended
    assert stage.arrived()
    assert recorded_status(dict(stage.jettyctl.environment), KEY) == "completed"


@pytest.mark.parametrize(("threads", "opened"), [("2", 3), ("16", 9)])
def test_connections_are_opened_while_the_first_one_is_waited_for(far: Callable[..., Far], threads: str, opened: int) -> None:
    """One for each of the four parts, and five for what comes before; three at least, as many as go out beside each other."""
    stage = far(Fault("head", 1, delay(HELD_BACK)))
    stage.jettyctl(*stage.args, "--threads", threads, server=stage.proxy, check=0)
    looked = requests_for(stage.proxy, KEY, "head")[0]
    assert looked.ended is not None
    assert sum(at < looked.ended for at in stage.proxy.connected) == opened
    assert stage.arrived()


def test_a_file_that_is_there_is_not_sent_and_leaves_nothing(far: Callable[..., Far], moto: Server) -> None:
    """Another machine put it there: the upload that was begun in vain is gone from the store, and from the journal."""
    stage = far()
    with open(stage.path, "rb") as file, client(moto) as s3:
        said = {SHA256_METADATA: hashlib.sha256(file.read()).hexdigest()}
        file.seek(0)
        s3.put_object(Bucket=moto.bucket, Key=KEY, Body=file, Metadata=said)
    result = stage.jettyctl(*stage.args, "--json", server=stage.proxy, check=0)
    assert '"status": "unchanged"' in result.stdout
    assert result.stderr == ""
    assert (stage.seen("create"), stage.seen("part"), stage.seen("abort")) == (1, 0, 1)
    assert stage.unfinished() == 0
    assert recorded_sessions(dict(stage.jettyctl.environment)) == []


def test_another_file_that_is_there_is_replaced(far: Callable[..., Far], moto: Server) -> None:
    """The look hashed the file, and what was begun beside it is of no use any more: the upload is."""
    stage = far()
    said = {SHA256_METADATA: hashlib.sha256(b"another").hexdigest()}
    with client(moto) as s3:
        s3.put_object(Bucket=moto.bucket, Key=KEY, Body=bytes(4 * CHUNK), Metadata=said)
    stage.jettyctl(*stage.args, server=stage.proxy, check=0)
    assert (stage.seen("create"), stage.seen("abort")) == (1, 0)
    assert stage.arrived()


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_what_may_not_be_replaced_is_looked_at_first(far: Callable[..., Far], moto: Server, policy: str) -> None:
    """With `--if-exists skip` or `fail` nothing is begun before the answer."""
    with client(moto) as s3:
        s3.put_object(Bucket=moto.bucket, Key=KEY, Body=b"another")
    stage = far()
    stage.jettyctl(*stage.args, "--if-exists", policy, server=stage.proxy)
    assert (stage.seen("head"), stage.seen("create")) == (1, 0)


@pytest.mark.slow  # eight tries
def test_after_a_look_that_failed_the_session_is_resumed(far: Callable[..., Far]) -> None:
    """The next run goes on with the upload that was begun; there is no second one."""
    stage = far(Fault("head", 1, status(400), times=EVERY))
    stage.jettyctl(*stage.args, server=stage.proxy, check=5)
    assert stage.seen("part") == 0
    stage.proxy.faults.clear()
    stage.jettyctl(*stage.args, server=stage.proxy, check=0)
    assert stage.seen("create") == 1
    assert stage.arrived()
    assert stage.unfinished() == 0


def test_a_kill_between_create_and_the_answer_leaves_a_session(far: Callable[..., Far]) -> None:
    """As every session with nothing sent, it is resumed."""
    stage = far(Fault("head", 1, stall()))
    process: subprocess.Popen[bytes] = stage.start(*stage.args, server=stage.proxy)
    until(lambda: any(s.upload_id for s in recorded_sessions(dict(stage.jettyctl.environment))), "the upload's id", process)
    process.kill()
    process.wait()
    stage.proxy.faults.clear()
    stage.jettyctl(*stage.args, server=stage.proxy, check=0)
    assert stage.seen("create") == 1
    assert sum(parts_begun(stage.proxy, KEY).values()) == 4
    assert stage.arrived()


@pytest.mark.slow  # eight tries
def test_a_store_that_no_connection_comes_to_leaves_no_session(
    moto: Server, env: dict[str, str], jettyctl: Jettyctl, tmp_path: os.PathLike[str]
) -> None:
    """There is nothing to resume where nothing was begun."""
    env["JETTY_DATA_DIR"] = os.path.join(tmp_path, "data")
    path = random_file(os.path.join(tmp_path, "file"), 4 * CHUNK)
    with socket.socket() as kept:  # nobody listens there, and no other test's server can in the seconds that this takes
        kept.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{kept.getsockname()[1]}"
        jettyctl("upload", path, "s3://bucket/none", "--endpoint-url", closed, server=moto, check=5)
    assert recorded_sessions(env) == []


def test_who_has_no_credentials_waits_for_no_connection(jettyctl: Jettyctl, tmp_path: os.PathLike[str]) -> None:
    """The look fails before anything is sent, and so does the upload that was to be begun beside it."""
    path = random_file(os.path.join(tmp_path, "file"), 4 * CHUNK)
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{kept.getsockname()[1]}"
        said = jettyctl("upload", path, "s3://bucket/none", "--endpoint-url", closed, check=4).stderr
    assert "no AWS credentials" in said

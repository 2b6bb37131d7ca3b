"""Nobody waits for what cannot come any more: each of these runs ends by itself, with the status that says how."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.runs import CHUNK, MIB, Proxied, Starter
from tests.support.faults import EVERY, Fault, delay, error, stall
from tests.support.running import Jettyctl, random_file
from tests.support.servers import Server, head, list_uploads

pytestmark = pytest.mark.usefixtures("home")
ENDS = 15.0  # seconds
DENIED = error(403, "AccessDenied")


class Short(Jettyctl):
    """A run whose leaders stop to wait for acknowledgements after two chunks."""

    @staticmethod
    def command(*args: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-m", "tests.support.short_lead", *args]


@pytest.fixture
def short(env: dict[str, str]) -> Short:
    env["JETTY_CHECKSUM"] = "md5"
    return Short(env, str(Path(__file__).parents[2]))


def chunked(*args: str) -> list[str]:
    return ["upload", "--chunk-size", str(CHUNK), *args]


def test_a_part_that_fails_while_the_leader_waits_for_it(moto: Server, short: Short, proxied: Proxied, tmp_path: Path) -> None:
    """Everything that may be ahead is on its way, and the first part is refused: the leader waits for it no longer."""
    proxy = proxied(moto, faults=[Fault("part", 1, DENIED, part=1, times=EVERY), Fault("part", 1, delay(0.3), part=2)])
    path = random_file(tmp_path / "file", 6 * CHUNK)
    short(*chunked("--threads", "4", str(path), "s3://bucket/refused"), server=proxy, check=4, timeout=ENDS)


def test_a_part_that_waits_to_be_tried_again_when_another_fails(
    moto: Server, jettyctl: Jettyctl, proxied: Proxied, tmp_path: Path
) -> None:
    """The store asked for a minute of patience, but the file has failed meanwhile."""
    busy = error(503, "SlowDown", headers={"Retry-After": "60"})
    proxy = proxied(moto, faults=[Fault("part", 1, busy, part=1), Fault("part", 1, DENIED, part=6)])
    path = random_file(tmp_path / "file", 6 * CHUNK)
    arguments = chunked("--threads", "4", "--checksum", "md5", str(path), "s3://bucket/patient")
    jettyctl(*arguments, server=proxy, check=4, timeout=ENDS)
    assert proxy.parts_sent()[1] == 1  # it was refused, and not tried again


@pytest.mark.slow
def test_leaders_do_not_keep_others_from_working(moto: Server, short: Short, proxied: Proxied, tmp_path: Path) -> None:
    """Two files whose leaders wait, in a run that has two threads of a kind, for a rate limit: what is left is written down."""
    proxy = proxied(moto, faults=[Fault("part", 1, DENIED, times=EVERY)])
    paths = [str(random_file(tmp_path / name, 4 * CHUNK)) for name in ("a", "b")]
    short(*chunked("--limit-rate", "2MiB/s", *paths, "s3://bucket/two/"), server=proxy, check=4, timeout=ENDS)


def test_a_bug_ends_the_run(moto: Server, short: Short, proxied: Proxied, tmp_path: Path) -> None:
    """An error of ours is told at once, whatever else is in work and waits."""
    proxy = proxied(moto, faults=[Fault("part", 1, stall(), times=EVERY)])
    first, second = (random_file(tmp_path / name, 6 * CHUNK) for name in ("first", "second"))
    found = short("--bug", *chunked(str(first), str(second), "s3://bucket/bug/"), server=proxy, timeout=ENDS)
    assert found.returncode not in (0, 130)
    assert "a bug" in found.stderr


@pytest.mark.parametrize("size", [1000, 33 * MIB])
def test_ctrl_c_at_a_pipe_makes_no_object(moto: Server, start_jettyctl: Starter, size: int) -> None:
    """The terminal sends it to whoever writes, too: an end that comes with it is none."""
    key = f"pipe-{size}"
    process = start_jettyctl("upload", "-", f"s3://bucket/{key}", server=moto, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(bytes(size))
    process.stdin.flush()
    time.sleep(1)  # it reads by now
    process.send_signal(signal.SIGINT)
    process.stdin.close()
    assert process.wait(5) == 130
    assert head(moto, key) is None
    assert not [upload for upload in list_uploads(moto) if key in str(upload)]


@pytest.mark.parametrize("size", [0, 1000, pytest.param(33 * MIB, marks=pytest.mark.slow)])
def test_a_silent_pipe_is_left(moto: Server, start_jettyctl: Starter, size: int) -> None:
    """Nobody writes and nobody closes it: a stop does not wait for either, and says that nothing was stored."""
    process = start_jettyctl("upload", "-", "s3://bucket/silent", server=moto, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(bytes(size))
    process.stdin.flush()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.wait(5) == 130
    assert time.monotonic() - began < 2
    assert process.stderr
    assert b"upload - s3://bucket/silent" in process.stderr.read()
    assert head(moto, "silent") is None

"""Stopping, and giving up: signals, a second process on one session, and the sessions command."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import time

import pytest

from tests.e2e.runs import CHUNK, MIB
from tests.e2e.stages import CHUNKS, SIZE, Stage, slow, stopped
from tests.e2e.watching import recorded_sessions, recorded_status, requests_for, until
from tests.support.faults import EVERY, Fault, stall
from tests.support.running import random_file
from tests.support.servers import fetch, head, list_uploads

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


# Two processes.


def test_second_process_on_one_session(stage: Stage) -> None:
    """The second one leaves at once, with exit 75, and says who works on it; the first one is not disturbed, nor by gc."""
    stage.proxy.rate = 2.0 * MIB
    first = stage.begun()
    second = stage.jettyctl(*stage.args(), server=stage.proxy, check=75)
    assert f"held by pid {first.pid} on {socket.gethostname()}" in second.stderr
    refused = stage.jettyctl("sessions", "abort", stage.newest(), server=stage.proxy, check=75)
    assert f"held by pid {first.pid}" in refused.stderr
    assert not stage.jettyctl("sessions", "gc", "--older-than", "0s", server=stage.proxy, check=0).stdout
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

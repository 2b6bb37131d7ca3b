"""What is there already is not sent again, nor replaced unless that is wanted; a dry run says so before."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.runs import CHUNK, MIB, Proxied, Starter, only, ours, results, sent, url, writes
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl
from tests.support.servers import Server, fetch, head, store


@pytest.mark.slow
def test_unchanged_files_are_not_sent(
    s3_server: Server, jettyctl: Jettyctl, proxied: Proxied, make: Callable[..., Path], prefix: str
) -> None:
    """The second run sends no byte of a file; after one changed in place, only that one."""
    small, large = make("d/small", 1000), make("d/large", 2 * CHUNK)
    proxy = proxied(s3_server)
    again = ["upload", "-r", "d", url(proxy, prefix), "--json", "--chunk-size", "5MiB"]
    jettyctl(*again, server=proxy, check=0)
    proxy.forget()
    run = jettyctl(*again, server=proxy, check=0)
    assert (sent(proxy), writes(proxy)) == (0, 0)
    assert {told["status"] for told in results(run).values()} == {"unchanged"}
    assert {name: told["bytes_reused"] for name, told in results(run).items()} == {"small": 1000, "large": 2 * CHUNK}
    for path, other in ((small, "large"), (large, "small")):
        make(f"d/{path.name}", path.stat().st_size, seed=1)
        proxy.forget()
        told = results(jettyctl(*again, server=proxy, check=0))
        assert (told[path.name]["status"], told[other]["status"]) == ("uploaded", "unchanged")
        assert sent(proxy) == path.stat().st_size
        assert fetch(s3_server, prefix + path.name) == path.read_bytes()


def test_a_new_mtime_alone_changes_nothing(
    s3_server: Server, jettyctl: Jettyctl, proxied: Proxied, make: Callable[..., Path], prefix: str
) -> None:
    """The same bytes with another time stamp are hashed again, not sent again."""
    paths = [make("d/small", 1000), make("d/large", 2 * CHUNK)]
    proxy = proxied(s3_server)
    again = ["upload", "-r", "d", url(proxy, prefix), "--json", "--chunk-size", "5MiB"]
    jettyctl(*again, server=proxy, check=0)
    for path in paths:
        os.utime(path, (1, 1))
    proxy.forget()
    run = jettyctl(*again, server=proxy, check=0)
    assert {told["status"] for told in results(run).values()} == {"unchanged"}
    assert (sent(proxy), writes(proxy)) == (0, 0)


def test_a_forged_mtime_does_not_hide_a_change(
    s3_server: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str
) -> None:
    """Other bytes of the same size under the old time stamp are noticed and sent."""
    before = make("file", 1000).stat()
    jettyctl("upload", "file", url(s3_server, prefix), server=s3_server, check=0)
    path = make("file", 1000, seed=1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    run = jettyctl("upload", "file", url(s3_server, prefix), "--json", server=s3_server, check=0)
    assert only(run)["status"] == "uploaded"
    assert fetch(s3_server, f"{prefix}file") == path.read_bytes()


def test_an_object_replaced_by_others_is_sent_again(
    s3_server: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str
) -> None:
    """Our record of what was stored counts only while the object is still that one."""
    path = make("file", 1000)
    jettyctl("upload", "file", url(s3_server, prefix), server=s3_server, check=0)
    store(s3_server, f"{prefix}file", b"x" * 1000)
    jettyctl("upload", "file", url(s3_server, prefix), server=s3_server, check=0)
    assert fetch(s3_server, f"{prefix}file") == path.read_bytes()


def test_if_exists(s3_server: Server, jettyctl: Jettyctl, proxied: Proxied, make: Callable[..., Path], prefix: str) -> None:
    """Objects that are there are refused, left alone, or replaced, as told, in one request or in parts."""
    paths = {f"{prefix}{name}": make(f"d/{name}", size) for name, size in (("small", 1000), ("large", CHUNK + 1))}
    proxy = proxied(s3_server)
    command = ["upload", "-r", "d", url(proxy, prefix), "--json", "--chunk-size", "5MiB", "--if-exists"]
    for key in paths:
        store(s3_server, key, b"theirs")
    run = jettyctl(*command, "fail", server=proxy, check=7)
    assert [event["code"] for event in run.events if event["type"] == "error"] == ["exists", "exists"]
    run = jettyctl(*command, "skip", server=proxy, check=0)
    assert only(run, "summary")["skipped"] == 2
    assert sent(proxy) == 0
    assert {fetch(s3_server, key) for key in paths} == {b"theirs"}
    jettyctl(*command, "overwrite", server=proxy, check=0)
    assert all(fetch(s3_server, key) == path.read_bytes() for key, path in paths.items())


def test_if_exists_lets_new_objects_pass(s3_server: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str) -> None:
    """With --if-exists fail, what is not there yet is stored, in one request or in parts."""
    paths = {f"{prefix}{name}": make(f"d/{name}", size) for name, size in (("small", 1000), ("large", CHUNK + 1))}
    command = ["upload", "-r", "d", url(s3_server, prefix), "--chunk-size", "5MiB", "--if-exists", "fail"]
    jettyctl(*command, server=s3_server, check=0)
    assert all(fetch(s3_server, key) == path.read_bytes() for key, path in paths.items())


def interrupted(start: Starter, proxy: RecordingProxy, *args: str) -> None:
    """Begin an upload and stop it by SIGINT when a part has arrived."""
    process = start(*args, server=proxy)
    deadline = time.monotonic() + 30
    while not any(part.succeeded for part in ours(proxy, "part")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


@pytest.mark.slow
def test_restart_ignores_the_unfinished_session(
    s3_server: Server,
    jettyctl: Jettyctl,
    start_jettyctl: Starter,
    proxied: Proxied,
    make: Callable[..., Path],
    prefix: str,
) -> None:
    """A dry run shows that an interrupted upload would be resumed; --restart sends all of it again."""
    path, proxy = make("file", 4 * CHUNK), proxied(s3_server, rate=8 * MIB)
    command = ["upload", "file", url(proxy, prefix), "--chunk-size", "5MiB", "--threads", "1"]
    interrupted(start_jettyctl, proxy, *command)
    proxy.rate = None
    proxy.forget()
    plan = only(jettyctl(*command, "--dry-run", "--json", server=proxy, check=0), "plan")
    assert (plan["action"], writes(proxy)) == ("resume", 0)
    assert plan["bytes_reused"] >= CHUNK
    told = only(jettyctl(*command, "--restart", "--json", server=proxy, check=0))
    assert (told["status"], told["bytes_sent"], told["bytes_reused"]) == ("uploaded", 4 * CHUNK, 0)
    assert sent(proxy) == 4 * CHUNK
    assert fetch(s3_server, f"{prefix}file") == path.read_bytes()


def test_dry_run_sends_nothing(
    s3_server: Server, jettyctl: Jettyctl, proxied: Proxied, make: Callable[..., Path], prefix: str
) -> None:
    """A dry run only looks: no request changes anything, and the plan names every file, its cut and what would be skipped."""
    make("d/small", 1000)
    make("d/large", 2 * CHUNK + 1)
    store(s3_server, f"{prefix}there", b"theirs")
    make("d/there", 10)
    proxy = proxied(s3_server)
    command = ["upload", "-r", "d", url(proxy, prefix), "--dry-run", "--if-exists", "skip", "--chunk-size", "5MiB"]
    run = jettyctl(*command, "--json", server=proxy, check=0)
    plans = {event["source"]: event for event in run.events if event["type"] == "plan"}
    assert {name: (plan["action"], plan["chunks"]) for name, plan in plans.items()} == {
        "d/large": ("upload", 3),
        "d/small": ("upload", 1),
        "d/there": ("skip", 1),
    }
    run = jettyctl(*command, server=proxy, check=0)
    assert len(run.stdout.splitlines()) == 3
    assert "3 chunks of 5.0 MiB" in run.stdout
    assert "2 of 3 files would be sent" in run.stderr
    assert writes(proxy) == 0
    assert head(s3_server, f"{prefix}small") is None

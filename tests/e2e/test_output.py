"""What `jettyctl upload` says in words, and what it does where nobody can read them: broken and closed outputs."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runs import SLOW, Starter
from tests.support.running import Jettyctl
from tests.support.servers import Server, fetch

pytestmark = pytest.mark.usefixtures("home", "xterm")


# Words.


def test_quiet(jettyctl: Jettyctl, several: Path) -> None:
    """With -q, what went well is not mentioned, and what failed is."""
    run = jettyctl("upload", "-q", "-r", "d", check=0)
    assert (run.stdout, run.stderr) == ("", "")
    run = jettyctl("upload", "-q", "-r", "d", "gone", check=3)
    assert run.stdout == ""
    assert run.stderr == "jettyctl: gone does not exist. Check the path.\n"


def test_results_and_talk_are_apart(jettyctl: Jettyctl, several: Path) -> None:
    """Standard output has one line for each file and nothing else, however much is talked."""
    for options in ([], ["-vv"], ["--progress"]):
        run = jettyctl("upload", "-r", "d", "gone", "--chunk-size", "5MiB", "--restart", *options, check=3)
        words = [line.split()[:2] for line in run.stdout.splitlines()]
        assert {tuple(found) for found in words} == {
            (run.stdout.split()[0], f"local:d/{name}") for name in ("large", "one", "none")
        }
        assert all(line.startswith("jettyctl: ") for line in run.stderr.splitlines())
        assert "1 failed" in run.stderr


def test_a_result_line_has_the_hash(jettyctl: Jettyctl, several: Path) -> None:
    """The line of a file ends with its SHA-256, as `jettyctl hash` prints it."""
    run = jettyctl("upload", "d/one", check=0)
    digest = jettyctl("hash", "d/one", check=0).stdout.split()[0]
    assert re.fullmatch(rf"uploaded  local:one  1000 B  [0-9.]+ [KMG]?i?B/s  sha256:{digest}\n", run.stdout)
    assert run.stderr == ""


# Broken outputs.


@contextlib.contextmanager
def broken(kind: str) -> Iterator[int]:
    """A descriptor that cannot be written to."""
    if kind == "full":
        fd = os.open("/dev/full", os.O_WRONLY)
    elif kind == "hung up":
        ours, fd = pty.openpty()
        os.close(ours)
    else:
        reader, fd = os.pipe()
        os.close(reader)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", ["pipe", "full", "hung up"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_broken_outputs_do_no_harm(start_jettyctl: Starter, home: Path, several: Path, stream: str, kind: str) -> None:
    """A reader that went away, a full disk or a closed terminal costs the words, never the files."""
    with broken(kind) as fd:
        process = start_jettyctl("upload", "-r", "-vv", "d", "--chunk-size", "5MiB", **{stream: fd})
        assert process.wait(30) == 0
    assert {path.name: path.read_bytes() for path in home.iterdir()} == {
        path.name: path.read_bytes() for path in several.iterdir()
    }


def test_broken_output_of_json(moto: Server, start_jettyctl: Starter, several: Path) -> None:
    """The same holds with --json, at a server."""
    with broken("pipe") as fd:
        args = ["upload", "-r", "d", "s3://bucket/test_broken_output_of_json/", "--json", "--chunk-size", "5MiB"]
        process = start_jettyctl(*args, server=moto, stdout=fd, stderr=fd)
        assert process.wait(30) == 0
    assert fetch(moto, "test_broken_output_of_json/large") == (several / "large").read_bytes()


@pytest.mark.slow
def test_reader_that_leaves_in_the_middle(start_jettyctl: Starter, home: Path, file: Path) -> None:
    """A reader may leave at any time, as `head -1` does."""
    process = start_jettyctl("upload", "file", "--json", *SLOW, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 0
    assert (home / "file").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("closing", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(jettyctl: Jettyctl, home: Path, several: Path, closing: str) -> None:
    """Without standard streams, their numbers are not taken by files that are then written over."""
    command = [sys.executable, "-m", "jettyctl", "upload", "-r", "-v", "d", "--chunk-size", "5MiB"]
    done = subprocess.run(["sh", "-c", f'"$@" {closing}', "sh", *command], cwd=jettyctl.cwd, env=jettyctl.environment, timeout=30)
    assert done.returncode == 0
    assert {path.name: path.read_bytes() for path in home.iterdir()} == {
        path.name: path.read_bytes() for path in several.iterdir()
    }
    assert jettyctl("upload", "-r", "d", "--json", check=0).events[-1]["unchanged"] == 3


# The version.


def test_version(jettyctl: Jettyctl) -> None:
    """`--version` says one line."""
    run = jettyctl("--version", check=0)
    assert re.fullmatch(r"jettyctl \d+\.\d+\.\d+\S*\n", run.stdout)

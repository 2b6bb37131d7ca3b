"""What `jettyctl upload` says, and where: JSON lines, results and talk for people, live progress, broken terminals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Fault, error
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl, random_file
from tests.support.servers import Server, fetch

MIB = 1 << 20
CHUNK = 5 * MIB
SLOW = ("--chunk-size", "5MiB", "--limit-rate", "6MiB/s")
COLOUR = re.compile(rb"\x1b\[[0-9;]*[1-9][0-9;]*m")  # any attribute but "reset"
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

PLAN = {"source", "url", "size", "chunk_size", "chunks", "threads", "multipart", "checksum", "action", "bytes_reused"}
PROGRESS = {
    "files_total",
    "files_done",
    "bytes_total",
    "bytes_done",
    "bytes_reused",
    "bytes_sent",
    "bytes_hashed",
    "seconds",
    "in_flight",
    "limit",
}
RESULT = {
    *("source", "url", "status", "size", "bytes_sent", "bytes_reused", "sha256", "etag", "session_id", "chunks"),
    *("chunks_reused", "edges", "seconds"),
}
ERROR = {"code", "message", "hint", "source", "retryable", "exit_code"}
SUMMARY = {
    *(
        "bottleneck",
        "files",
        "uploaded",
        "resumed",
        "unchanged",
        "cloned",
        "skipped",
        "failed",
        "bytes",
        "bytes_sent",
        "bytes_reused",
        "seconds",
        "routes",
    ),
    "interrupted",
}
FIELDS = {"plan": PLAN, "progress": PROGRESS, "result": RESULT, "error": ERROR | {"url", "session_id"}, "summary": SUMMARY}

Starter = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(autouse=True)
def home(env: dict[str, str], tmp_path: Path) -> Path:
    """The root of the embedded store's objects."""
    env["JETTY_DATA_DIR"] = str(tmp_path / "data")
    env["TERM"] = "xterm-256color"
    env.pop("CI", None)
    return tmp_path / "data" / "store" / "objects"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three chunks; more than a second at the rate of SLOW."""
    random_file(tmp_path / "file", 3 * CHUNK)
    return tmp_path / "file"


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A directory with a file in parts and two small ones."""
    (tmp_path / "d").mkdir()
    for name, size in (("large", 2 * CHUNK), ("one", 1000), ("none", 0)):
        random_file(tmp_path / "d" / name, size)
    return tmp_path / "d"


def of(events: list[Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


# JSON.


def assert_documented(events: list[Any]) -> None:
    """Every line has the schema's number, a known type, and exactly the fields of that type."""
    for event in events:
        assert event["schema"] == 1
        assert event.keys() - {"schema", "type"} == FIELDS[event["type"]]


def test_json_of_an_upload(moto: Server, jettyctl: Jettyctl, several: Path) -> None:
    """A run tells a plan and a result for each file, and a summary at the end that counts them."""
    command = ["upload", "-r", "d", "s3://bucket/test_json_of_an_upload/", "--json", "--chunk-size", "5MiB"]
    first, second = (jettyctl(*command, server=moto, check=0).events for _ in range(2))
    for events in (first, second):
        assert_documented(events)
        assert len(of(events, "plan")) == len(of(events, "result")) == 3
        assert [event["type"] for event in events].index("summary") == len(events) - 1
    total = 2 * CHUNK + 1000
    counted = {"files": 3, "failed": 0, "skipped": 0, "resumed": 0, "bytes": total, "interrupted": False}
    assert of(first, "summary")[0].items() >= {**counted, "uploaded": 3, "unchanged": 0, "bytes_sent": total}.items()
    assert of(second, "summary")[0].items() >= {**counted, "uploaded": 0, "unchanged": 3, "bytes_sent": 0}.items()
    assert {plan["action"] for plan in of(first, "plan")} == {"upload"}
    assert {plan["action"] for plan in of(second, "plan")} == {"unchanged"}
    large = next(plan for plan in of(first, "plan") if plan["source"] == "d/large")
    assert (large["chunks"], large["chunk_size"], large["multipart"], large["size"]) == (2, CHUNK, True, 2 * CHUNK)


def test_json_of_a_plan(jettyctl: Jettyctl, several: Path) -> None:
    """A dry run tells the same plans, and a summary of nothing done."""
    events = jettyctl("upload", "-r", "d", "--json", "--dry-run", check=0).events
    assert_documented(events)
    assert len(of(events, "plan")) == 3
    assert of(events, "result") == []
    assert of(events, "summary")[0].items() >= {"files": 3, "uploaded": 0, "bytes_sent": 0}.items()


def test_json_of_a_failure(jettyctl: Jettyctl, file: Path) -> None:
    """A file that fails is an error line with what a script needs to decide; the run goes on to its summary."""
    run = jettyctl("upload", "gone", "file", "--json", "--no-progress", check=3)
    assert_documented(run.events)
    (error,) = of(run.events, "error")
    assert (error["source"], error["code"], error["exit_code"], error["retryable"]) == ("gone", "source", 1, False)
    assert error["message"]
    assert error["hint"]
    assert of(run.events, "summary")[0].items() >= {"files": 2, "uploaded": 1, "failed": 1}.items()
    assert run.stderr == ""


@pytest.mark.parametrize("args", [["file", "--threads", "x", "--json"], ["--json"], ["file", "--json", "--no-such"]])
def test_json_of_a_usage_error(jettyctl: Jettyctl, file: Path, args: list[str]) -> None:
    """What ends the command before it begins is one line of JSON too."""
    run = jettyctl("upload", *args, check=2)
    (event,) = run.events
    assert event["type"] == "error"
    assert event.keys() - {"schema", "type"} == ERROR
    assert (event["code"], event["exit_code"], event["schema"]) == ("usage", 2, 1)
    assert run.stderr == ""


def test_json_by_variable_covers_usage_errors(jettyctl: Jettyctl, file: Path) -> None:
    """Whoever asked for JSON in the environment gets errors as JSON."""
    run = jettyctl("upload", "file", "--threads", "x", env={"JETTY_JSON": "1"}, check=2)
    assert run.events[0]["code"] == "usage"


@pytest.mark.slow
def test_json_progress_is_rare(start_jettyctl: Starter, file: Path) -> None:
    """At most two progress lines a second, each as soon as it is true."""
    process = start_jettyctl("upload", "file", "--json", *SLOW, stdout=subprocess.PIPE)
    assert process.stdout is not None
    seen: list[tuple[float, dict[str, Any]]] = []
    for line in process.stdout:
        event = json.loads(line)
        if event["type"] == "progress":
            seen.append((time.monotonic(), event))
    assert process.wait(10) == 0
    times = [at for at, _ in seen]
    assert 3 <= len(seen) <= 2 * (times[-1] - times[0]) + 2
    assert [event["bytes_done"] for _, event in seen] == sorted(event["bytes_done"] for _, event in seen)
    assert {event["bytes_total"] for _, event in seen[1:]} == {3 * CHUNK}


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


# Terminals.


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal of 80 columns and 24 lines: the side of a person, and the side of a program."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        yield ours, theirs
    finally:
        for fd in (ours, theirs):
            with contextlib.suppress(OSError):
                os.close(fd)


def on_terminal(start: Starter, *args: str | bytes, env: Mapping[str, str] | None = None, results_too: bool = True) -> bytes:
    """What a run writes to a terminal. It must succeed."""
    with terminal() as (ours, theirs):
        stdout = theirs if results_too else subprocess.DEVNULL
        process = start(*args, env=env, stdin=theirs, stdout=stdout, stderr=theirs)
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # the end, as Linux says it
            while data := os.read(ours, 65536):
                written += data
        assert process.wait(20) == 0, written
    return written


def screen(written: str) -> list[str]:
    """The lines that are left on a terminal without wrapping, as far as line breaks, CR, "up" and "erase" decide."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\r":
            column = 0
        elif piece.startswith("\x1b"):
            row -= int(piece[2:-1] or 1) if piece.endswith("A") else 0
            lines[row] = "" if piece.endswith("2K") else lines[row]
        else:
            lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
            column += len(piece)
    return [line for line in lines if line]


@pytest.mark.slow
def test_live_progress(start_jettyctl: Starter, file: Path) -> None:
    """On a terminal, progress is drawn in place and taken away at the end; the result stays."""
    written = on_terminal(start_jettyctl, "upload", "file", *SLOW)
    assert b"\x1b[?25l" in written  # the cursor is hidden while
    assert b"\x1b[?25h" in written  # and comes back
    assert COLOUR.search(written)
    assert "/15.0 MiB" in SEQUENCE.sub("", written.decode())
    left = "".join(screen(written.decode()))
    assert re.fullmatch(r"uploaded  local:file  15\.0 MiB  [0-9.]+ MiB/s  sha256:[0-9a-f]{64}", left)


def test_no_progress_when_not_wanted(start_jettyctl: Starter, several: Path) -> None:
    """--no-progress and -q keep a terminal still."""
    assert b"\x1b" not in on_terminal(start_jettyctl, "upload", "-r", "d", "--no-progress")
    assert on_terminal(start_jettyctl, "upload", "-r", "d", "-q", "--restart") == b""


def test_no_color(start_jettyctl: Starter, file: Path) -> None:
    """NO_COLOR takes the colours away, not the progress."""
    written = on_terminal(start_jettyctl, "upload", "file", *SLOW, env={"NO_COLOR": "1"})
    assert re.search(rb"\x1b\[[0-9;]*3[0-9]([;m]|$)", written) is None
    assert b"total" in written


def test_dumb_terminal(start_jettyctl: Starter, several: Path) -> None:
    """A terminal that knows no escape sequences gets none."""
    assert b"\x1b" not in on_terminal(start_jettyctl, "upload", "-r", "d", env={"TERM": "dumb"})


@pytest.mark.slow
def test_plain_progress(start_jettyctl: Starter, tmp_path: Path) -> None:
    """In CI, on a terminal too, progress is a plain line every few seconds."""
    random_file(tmp_path / "file", 5 * CHUNK)
    rate = ("--chunk-size", "5MiB", "--limit-rate", "4500KiB/s")
    written = on_terminal(start_jettyctl, "upload", "file", *rate, env={"CI": "true"})
    assert b"\x1b" not in written
    assert re.search(rb"jettyctl: [0-9.]+ (?:B|MiB) of 25\.0 MiB \(\d+ %\), [0-9.]+ MiB/s, [0-9.]+ s left\r\n", written)


def test_hostile_names_on_a_terminal(start_jettyctl: Starter, tmp_path: Path) -> None:
    """No byte of a file's name steers the terminal, in the live view neither."""
    name = b"evil\x1b]0;owned\x07\x9b31m\r\n\xe2\x80\xae.bin[bold]"
    random_file(os.path.join(os.fsencode(tmp_path), name), 2 * CHUNK)
    written = on_terminal(start_jettyctl, "upload", name, b"local:x/", "-vv", *SLOW)
    for harm in (b"\x1b]", b"\x07", b"\x9b", "\u202e".encode(), b"m\r\n\\"):
        assert harm not in written
    shown = SEQUENCE.sub("", written.decode())
    assert r"\x1b]0;owned\x07" in shown
    assert all(c in "\r\n" or ord(c) >= 32 for c in shown)


# What limited the run.


@pytest.mark.slow
@pytest.mark.parametrize("rate", [(), ("--limit-rate", "4MiB/s")])
def test_what_limited_the_run(
    moto: Server, proxied: Callable[..., RecordingProxy], jettyctl: Jettyctl, tmp_path: Path, rate: tuple[str, ...]
) -> None:
    """A rate that the user gave is named; so is a store that asks for fewer requests, which keeps all waiting."""
    proxy = proxied(moto)
    if not rate:
        proxy.faults.append(Fault("part", 1, error(503, "SlowDown", headers={"Retry-After": "2"}), times=4))
    random_file(tmp_path / "file", 4 * CHUNK)
    url = f"s3://{moto.bucket}/{tmp_path.name}/file"
    told = jettyctl("upload", "file", url, "--chunk-size", "5MiB", *rate, "--json", server=proxy).stdout
    summary = json.loads(told.splitlines()[-1])
    assert (summary["type"], summary["bottleneck"]) == ("summary", "limit-rate" if rate else "store")


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

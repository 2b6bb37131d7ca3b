"""What `jettyctl upload` draws on a terminal: live progress where it is wanted, and nothing that a name smuggles in."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.runs import CHUNK, SLOW, Starter
from tests.support.running import random_file

pytestmark = pytest.mark.usefixtures("home", "xterm")

COLOUR = re.compile(rb"\x1b\[[0-9;]*[1-9][0-9;]*m")  # any attribute but "reset"
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


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

"""Sources: regular files as they were opened, and all that is none and is refused at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jettyctl.errors import SourceChanged, SourceError
from jettyctl.files.hashing import hash_file
from jettyctl.files.source import Source
from tests.support.running import ROOT


def descriptors_of(path: str) -> int:
    """How many descriptors of this process are of this file; other threads may open others meanwhile."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    with contextlib.suppress(ValueError):  # not a file name
        return links.count(os.path.realpath(path))
    return 0


def fifo(directory: Path) -> str:
    os.mkfifo(directory / "special")
    return str(directory / "special")


def unix_socket(directory: Path) -> str:
    path = str(directory / "special")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
    return path


def link_to_fifo(directory: Path) -> str:
    (directory / "link").symlink_to(fifo(directory))
    return str(directory / "link")


def loop(directory: Path) -> str:
    (directory / "loop").symlink_to(directory / "loop")
    return str(directory / "loop")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "a named pipe"),
        (unix_socket, "a socket"),
        (link_to_fifo, "a named pipe"),
        (str, "a directory"),
        (lambda _: "/dev/null", "a device"),
        (lambda _: "/dev/zero", "a device"),
        (lambda _: "/dev/tty", ""),
        (lambda directory: f"{directory}/missing", "does not exist"),
        (lambda directory: f"{directory}/missing/below", "does not exist"),
        (lambda _: "", "does not exist"),
        (lambda _: "nul\0byte", "not a file name"),
        (lambda _: "surrogate\ud800", "not a file name"),
        (loop, "symbolic link"),
        (lambda directory: f"{directory}/{'n' * 300}", "cannot be opened"),
    ],
)
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], str], said: str) -> None:
    """What is not a readable regular file is refused with its kind, at once: opening never blocks."""
    path = make(tmp_path)
    began, before = time.monotonic(), descriptors_of(path)
    with pytest.raises(SourceError) as raised:
        Source.open(path)
    assert said in raised.value.message
    assert time.monotonic() - began < 1
    assert descriptors_of(path) == before


def test_a_terminal_is_no_file() -> None:
    """A terminal is refused like any device, and does not become ours."""
    leader, follower = pty.openpty()
    try:
        with pytest.raises(SourceError, match="a device"):
            Source.open(os.ttyname(follower))
    finally:
        os.close(leader)
        os.close(follower)


def test_an_unreadable_file() -> None:
    """A file that may not be read is refused with the reason."""
    code = (
        "import os, sys\n"
        "from jettyctl.errors import SourceError\n"
        "from jettyctl.files.source import Source\n"
        "os.geteuid() == 0 and os.setuid(65534)\n"  # root may read everything
        "try:\n    Source.open(sys.argv[1])\n"
        "except SourceError as error:\n    print(error.message.rpartition(': ')[2], '|', error.hint)\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = os.path.join(directory, "secret")
        with open(path, "w", encoding="ascii") as file:
            file.write("x")
        os.chmod(path, 0)
        said = subprocess.run(
            [sys.executable, "-c", code, path], env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True
        )
    assert said.stdout.startswith("permission denied |"), said.stderr
    assert len(said.stdout.split("|")[1]) > 10


def test_a_source_is_what_was_opened(tmp_path: Path) -> None:
    """After a rename over its name, a source still reads the file that was opened, and reports its identity."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"first")
    other.write_bytes(b"other bytes")
    with Source.open(str(path)) as source:
        os.rename(other, path)
        assert source.read(0, source.size) == b"first"
        assert source.identity.size == 5
        os.utime(path)
        assert source.current_identity().ino == source.identity.ino


def test_reading_past_the_end(file_of: Callable[[bytes], Source]) -> None:
    """Bytes that are not there (any more) are a changed source, by either way of reading."""
    source = file_of(b"12345")
    assert source.read(2, 3) == b"345"
    with pytest.raises(SourceChanged):
        source.read(2, 4)
    with pytest.raises(SourceChanged):
        source.read_into(memoryview(bytearray(4)), 2)


def test_a_sparse_file(tmp_path: Path) -> None:
    """Holes read as zeros and hash like them."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(3_000_000)
        file.seek(2_000_000)
        file.write(b"x")
    with Source.open(str(path)) as source:
        assert hash_file(source).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

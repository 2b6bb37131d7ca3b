"""`jettyctl hash` is held against the real sha256sum: same bytes out, and its `-c` accepts ours."""

from __future__ import annotations

import hashlib
import os
import pty
import shutil
import subprocess
import threading
from pathlib import Path
from subprocess import PIPE

import blake3
import pytest

from tests.e2e.runs import Starter
from tests.support.running import Jettyctl, random_file

SHA256SUM = shutil.which("sha256sum")
NAMES = [b"plain", b"two  spaces ", b"*star", b"line\nbreak", b"back\\slash", b"\\n", b"latin\xe9", b"caf\xc3\xa9", b"-v"]
ESC = b"esc\x1b[31m"
EMPTY = hashlib.sha256().hexdigest()

needs_sha256sum = pytest.mark.skipif(SHA256SUM is None, reason="sha256sum is not installed")


@pytest.fixture
def files(tmp_path: Path) -> list[bytes]:
    """Files with awkward names in the test's directory; their names."""
    for seed, name in enumerate(NAMES):
        random_file(os.path.join(os.fsencode(tmp_path), name), 1000 * seed, seed)
    return NAMES


def printed(start: Starter, *args: str | bytes, stdin: bytes = b"") -> bytes:
    """What a run that goes well writes to a pipe."""
    process = start("hash", *args, stdin=PIPE, stdout=PIPE)
    out, _ = process.communicate(stdin, timeout=60)
    assert process.returncode == 0
    return bytes(out)


@needs_sha256sum
def test_lines_are_those_of_sha256sum(start_jettyctl: Starter, files: list[bytes], tmp_path: Path) -> None:
    """The output is the same bytes that sha256sum writes, whatever the names hold."""
    assert SHA256SUM is not None
    theirs = subprocess.run([SHA256SUM, "--", *files], cwd=tmp_path, capture_output=True, check=True).stdout
    assert printed(start_jettyctl, "--", *files) == theirs


@needs_sha256sum
def test_sha256sum_checks_our_lines(start_jettyctl: Starter, files: list[bytes], tmp_path: Path) -> None:
    """`sha256sum -c` reads what we print and finds every file good."""
    assert SHA256SUM is not None
    sums = printed(start_jettyctl, "--", *files)
    checked = subprocess.run([SHA256SUM, "-c", "--strict"], cwd=tmp_path, input=sums, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(b": OK\n") == len(files)


def test_a_carriage_return_is_escaped(start_jettyctl: Starter, tmp_path: Path) -> None:
    """A carriage return in a name becomes \\r, with the line marked as escaped."""
    (tmp_path / "a\rb").write_bytes(b"")
    assert printed(start_jettyctl, "a\rb") == rf"\{EMPTY}  a\rb".encode() + b"\n"


@pytest.mark.parametrize("args", [(), ("-",)])
def test_standard_input(start_jettyctl: Starter, args: tuple[str, ...]) -> None:
    """No file, or `-`, hashes standard input under the name `-`."""
    assert printed(start_jettyctl, *args, stdin=b"content") == f"{hashlib.sha256(b'content').hexdigest()}  -\n".encode()


def test_blake3(jettyctl: Jettyctl, tmp_path: Path) -> None:
    """`--algorithm blake3` prints BLAKE3 hashes in the same form."""
    random_file(tmp_path / "a", 9 << 20)
    result = jettyctl("hash", "--algorithm", "blake3", "a", check=0)
    assert result.stdout == f"{blake3.blake3((tmp_path / 'a').read_bytes()).hexdigest()}  a\n"


def test_a_named_pipe_is_read(start_jettyctl: Starter, tmp_path: Path) -> None:
    """A pipe, as a shell's <(command) makes it, is hashed as sha256sum would."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"through",))
    writer.start()
    out = printed(start_jettyctl, "pipe")
    writer.join()
    assert out == f"{hashlib.sha256(b'through').hexdigest()}  pipe\n".encode()


def test_a_failing_file_does_not_stop_the_others(jettyctl: Jettyctl, tmp_path: Path) -> None:
    """Each failing file gets one line on stderr, the others their hash, and the exit status says that some failed."""
    (tmp_path / "good").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    result = jettyctl("hash", "missing", "directory", "good", check=3)
    assert result.stdout == f"{EMPTY}  good\n"
    assert [line.partition(".")[0] for line in result.stderr.splitlines()] == [
        "jettyctl: missing does not exist",
        "jettyctl: directory cannot be opened: Is a directory",
        "jettyctl: 2 of 3 files could not be hashed",
    ]


def test_one_failing_file_has_its_own_status(jettyctl: Jettyctl) -> None:
    """A single file that is missing is one error line and exit status 1."""
    result = jettyctl("hash", "missing", check=1)
    assert result.stdout == ""
    assert result.stderr == "jettyctl: missing does not exist. Check the path.\n"


def test_a_terminal_sees_no_control_characters(start_jettyctl: Starter, tmp_path: Path) -> None:
    """On a terminal a hostile name cannot steer it; through a pipe it stays exact."""
    random_file(os.path.join(os.fsencode(tmp_path), ESC), 0)
    assert printed(start_jettyctl, ESC) == EMPTY.encode() + b"  " + ESC + b"\n"
    ours, theirs = pty.openpty()
    try:
        assert start_jettyctl("hash", ESC, stdout=theirs).wait(60) == 0
        assert os.read(ours, 4096) == EMPTY.encode() + b"  esc\\x1b[31m\r\n"
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_result_that_cannot_be_written_is_an_error(start_jettyctl: Starter) -> None:
    """A full disk behind standard output is told, and the exit status is not 0."""
    with open("/dev/full", "wb") as full:
        process = start_jettyctl("hash", stdout=full, stderr=PIPE)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"cannot write the result: No space left on device" in said


def test_a_reader_that_leaves_is_no_error(start_jettyctl: Starter, tmp_path: Path) -> None:
    """`jettyctl hash … | head` ends quietly."""
    (tmp_path / "a").write_bytes(b"")
    process = start_jettyctl("hash", *["a"] * 5000, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""

"""Which files `jettyctl upload` takes, whatever they are called, and which it cannot: these are named, the others arrive."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.e2e.runs import CHUNK, Proxied, Starter, files_below, one_line, only, sent, url
from tests.support.running import Jettyctl, Result
from tests.support.servers import Server, fetch

ROOT_READS_ALL = 1, 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
PR_CAPBSET_DROP = 24


# Which files are meant.


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory tree with what trees have."""
    for name in ("a.txt", "b.log", "sub/c.txt", "sub/d.log", "sub/deep/e.txt", "cache/f.txt"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "o.txt").write_text("o")
    return tmp_path / "tree"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["a.txt", "b.log", "cache/f.txt", "sub/c.txt", "sub/d.log", "sub/deep/e.txt"]),
        (["--include", "*.txt", "--exclude", "cache"], ["a.txt", "sub/c.txt", "sub/deep/e.txt"]),
        (["--include", "*.log", "--include", "sub/deep/*"], ["b.log", "sub/d.log", "sub/deep/e.txt"]),
        (["--exclude", "*.txt", "--exclude", "sub/*"], ["b.log"]),
    ],
)
def test_recursive(jettyctl: Jettyctl, home: Path, tree: Path, options: list[str], expected: list[str]) -> None:
    """A directory's files go under their relative names, as far as the filters let them."""
    jettyctl("upload", "-r", *options, "tree", "local:t/", check=0)
    assert files_below(home / "t") == expected
    assert [(home / "t" / name).read_text() for name in expected] == expected


def test_several_directories_keep_their_names(jettyctl: Jettyctl, home: Path, tree: Path) -> None:
    """With several sources, a directory's own name is part of the keys."""
    jettyctl("upload", "-r", "outside", "tree/sub", "tree/a.txt", "local:", check=0)
    assert files_below(home) == ["a.txt", "outside/o.txt", "sub/c.txt", "sub/d.log", "sub/deep/e.txt"]


def test_symbolic_links(jettyctl: Jettyctl, home: Path, tree: Path) -> None:
    """Links in a tree are left out, and that is said; they are followed when asked for, loops once; a named one always."""
    (tree / "cache" / "f.txt").unlink()
    (tree / "link.txt").symlink_to(tree / "a.txt")
    (tree / "sub" / "out").symlink_to(tree.parent / "outside")
    (tree / "sub" / "loop").symlink_to(tree)
    run = jettyctl("upload", "-r", "--include", "*.txt", "--include", "out", "tree", "local:no/", check=0)
    assert files_below(home / "no") == ["a.txt", "sub/c.txt", "sub/deep/e.txt"]
    assert "--follow-symlinks" in run.stderr
    run = jettyctl("upload", "-r", "--follow-symlinks", "--include", "*.txt", "tree", "local:yes/", check=0)
    assert files_below(home / "yes") == ["a.txt", "link.txt", "sub/c.txt", "sub/deep/e.txt", "sub/out/o.txt"]
    assert run.stderr.count("leads back") == 1
    jettyctl("upload", "tree/link.txt", "local:", check=0)
    assert (home / "link.txt").read_text() == "a.txt"


HOSTILE = (
    b"with space",
    "ümlaut-日本.txt".encode(),
    b"bad-\xff\xfe",
    b"esc-\x1b]0;owned\x07\x1b[31m",
    b"-dash",
    b"100%",
    b"%41%ff",
    b"q'\"$`",
)


def keys_of(names: Iterable[bytes]) -> dict[str, bytes]:
    """The key that stands for each name: bytes that are no UTF-8 as %XX, a percent sign that looks like one as %25."""
    special = {b"bad-\xff\xfe": "bad-%FF%FE", b"%41%ff": "%41%25ff"}
    return {special.get(name) or name.decode(): name for name in names}


def write_all(directory: Path, names: Iterable[bytes]) -> None:
    directory.mkdir()
    for name in names:
        with open(os.path.join(os.fsencode(directory), name), "wb") as file:
            file.write(name)


def assert_harmless(run: Result) -> None:
    """Nothing but line breaks steers the terminal, and all is valid UTF-8."""
    for text in (run.stdout, run.stderr):
        assert all(c == "\n" or ord(c) >= 32 for c in text)
        text.encode()


@pytest.mark.slow
def test_hostile_names_at_a_server(moto: Server, jettyctl: Jettyctl, tmp_path: Path, prefix: str) -> None:
    """Names with spaces, control characters or bytes that are no UTF-8 arrive under reversible keys, and are shown escaped."""
    write_all(tmp_path / "d", HOSTILE)
    run = jettyctl("upload", "-r", "-vv", "d", url(moto, prefix), server=moto, check=0)
    assert_harmless(run)
    assert r"\x1b" in run.stdout
    for key, name in keys_of(HOSTILE).items():
        assert fetch(moto, prefix + key) == name


def test_hostile_names_in_the_local_store(jettyctl: Jettyctl, home: Path, tmp_path: Path) -> None:
    """The embedded store holds every name too, line breaks included, and finds it again."""
    names = (*HOSTILE, b"line\nbreak", b"n" * 255, b"~", b"a\\b")
    write_all(tmp_path / "d", names)
    run = jettyctl("upload", "-r", "-v", "d", "local:h/", check=0)
    assert_harmless(run)
    assert sorted(path.read_bytes() for path in home.rglob("*") if path.is_file()) == sorted(names)
    again = jettyctl("upload", "-r", "--json", "d", "local:h/", check=0)
    assert_harmless(again)
    assert only(again, "summary")["unchanged"] == len(names)
    sources = {os.fsencode(event["source"]) for event in again.events if event["type"] == "result"}
    assert sources == {b"d/" + name for name in names}


def test_hostile_names_in_errors(jettyctl: Jettyctl, home: Path) -> None:
    """Names that the user gave, or that do not exist, are shown escaped as well."""
    for args in ((b"no\x1b[2J\xff",), (b"x", b"s3://b\x1b[2J/"), (b"x", b"local:\x1b[2J/../y"), (b"-\x1b[2J",), (b"--\x1b[2J",)):
        run = jettyctl("upload", *args)
        assert run.returncode in (1, 2, 3)
        assert_harmless(run)
        assert "Traceback" not in run.stderr


def test_names_from_a_list(jettyctl: Jettyctl, home: Path, tmp_path: Path) -> None:
    """--files-from takes lines of a file or of standard input, or names ended by NUL, which may hold line breaks."""
    write_all(tmp_path / "d", (b"one", b"two words", b"line\nbreak", b"# no comment"))
    (tmp_path / "list").write_text("d/one\nd/two words\n\nd/# no comment")
    (tmp_path / "list0").write_bytes(b"d/one\0d/line\nbreak\0")
    jettyctl("upload", "--files-from", "list", "local:file/", check=0)
    assert files_below(home / "file") == ["# no comment", "one", "two words"]
    jettyctl("upload", "--files-from", "-", "local:in/", input="d/one\nd/two words\n", check=0)
    assert files_below(home / "in") == ["one", "two words"]
    jettyctl("upload", "--files-from", "list0", "local:nul/", check=0)
    assert sorted(path.read_bytes() for path in (home / "nul").iterdir()) == [b"line\nbreak", b"one"]


# What cannot be sent.


def test_one_missing_of_several(s3_server: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str) -> None:
    """A missing file is named and counted; the others arrive all the same."""
    make("a", 10)
    make("b", CHUNK + 1)
    run = jettyctl("upload", "a", "gone", "b", url(s3_server, prefix), "--chunk-size", "5MiB", server=s3_server, check=3)
    assert "jettyctl: gone does not exist." in run.stderr
    assert "2 uploaded, 1 failed" in run.stderr
    assert len(run.stdout.splitlines()) == 2
    assert fetch(s3_server, f"{prefix}a")
    assert fetch(s3_server, f"{prefix}b")


def test_one_key_for_two_files(jettyctl: Jettyctl, home: Path, make: Callable[..., Path]) -> None:
    """The second of two files that would become one object is refused, not silently preferred."""
    first = make("x/same", 10)
    make("y/same", 20)
    run = jettyctl("upload", "x/same", "y/same", "local:", check=3)
    assert "same key as x/same" in run.stderr
    assert (home / "same").read_bytes() == first.read_bytes()


def test_one_file_named_twice(
    s3_server: Server, jettyctl: Jettyctl, proxied: Proxied, make: Callable[..., Path], prefix: str
) -> None:
    """A file that is named twice is sent once, and nothing fails."""
    path, proxy = make("same", 2 * CHUNK), proxied(s3_server)
    jettyctl("upload", "same", "same", url(proxy, prefix), "--chunk-size", "5MiB", server=proxy, check=0)
    assert fetch(s3_server, f"{prefix}same") == path.read_bytes()
    assert sent(proxy) == 2 * CHUNK


def test_several_files_need_a_prefix(jettyctl: Jettyctl, home: Path, make: Callable[..., Path]) -> None:
    """Two files for one key are refused with what to write instead."""
    make("a", 1)
    make("b", 1)
    run = jettyctl("upload", "a", "b", "local:key", check=2)
    assert "key/" in run.stderr
    assert not home.exists()


@pytest.mark.parametrize(("kind", "status"), [("fifo", 1), ("socket", 1), ("device", 1), ("directory", 2), ("missing", 1)])
def test_what_is_no_file(jettyctl: Jettyctl, home: Path, tmp_path: Path, kind: str, status: int) -> None:
    """What is not a regular file is refused in one line that names it, and nothing waits for it."""
    path = tmp_path / "thing"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            os.chdir(tmp_path)  # the whole path may be too long for a socket
            bound.bind("thing")
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    run = jettyctl("upload", str(path), "local:", check=status, timeout=20)
    assert str(path) in one_line(run)
    assert run.stdout == ""


def test_special_files_in_a_tree(jettyctl: Jettyctl, home: Path, tmp_path: Path) -> None:
    """In a tree, a pipe is left out and mentioned; the files around it go."""
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "pipe")
    (tmp_path / "d" / "file").write_text("x")
    run = jettyctl("upload", "-r", "d", "local:", check=0, timeout=20)
    assert "d/pipe is a named pipe" in run.stderr
    assert files_below(home) == ["file"]


def without_root_powers() -> None:
    """What makes root read everything is left out of what the next program can get."""
    libc = ctypes.CDLL(None)
    for capability in ROOT_READS_ALL:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def test_unreadable_files(start_jettyctl: Starter, home: Path, tmp_path: Path) -> None:
    """A file or directory without permission is named, with what to do; the others arrive."""
    (tmp_path / "d" / "closed").mkdir(parents=True)
    (tmp_path / "d" / "open").write_text("x")
    (tmp_path / "d" / "secret").write_text("x")
    (tmp_path / "d" / "secret").chmod(0)
    (tmp_path / "d" / "closed").chmod(0)
    process = start_jettyctl("upload", "-r", "d", "local:", stderr=subprocess.PIPE, preexec_fn=without_root_powers)
    _, said = process.communicate(timeout=30)
    (tmp_path / "d" / "closed").chmod(0o700)
    if process.returncode == 0:
        pytest.skip("this user reads everything")
    assert process.returncode == 3
    assert b"d/closed cannot be read: permission denied. " in said
    assert b"d/secret cannot be read: permission denied. " in said
    assert files_below(home) == ["open"]

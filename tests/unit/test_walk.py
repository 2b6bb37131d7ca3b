"""What the user names becomes files to upload, on a real file system with all that may be in one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jettyctl.errors import SourceError, UsageError
from jettyctl.files.file_list import read_file_list
from jettyctl.files.walk import Found, Skipped, walk


def put(root: Path, *names: str) -> Path:
    """Empty files below `root`, which is given back."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def split(found: Iterator[Found | Skipped]) -> tuple[list[str], list[Skipped]]:
    """The names of what is uploaded, and what is not."""
    results = list(found)
    return [r.name for r in results if isinstance(r, Found)], [r for r in results if isinstance(r, Skipped)]


def names(path: Path, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[str]:
    """The names in one tree, where nothing is skipped."""
    found, skipped = split(walk([str(path)], recursive=True, include=include, exclude=exclude))
    assert skipped == []
    return found


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything; permissions only show to somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_plain_file_has_its_base_name(tmp_path: Path) -> None:
    """A file named on the command line goes under its own name, wherever it lies."""
    path = str(put(tmp_path, "sub/a.txt") / "sub/a.txt")
    assert list(walk([path], recursive=False)) == [Found(path, "a.txt")]


def test_named_link_is_followed(tmp_path: Path) -> None:
    """A symbolic link that the user names is a file, and so is a directory behind one."""
    put(tmp_path, "real/a")
    (tmp_path / "file").symlink_to("real/a")
    (tmp_path / "tree").symlink_to("real")
    sources = [str(tmp_path / "file"), str(tmp_path / "tree")]
    assert split(walk(sources, recursive=True)) == (["file", "tree/a"], [])


def test_directory_needs_recursive(tmp_path: Path) -> None:
    """Without -r a directory is a failure that says what to add, and the other sources go on."""
    path = put(tmp_path, "d/a", "b")
    found, [skipped] = split(walk([str(path / "d"), str(path / "b")], recursive=False))
    assert found == ["b"]
    assert isinstance(skipped.error, UsageError)
    assert not skipped.harmless
    assert skipped.error.hint == "Add -r to upload what is in it."


def test_one_tree_is_named_from_inside(tmp_path: Path) -> None:
    """The only directory gives names relative to it, with or without a slash at its end."""
    put(tmp_path, "photos/a.jpg", "photos/sub/b.jpg")
    assert names(tmp_path / "photos") == ["a.jpg", "sub/b.jpg"]
    found, _ = split(walk([f"{tmp_path}/photos//"], recursive=True))
    assert found == ["a.jpg", "sub/b.jpg"]


def test_several_sources_keep_their_names(tmp_path: Path) -> None:
    """Several sources begin with their own names, so that equal names inside do not collide."""
    put(tmp_path, "one/a", "two/a", "three")
    sources = [f"{tmp_path}/one/", f"{tmp_path}/two", f"{tmp_path}/three"]
    assert split(walk(sources, recursive=True))[0] == ["one/a", "two/a", "three"]


def test_dots_have_names(tmp_path: Path) -> None:
    """`.` and `..` among several sources go under the names of the directories that they are."""
    put(tmp_path, "d/e/a")
    with chdir(tmp_path / "d" / "e"):
        found, _ = split(walk([".", "..", "a"], recursive=True))
    assert found == ["e/a", "d/e/a", "a"]


def test_paths_open(tmp_path: Path) -> None:
    """Every path that is found opens from where the user stands."""
    put(tmp_path, "d/a", "d/e/b")
    with chdir(tmp_path):
        results = list(walk(["d"], recursive=True))
        assert [(r.path, os.path.exists(r.path)) for r in results] == [("d/a", True), ("d/e/b", True)]


@settings(deadline=None)  # a file system may be slow
@given(st.sets(st.lists(st.sampled_from(["a", "a.b", "a-b", "a0", "é", "Z"]), min_size=1, max_size=3).map("/".join)))
def test_order_is_that_of_the_keys(paths: set[str]) -> None:
    """Names come in byte order, as stores list keys, so that two runs and two listings can be compared."""
    with TemporaryDirectory() as name:
        files = {path for path in paths if not any(other.startswith(path + "/") for other in paths)}
        assert names(put(Path(name), *files)) == sorted(files, key=os.fsencode)


def test_undecodable_and_odd_names(tmp_path: Path) -> None:
    """Names that are no text are carried as they are and shown as escapes."""
    odd = [b"\xff\xfe", b"new\nline", b"-r", b"\x1b[2J", b"n" * 255]
    for name in odd:
        open(os.path.join(os.fsencode(tmp_path), name), "wb").close()
    os.mkfifo(os.path.join(os.fsencode(tmp_path), b"\x1b]0;pwned\x07"))
    found, [skipped] = split(walk([str(tmp_path)], recursive=True))
    assert [os.fsencode(name) for name in found] == sorted(odd)
    assert "\x1b" not in skipped.error.message


def test_links_inside_are_reported_not_followed(tmp_path: Path) -> None:
    """Links to files, directories, loops and nothing are each listed, harmlessly, with the flag that follows them."""
    put(tmp_path, "a", "d/b")
    for name, target in {"file": "a", "tree": "d", "loop": ".", "self": "self", "nothing": "gone"}.items():
        (tmp_path / name).symlink_to(target)
    found, skipped = split(walk([str(tmp_path)], recursive=True))
    assert found == ["a", "d/b"]
    assert [Path(s.path).name for s in skipped] == ["file", "loop", "nothing", "self", "tree"]
    assert all(s.harmless and isinstance(s.error, SourceError) and "--follow-symlinks" in s.error.hint for s in skipped)
    assert skipped[0].error.message.endswith("is a symbolic link")


def test_links_are_followed_when_asked(tmp_path: Path) -> None:
    """With follow_symlinks a link goes under its own name; one that leads nowhere is a failure."""
    put(tmp_path, "t/a", "out/b")
    (tmp_path / "t" / "file").symlink_to("a")
    (tmp_path / "t" / "tree").symlink_to("../out")
    (tmp_path / "t" / "nothing").symlink_to("gone")
    (tmp_path / "t" / "self").symlink_to("self")
    found, skipped = split(walk([str(tmp_path / "t")], recursive=True, follow_symlinks=True))
    assert found == ["a", "file", "tree/b"]
    assert [(Path(s.path).name, s.harmless) for s in skipped] == [("nothing", False), ("self", False)]


def test_loops_end_and_are_told_once(tmp_path: Path) -> None:
    """A link to a directory above it is entered never, and reported once for each loop."""
    put(tmp_path, "t/a", "t/d/b")
    (tmp_path / "t" / "d" / "up").symlink_to("..")
    (tmp_path / "t" / "me").symlink_to(".")
    found, skipped = split(walk([str(tmp_path / "t")], recursive=True, follow_symlinks=True))
    assert found == ["a", "d/b"]
    assert [(os.path.relpath(s.path, tmp_path), s.harmless) for s in skipped] == [("t/d/up", True), ("t/me", True)]


def test_loop_through_a_directory_above_the_source(tmp_path: Path) -> None:
    """A link out of the tree to a directory that holds it does not upload the tree twice."""
    put(tmp_path, "p/t/a", "p/other")
    (tmp_path / "p" / "t" / "out").symlink_to("..")
    found, skipped = split(walk([str(tmp_path / "p" / "t")], recursive=True, follow_symlinks=True))
    assert found == ["a", "out/other"]
    assert [s.harmless for s in skipped] == [True]


def test_two_links_to_one_directory_are_no_loop(tmp_path: Path) -> None:
    """The same directory twice side by side is what the user has, and is uploaded twice."""
    put(tmp_path, "t/d/a")
    (tmp_path / "t" / "e").symlink_to("d")
    assert split(walk([str(tmp_path / "t")], recursive=True, follow_symlinks=True)) == (["d/a", "e/a"], [])


def make_specials(root: Path) -> list[str]:
    """A FIFO and a socket."""
    os.mkfifo(root / "fifo")
    with chdir(root), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    return ["fifo", "socket"]


def test_special_files_never_block(tmp_path: Path) -> None:
    """In a tree a FIFO or socket is left out harmlessly with its kind; named, it is a failure. Nothing waits for a writer."""
    kinds = make_specials(put(tmp_path, "a"))
    outcome: list[tuple[list[str], list[Skipped]]] = []

    def both() -> None:
        outcome.append(split(walk([str(tmp_path)], recursive=True)))
        outcome.append(split(walk([str(tmp_path / kind) for kind in kinds] + ["/dev/null"], recursive=True)))

    thread = threading.Thread(target=both, daemon=True)
    thread.start()
    thread.join(10)
    (found, inside), (nothing, named) = outcome
    assert (found, nothing) == (["a"], [])
    assert [(Path(s.path).name, s.harmless) for s in inside] == [(kind, True) for kind in kinds]
    assert [(Path(s.path).name, s.harmless) for s in named] == [*((kind, False) for kind in kinds), ("null", False)]
    assert [s.error.message.rsplit(" is ", 1)[1] for s in named] == [
        f"{kind}, not a regular file" for kind in ("a named pipe", "a socket", "a device")
    ]


@pytest.mark.parametrize("name", ["gone", "a/below-a-file", "n" * 300, ""])
def test_missing_source(tmp_path: Path, name: str) -> None:
    """What cannot be there is a failure of that source only."""
    put(tmp_path, "a")
    with chdir(tmp_path):
        found, [skipped] = split(walk([name, "a"], recursive=True))
    assert found == ["a"]
    assert isinstance(skipped.error, SourceError)
    assert not skipped.harmless


def test_unreadable_directory(tmp_path: Path) -> None:
    """A directory without permission is one failure; everything beside it still goes."""
    put(tmp_path, "a", "secret/b", "z")
    (tmp_path / "secret").chmod(0)
    tmp_path.chmod(0o755)
    try:
        with chdir(tmp_path), unprivileged():
            found, [skipped] = split(walk(["."], recursive=True))
    finally:
        (tmp_path / "secret").chmod(0o700)
    assert found == ["a", "z"]
    assert (skipped.path, skipped.harmless) == ("./secret", False)
    assert "permission denied" in skipped.error.message


def test_tree_deeper_than_python_and_paths(tmp_path: Path) -> None:
    """A tree of 3,000 levels ends in one failure, where its paths are too long to open, not in a crash."""
    top = os.open(tmp_path, os.O_RDONLY)
    level = os.dup(top)
    for _ in range(3000):
        os.mkdir("d", dir_fd=level)
        below = os.open("d", os.O_RDONLY, dir_fd=level)
        os.close(level)
        level = below
    os.close(level)
    os.close(top)
    put(tmp_path, "a", "d/e")
    found, [skipped] = split(walk([str(tmp_path)], recursive=True))
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)
    assert found == ["a", "d/e"]
    assert not skipped.harmless


def test_directory_that_goes_away(tmp_path: Path) -> None:
    """A directory deleted between its listing and its turn is a failure, and the walk goes on."""
    put(tmp_path, "a", "b/x", "c")
    walking = walk([str(tmp_path)], recursive=True)
    assert next(walking) == Found(str(tmp_path / "a"), "a", follow=False)
    (tmp_path / "b" / "x").unlink()
    (tmp_path / "b").rmdir()
    found, [skipped] = split(walking)
    assert found == ["c"]
    assert not skipped.harmless


TREE = ("a.txt", "b.jpg", "sub/c.txt", "sub/deep/d.jpg", "tmp/e.txt")


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), TREE),
        (("*.txt",), (), ("a.txt", "sub/c.txt", "tmp/e.txt")),
        ((), ("*.txt",), ("b.jpg", "sub/deep/d.jpg")),
        (("*.txt",), ("a.*",), ("sub/c.txt", "tmp/e.txt")),
        (("sub/*",), (), ("sub/c.txt", "sub/deep/d.jpg")),
        (("c.txt",), (), ("sub/c.txt",)),
        (("/c.txt",), (), ()),
        ((), ("sub/*",), ("a.txt", "b.jpg", "tmp/e.txt")),
        ((), ("sub/deep",), ("a.txt", "b.jpg", "sub/c.txt", "tmp/e.txt")),
        ((), ("deep", "tmp"), ("a.txt", "b.jpg", "sub/c.txt")),
        (("*.jpg", "a*"), (), ("a.txt", "b.jpg", "sub/deep/d.jpg")),
        (("*.TXT",), (), ()),
        (("[ab].*",), (), ("a.txt", "b.jpg")),
        ((), ("*",), ()),
        (("*",), ("*",), ()),
    ],
)
def test_filters(tmp_path: Path, include: Sequence[str], exclude: Sequence[str], expected: Sequence[str]) -> None:
    """Patterns see the relative name, and those without a slash the base name too; exclude wins, and prunes."""
    assert names(put(tmp_path, *TREE), include, exclude) == list(expected)


def test_filters_also_silence(tmp_path: Path) -> None:
    """What is filtered out is not reported either, be it a link, a FIFO or a directory without -r."""
    put(tmp_path, "d/a")
    os.mkfifo(tmp_path / "d" / "fifo")
    (tmp_path / "d" / "link").symlink_to("a")
    sources = [str(tmp_path / "d")]
    assert split(walk(sources, recursive=True, exclude=["fifo", "l*"])) == (["a"], [])
    assert split(walk(sources, recursive=True, include=["a"])) == (["a"], [])
    assert split(walk(sources, recursive=False, exclude=["d"])) == ([], [])


def test_filters_hold_for_named_files(tmp_path: Path) -> None:
    """A shell's `*` names everything; the filters still decide, but a file that is missing is always told."""
    put(tmp_path, "a.txt", "b.tmp")
    sources = [str(tmp_path / name) for name in ("a.txt", "b.tmp", "c.tmp")]
    found, skipped = split(walk(sources, recursive=False, exclude=["*.tmp"]))
    assert (found, len(skipped)) == (["a.txt"], 1)


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (b"", []),
        (b"a\nb/c\n", ["a", "b/c"]),
        (b"a\n\n  \n b \nc", ["a", " b ", "c"]),
        (b"a\r\nb", ["a\r", "b"]),
        (b"a\x0bb\x85c\xe2\x80\xa8d\n", [os.fsdecode(b"a\x0bb\x85c\xe2\x80\xa8d")]),
        (b"one\nname\0two\0", ["one\nname", "two"]),
        (b"\0\0a\0 \0", ["a", " "]),
        (b"\xff\xfe\n", [os.fsdecode(b"\xff\xfe")]),
        (b"#a\n'b'\n", ["#a", "'b'"]),
    ],
)
def test_file_list(tmp_path: Path, data: bytes, paths: list[str]) -> None:
    """Lines are paths, unless a NUL says that NULs end them; bytes are kept as they are."""
    (tmp_path / "list").write_bytes(data)
    assert read_file_list(str(tmp_path / "list")) == paths


def test_file_list_from_standard_input() -> None:
    """`-` reads what another program finds."""
    code = "from jettyctl.files.file_list import read_file_list; print(ascii(read_file_list('-')))"
    ran = subprocess.run([sys.executable, "-c", code], input=b"a\nb\0c\0", capture_output=True)
    assert (ran.returncode, ran.stdout.strip()) == (0, b"['a\\nb', 'c']")


@pytest.mark.parametrize("name", ["gone", ".", "n" * 300, "a\0b"])
def test_file_list_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    """A list that is missing, a directory or no name at all is a SourceError."""
    with chdir(tmp_path), pytest.raises(SourceError):
        read_file_list(name)

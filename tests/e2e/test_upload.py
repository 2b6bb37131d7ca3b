"""`jettyctl upload` as a process, against servers that others wrote: what was sent is what is there."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import EVERY, Fault, status
from tests.support.proxy import RecordingProxy
from tests.support.relay import Request
from tests.support.running import Jettyctl, Result, random_file
from tests.support.servers import Server, client, fetch, free_port, head, list_uploads, store

MIB = 1 << 20
CHUNK = 5 * MIB
ROOT_READS_ALL = 1, 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
PR_CAPBSET_DROP = 24

Starter = Callable[..., "subprocess.Popen[bytes]"]
Proxied = Callable[..., RecordingProxy]


@pytest.fixture
def home(env: dict[str, str], tmp_path: Path) -> Path:
    """The root of the embedded store's objects."""
    env["JETTY_DATA_DIR"] = str(tmp_path / "data")
    return tmp_path / "data" / "store" / "objects"


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """Where this test's objects go: servers are shared by tests."""
    return f"{tmp_path.name}/"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """`make("a.bin", size)` writes a file of random bytes in the test's directory."""

    def write(name: str, size: int, seed: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        random_file(path, size, seed)
        return path

    return write


def url(server: Server | RecordingProxy, key: str) -> str:
    return f"s3://{server.bucket}/{key}"


def results(run: Result) -> dict[str, Any]:
    """The results of a `--json` run by the last part of their source."""
    return {event["source"].rpartition("/")[2]: event for event in run.events if event["type"] == "result"}


def only(run: Result, kind: str = "result") -> dict[str, Any]:
    """The one event of a kind."""
    (event,) = [event for event in run.events if event["type"] == kind]
    return event


def ours(proxy: RecordingProxy, *ops: str) -> list[Request]:
    """Requests of these operations, without those that ask what the server verifies."""
    return [r for r in list(proxy.requests) if r.op in ops and "jettyctl-probe" not in r.path]


def sent(proxy: RecordingProxy) -> int:
    """Bytes of objects that were received."""
    return sum(request.body_bytes for request in ours(proxy, "put", "part"))


def writes(proxy: RecordingProxy) -> int:
    """Requests that change something at the server."""
    return sum(r.method in ("PUT", "POST", "DELETE") for r in proxy.requests)


def one_line(run: Result) -> str:
    """The one line that was said; nothing in it steers a terminal."""
    (line,) = run.stderr.splitlines()
    assert line.isprintable()
    assert "Traceback" not in line
    return line


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# What is sent arrives.


def test_one_request_each(s3_server: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str) -> None:
    """Files of up to one chunk, empty ones included, arrive byte by byte in one request each."""
    files = {name: make(f"d/{name}", size) for name, size in (("none", 0), ("one", 1), ("odd", MIB + 1), ("chunk", CHUNK))}
    run = jettyctl("upload", "-r", "d", url(s3_server, prefix), "--json", "--chunk-size", "5MiB", server=s3_server, check=0)
    for name, path in files.items():
        content, told = path.read_bytes(), results(run)[name]
        assert fetch(s3_server, prefix + name) == content
        assert told["status"] == "uploaded"
        assert told["url"] == url(s3_server, prefix + name)
        assert (told["chunks"], told["size"], told["bytes_sent"]) == (1, len(content), len(content))
        assert told["sha256"] == hashlib.sha256(content).hexdigest()


def test_parts_at_the_edges_of_chunks(s3_server: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str) -> None:
    """Sizes around multiples of the chunk size are cut into the right number of parts, and no upload is left behind."""
    counts = {CHUNK + 1: 2, 2 * CHUNK - 1: 2, 2 * CHUNK: 2, 2 * CHUNK + 1: 3}
    files = {str(size): make(f"d/{size}", size) for size in counts}
    run = jettyctl("upload", "-r", "d", url(s3_server, prefix), "--json", "--chunk-size", "5MiB", server=s3_server, check=0)
    for size, count in counts.items():
        told = results(run)[str(size)]
        assert fetch(s3_server, f"{prefix}{size}") == files[str(size)].read_bytes()
        assert (told["chunks"], told["bytes_sent"], told["chunks_reused"]) == (count, size, 0)
        assert told["sha256"] == hashlib.sha256(files[str(size)].read_bytes()).hexdigest()
    assert not [key for key, _ in list_uploads(s3_server) if key.startswith(prefix)]


def test_metadata_arrives(s3_server: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str) -> None:
    """Type, caching, the user's metadata and the session are the object's, whether sent in one request or in parts."""
    make("d/page.html", 100)
    make("d/data.tar.gz", CHUNK + 1)
    options = ["--cache-control", "max-age=60", "--metadata", "Owner=team-a", "--metadata", "n=1=2", "--chunk-size", "5MiB"]
    run = jettyctl("upload", "-r", "d", url(s3_server, prefix), "--json", *options, server=s3_server, check=0)
    for name, kind in (("page.html", "text/html"), ("data.tar.gz", "application/gzip")):
        found, told = head(s3_server, prefix + name), results(run)[name]
        assert found is not None
        assert (found["ContentType"], found["CacheControl"]) == (kind, "max-age=60")
        assert found["Metadata"].items() >= {"owner": "team-a", "n": "1=2", "jetty-session": told["session_id"]}.items()
        assert found["ETag"].strip('"') == told["etag"]


def test_given_content_type_wins(s3_server: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str) -> None:
    """A media type that the user gives is not guessed over."""
    make("page.html", 10)
    target = url(s3_server, f"{prefix}key")
    jettyctl("upload", "page.html", target, "--content-type", "text/x-mine", server=s3_server, check=0)
    found = head(s3_server, f"{prefix}key")
    assert found is not None
    assert found["ContentType"] == "text/x-mine"


def test_storage_headers_are_sent_once(
    moto: Server, jettyctl: Jettyctl, proxied: Proxied, make: Callable[..., Path], prefix: str
) -> None:
    """Storage class, encryption and ACL go with the request that makes the object, not with its parts."""
    make("d/small", 10)
    make("d/large", CHUNK + 1)
    given = {
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
        "x-amz-acl": "public-read",
    }
    options = ["--storage-class", "STANDARD_IA", "--sse", "aws:kms", "--sse-kms-key-id", "key-1", "--acl", "public-read"]
    proxy = proxied(moto)
    jettyctl("upload", "-r", "d", url(proxy, prefix), *options, "--chunk-size", "5MiB", server=proxy, check=0)
    assert len(ours(proxy, "put")) == 1
    assert len(ours(proxy, "create")) == 1 + len(ours(proxy, "abort"))  # one more where another checksum was guessed first
    assert all(request.headers.items() >= given.items() for request in ours(proxy, "put", "create"))
    assert not any(request.headers.keys() & given.keys() for request in ours(proxy, "part", "complete"))


@pytest.mark.slow
def test_standard_input(s3_server: Server, start_jettyctl: Starter, make: Callable[..., Path], prefix: str) -> None:
    """A stream arrives whole, whether it is empty, shorter than a chunk, exactly one, or several."""
    for size in (0, 1000, CHUNK, 2 * CHUNK + 1):
        content = make("content", size).read_bytes()
        args = ["upload", "-", url(s3_server, prefix), "--name", f"s{size}.txt", "--chunk-size", "5MiB", "-q"]
        process = start_jettyctl(*args, server=s3_server, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        _, said = process.communicate(content, timeout=60)
        assert (process.returncode, said) == (0, b"")
        assert fetch(s3_server, f"{prefix}s{size}.txt") == content
    found = head(s3_server, f"{prefix}s1000.txt")
    assert found is not None
    assert found["ContentType"] == "text/plain"
    assert found["Metadata"]["jetty-session"]


def test_standard_input_beside_files(jettyctl: Jettyctl, home: Path, make: Callable[..., Path]) -> None:
    """A stream and files can go in one run, and a whole key needs no --name."""
    make("file", 10)
    jettyctl("upload", "-", "file", "local:both/", "--name", "in", input="hello", check=0)
    jettyctl("upload", "-", "local:alone", input="hello", check=0)
    assert files_below(home) == ["alone", "both/file", "both/in"]
    assert (home / "both/in").read_text() == (home / "alone").read_text() == "hello"


# What is there is not sent again.


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


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("k" * 1025, "longer than 1024 bytes"),
        ("é" * 513, "longer than 1024 bytes"),
        ("a/../b", "'.' or '..'"),
        ("./b", "'.' or '..'"),
    ],
)
def test_bad_keys(moto: Server, jettyctl: Jettyctl, proxied: Proxied, make: Callable[..., Path], key: str, part: str) -> None:
    """A key that is too long, or that would leave its place, is refused before anything is sent."""
    make("a", 10)
    proxy = proxied(moto)
    run = jettyctl("upload", "a", url(proxy, key), server=proxy, check=2)
    assert part in one_line(run)
    assert proxy.requests == []


def test_the_longest_key(moto: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str) -> None:
    """A key of exactly 1024 bytes is fine, also where a probe makes a name beside it."""
    path = make("a", CHUNK + 1)
    key = (prefix + "k" * 1024)[:1024]
    jettyctl("upload", "a", url(moto, key), "--chunk-size", "5MiB", server=moto, check=0)
    assert fetch(moto, key) == path.read_bytes()


@pytest.mark.parametrize("size", [10, CHUNK + 1])
def test_no_such_bucket(s3_server: Server, jettyctl: Jettyctl, make: Callable[..., Path], size: int) -> None:
    """A bucket that is not there is named as the cause, with what to do."""
    make("a", size)
    run = jettyctl("upload", "a", "s3://no-such-bucket/a", "--chunk-size", "5MiB", server=s3_server, check=1)
    line = one_line(run)
    assert "NoSuchBucket" in line
    assert "Create the bucket" in line


@pytest.mark.parametrize(("variable", "size"), [("AWS_ACCESS_KEY_ID", 10), ("AWS_SECRET_ACCESS_KEY", CHUNK + 1)])
def test_wrong_credentials(
    rclone: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str, variable: str, size: int
) -> None:
    """Keys that the server refuses end the run at once with exit status 4."""
    make("a", size)
    began = time.monotonic()
    args = ["upload", "a", url(rclone, prefix), "--chunk-size", "5MiB"]
    run = jettyctl(*args, server=rclone, env={variable: "WRONGWRONGWRONGWRONG"}, check=4)
    assert time.monotonic() - began < 10
    assert variable in one_line(run)
    assert "WRONGWRONG" not in run.stderr


@pytest.mark.parametrize("size", [10, CHUNK + 1])
def test_permission_to_write_is_enough(
    s3_server: Server, jettyctl: Jettyctl, proxied: Proxied, make: Callable[..., Path], prefix: str, size: int
) -> None:
    """Where one may store but not look, as with s3:PutObject alone, uploads work."""
    path = make("a", size)
    proxy = proxied(s3_server, faults=[Fault("head", 1, status(403), times=EVERY)])
    for _ in range(2):
        jettyctl("upload", "a", url(proxy, prefix), "--chunk-size", "5MiB", server=proxy, check=0)
    assert fetch(s3_server, f"{prefix}a") == path.read_bytes()


@pytest.mark.parametrize("place", ["gs://bucket/x", "S3://bucket/x"])
def test_foreign_destinations(jettyctl: Jettyctl, home: Path, make: Callable[..., Path], place: str) -> None:
    """An address of a kind that there is not is refused; the files do not go elsewhere instead."""
    make("a", 10)
    assert "is not a destination" in one_line(jettyctl("upload", "a", place, check=2))
    assert not home.exists()


def test_no_credentials(moto: Server, jettyctl: Jettyctl, make: Callable[..., Path]) -> None:
    """Without any credentials nothing is sent, and the line says where they could come from."""
    make("a", 10)
    run = jettyctl("upload", "a", "s3://bucket/a", env={"AWS_ENDPOINT_URL_S3": moto.endpoint}, check=4)
    assert "AWS_ACCESS_KEY_ID" in one_line(run)


@pytest.mark.slow
def test_unreachable_endpoint(jettyctl: Jettyctl, make: Callable[..., Path]) -> None:
    """When nobody answers, the retries end some day, with exit status 5 and the endpoint's address."""
    make("a", 10)
    endpoint = f"http://127.0.0.1:{free_port()}"
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    run = jettyctl("upload", "-q", "a", "s3://bucket/a", "--endpoint-url", endpoint, env=keys, check=5)
    assert endpoint.removeprefix("http://") in one_line(run)


def test_a_lost_endpoint_is_said_in_time(start_jettyctl: Starter, make: Callable[..., Path]) -> None:
    """While it is tried again and again, -vv says so; Ctrl-C ends that within seconds."""
    make("a", 10)
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    args = ["upload", "a", "s3://bucket/a", "-vv", "--endpoint-url", f"http://127.0.0.1:{free_port()}"]
    process = start_jettyctl(*args, env=keys, stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert any(b"once more in" in line for line in iter(process.stderr.readline, b""))
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130


# Limits.


@pytest.mark.slow
def test_limit_rate(rclone: Server, jettyctl: Jettyctl, proxied: Proxied, make: Callable[..., Path], prefix: str) -> None:
    """What arrives at the far end keeps to the limit within 5 %, all parts together."""
    path, proxy = make("file", 6 * CHUNK), proxied(rclone)
    rate = 4 * MIB
    jettyctl("upload", "file", url(proxy, prefix), "--chunk-size", "5MiB", "--limit-rate", "4MiB/s", server=proxy, check=0)
    parts = ours(proxy, "part")
    seconds = max(request.ended or 0.0 for request in parts) - min(request.at for request in parts)
    assert 0.95 <= path.stat().st_size / seconds / rate <= 1.05


def with_few_descriptors(jettyctl: Jettyctl, *args: str, server: Server) -> subprocess.CompletedProcess[bytes]:
    """Run it where no process may have more than 64 open files."""
    command = shlex.join(os.fsdecode(word) for word in jettyctl.command(*args))
    return subprocess.run(
        ["sh", "-c", f"ulimit -n 64; exec {command}"],
        cwd=jettyctl.cwd,
        env=jettyctl.complete(server, None),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


@pytest.mark.slow
def test_few_descriptors_many_parts(rclone: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str) -> None:
    """Forty parts, as many threads as wanted, and 64 descriptors: it works."""
    path = make("file", 40 * CHUNK)
    args = ["upload", "file", url(rclone, prefix), "--chunk-size", "5MiB", "--threads", "64"]
    done = with_few_descriptors(jettyctl, *args, server=rclone)
    assert (done.returncode, done.stderr) == (0, b"")
    assert fetch(rclone, f"{prefix}file") == path.read_bytes()


@pytest.mark.slow
def test_few_descriptors_many_files(s3_server: Server, jettyctl: Jettyctl, make: Callable[..., Path], prefix: str) -> None:
    """Two hundred small files under 64 descriptors: all arrive."""
    for number in range(200):
        make(f"d/{number}", 100, seed=number)
    done = with_few_descriptors(jettyctl, "upload", "-r", "d", url(s3_server, prefix), server=s3_server)
    assert done.returncode == 0, done.stderr
    with client(s3_server) as s3:
        found = s3.list_objects_v2(Bucket=s3_server.bucket, Prefix=prefix)
    assert {item["Key"].removeprefix(prefix): item["Size"] for item in found["Contents"]} == {str(n): 100 for n in range(200)}

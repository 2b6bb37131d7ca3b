"""`jettyctl upload` as a process, against servers that others wrote: what was sent is what is there."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.runs import CHUNK, MIB, Proxied, Starter, files_below, ours, results, url
from tests.support.running import Jettyctl
from tests.support.servers import Server, client, fetch, head, list_uploads

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

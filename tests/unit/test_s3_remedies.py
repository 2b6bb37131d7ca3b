"""What a second try mends, where several requests need it at once: one answer changes what the next ones are signed with."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable

import pytest

from jettyctl.core.model import ObjectOptions
from jettyctl.storage.s3 import requests
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.credentials import Keys, StaticKeys
from jettyctl.storage.s3.sign import Signer
from tests.support.bodies import body_of
from tests.support.listener import SECRETS, Handler, Listener
from tests.support.threads import running

STORED = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n'
ELSEWHERE = b"HTTP/1.1 %s\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n"
CODE = b"<Error><Code>ExpiredToken</Code></Error>"
EXPIRED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(CODE), CODE)


def refuses(wrong: bytes, answer: bytes) -> Handler:
    """A server of two clients that answers so to what holds `wrong`: to the second when the first one has tried again."""
    both, mended = threading.Barrier(2), threading.Event()

    def handler(connection: socket.socket, listener: Listener) -> None:
        while head := listener.head(connection):
            if wrong in head and both.wait(5) and not mended.wait(5):
                return
            connection.sendall(answer if wrong in head else STORED)
            if wrong not in head:
                mended.set()

    return handler


def stored_by_two(store: S3Store) -> bool:
    """Whether two PUTs at once succeed."""
    puts = [lambda name=name: store.put(name, body_of(b""), ObjectOptions()) for name in ("a", "b")]
    with running(puts[0]) as first, running(puts[1]) as second:
        pass
    store.close()
    return not any(isinstance(outcome, Exception) for outcome in first + second)


@pytest.mark.parametrize("status", [b"301 Moved Permanently", b"400 Bad Request"])
def test_two_requests_in_the_wrong_region(
    listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch, status: bytes
) -> None:
    """Both are sent again to the bucket's region, and each is signed for the region whose endpoint it goes to."""
    server = listen(refuses(b"us-east-1", ELSEWHERE % status))
    monkeypatch.setattr(requests, "endpoint_url_of", lambda region: f"{server.url}/{region}")
    store = S3Store(S3Config("bucket", "us-east-1", checksum="none"), Signer(StaticKeys(SECRETS), "us-east-1"))
    assert stored_by_two(store)
    regions = [re.findall(rb"us-east-1|eu-west-1", head) for head in server.requests]
    assert sorted(regions) == [[b"eu-west-1"] * 2] * 2 + [[b"us-east-1"] * 2] * 2


class Renewed:
    """Keys that are others after a refresh."""

    def __init__(self) -> None:
        self.refreshed = 0

    def keys(self, *, refresh: bool = False) -> Keys:
        self.refreshed += refresh
        return Keys(f"AKIA{min(1, self.refreshed)}", "secret")


def test_keys_that_expire_for_two_requests(listen: Callable[..., Listener]) -> None:
    """Both are signed with new keys, which are asked for once."""
    server, source = listen(refuses(b"AKIA0", EXPIRED)), Renewed()
    store = S3Store(S3Config("bucket", "us-east-1", server.url, checksum="none"), Signer(source, "us-east-1"))
    assert stored_by_two(store)
    assert (len(server.requests), source.refreshed) == (4, 1)

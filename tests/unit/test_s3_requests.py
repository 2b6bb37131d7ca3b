"""Requests as servers get them: whole, no part breaks out of its place, and no error shows what is secret in them."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

import pytest

from jettyctl.core.model import ObjectOptions
from jettyctl.errors import AccessError, NetworkError, UsageError
from jettyctl.net.http import HttpClient
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.credentials import Keys, StaticKeys
from jettyctl.storage.s3.sign import Signer
from tests.support.bodies import body_of
from tests.support.listener import OK, SECRETS, Handler, Listener, says, store_at


def echo(connection: socket.socket, listener: Listener) -> None:
    """Send back what came, as a status line."""
    connection.sendall(listener.head(connection))


def hang_up(connection: socket.socket, listener: Listener) -> None:
    """Take the request and go."""
    listener.head(connection)


def echo_header(connection: socket.socket, listener: Listener) -> None:
    """Send back the signature where no header belongs."""
    signature = re.search(rb"Signature=[0-9a-f]+|canary-session-token", listener.head(connection))
    connection.sendall(b"HTTP/1.1 200 OK\r\n " + (signature[0] if signature else b"") + b"\x00\r\n\r\n")


def echo_error(connection: socket.socket, listener: Listener) -> None:
    """S3's own habit: the request that was refused, in the reply."""
    sent = listener.head(connection).replace(b"<", b"(").replace(b"\r\n", b" ")
    body = b"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>" + sent + b"</StringToSign></Error>"
    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(
    "handler", [echo, echo_header, echo_error, hang_up, says(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")]
)
def test_no_secret_in_errors(listen: Callable[..., Listener], handler: Handler) -> None:
    """No error text holds the secret key, the session token or a signature, also when the server sends them back."""
    server = listen(handler)
    store = store_at(server.url)
    with pytest.raises((NetworkError, AccessError)) as raised:
        store.put("key", body_of(b"x"), ObjectOptions())
    store.close()
    head = server.requests[0].decode()
    signature = re.search("Signature=([0-9a-f]{64})", head)
    assert signature
    assert "canary-session-token" in head
    for secret in (signature[1], SECRETS.secret_key, "canary-session-token"):
        assert secret not in f"{raised.value!r} {raised.value} {raised.value.hint}"


@pytest.mark.parametrize("token", ["canary-session-token\r", "canary-session-token\nx: y", "canary\0-session-token"])
def test_a_token_that_no_header_can_carry(listen: Callable[..., Listener], token: str) -> None:
    """A line break that was copied along is said at once, without the token, and nothing is sent."""
    server = listen(hang_up)
    keys = Keys(SECRETS.access_key, SECRETS.secret_key, token)
    store = S3Store(S3Config("bucket", "us-east-1", server.url, checksum="none"), Signer(StaticKeys(keys), "us-east-1"))
    with pytest.raises(UsageError, match="a header cannot be sent") as raised:
        store.put("key", body_of(b"x"), ObjectOptions())
    store.close()
    assert "canary" not in f"{raised.value!r} {raised.value.hint}"


@pytest.mark.parametrize(
    "metadata", [{"a": "x\r\nx-evil: 1"}, {"a\r\nx-evil": "1"}, {"a": "\x00"}, {"ü": "1"}, {"": "\n"}, {"a b": "1"}, {"a": " "}]
)
def test_header_injection(listen: Callable[..., Listener], metadata: dict[str, str]) -> None:
    """Metadata that would break out of its header is refused, and nothing is sent."""
    server = listen(says(OK))
    store = store_at(server.url)
    with pytest.raises(UsageError):
        store.put("key", body_of(b"x"), ObjectOptions(metadata=metadata))
    store.close()
    assert server.requests == []


@pytest.mark.parametrize("name", ["line\r\nx-evil: 1", "q?x=1#f", "sp ace", "%0d%0a", "ü"])
def test_keys_do_not_break_out(listen: Callable[..., Listener], name: str) -> None:
    """A key is one path in the request line, whatever it is made of: no header and no query comes of it."""
    server = listen(says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
    store = store_at(server.url)
    assert store.head(name) is None
    store.close()
    lines = server.requests[0].decode().split("\r\n")
    assert re.fullmatch(r"HEAD /bucket/[A-Za-z0-9%._~/-]+ HTTP/1\.1", lines[0])
    names = {line.partition(":")[0].lower() for line in lines[1:] if line}
    assert names == {
        "host",
        "accept-encoding",
        "user-agent",
        "x-amz-checksum-mode",
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-security-token",
        "authorization",
    }


def test_every_request_is_whole(listen: Callable[..., Listener], connect: Callable[..., HttpClient]) -> None:
    """A request without a host or a length of its body gets them; those that are given stay as they are, once."""
    server = listen(says(OK))
    client = connect(server.url)
    client.request("POST", server.url + "/x", [], b"")
    client.request("POST", server.url + "/x", [("Host", "h"), ("Content-Length", "0")], b"")
    place = server.url.partition("://")[2].encode()
    assert [sorted(request.lower().split(b"\r\n")[1:3]) for request in server.requests] == [
        [b"content-length: 0", b"host: " + place],
        [b"content-length: 0", b"host: h"],
    ]

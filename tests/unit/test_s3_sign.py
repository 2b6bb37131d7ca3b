"""Requests that are signed here and sent by somebody else: what they allow, and that they allow nothing else."""

from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import pytest

from jettyctl.core.model import MIB, ObjectOptions, Upload
from jettyctl.errors import UsageError
from jettyctl.files.crc import crc64, to_base64
from jettyctl.storage.base import PRESIGNED_SECONDS, PartClaim, SignedRequest
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.credentials import Keys, StaticKeys
from jettyctl.storage.s3.sign import Signer
from tests.support import servers
from tests.support.bodies import noise

PLAIN = ObjectOptions()
DATA = noise(100_000)
KEY = "a key+ü/%41"


def claim_of(data: bytes) -> PartClaim:
    return PartClaim(len(data), crc64(data), hashlib.md5(data).digest(), hashlib.sha256(data).digest())


def store_at(url: str, checksum: str = "auto") -> S3Store:
    keys = Keys(servers.ACCESS_KEY, servers.SECRET_KEY, "canary-token" if "invalid" in url else None)
    return S3Store(S3Config("bucket", servers.REGION, url, checksum=checksum), Signer(StaticKeys(keys), servers.REGION))


@pytest.fixture
def opened() -> Iterator[Callable[..., S3Store]]:
    """`opened(url)` is a store that is closed with the test."""
    stores: list[S3Store] = []

    def start(url: str, checksum: str = "auto") -> S3Store:
        stores.append(store_at(url, checksum))
        return stores[-1]

    yield start
    for store in stores:
        store.close()


def send(request: SignedRequest, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of the answer to a plain HTTP client that knows nothing but the request."""
    parts = urlsplit(request.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request(request.method, request.target, body, dict(request.headers))
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_a_signed_part_arrives(s3_server: servers.Server, opened: Callable[..., S3Store]) -> None:
    """Who has the request, and no credentials, stores the part; the whole object is readable by another such request."""
    store = opened(s3_server.endpoint)
    upload = Upload(KEY, store.create(KEY, PLAIN, len(DATA), 5 * MIB), 0.0)
    assert send(store.sign_part(upload, 1, claim_of(DATA)), DATA)[0] == 200
    (part,) = store.list_parts(upload)
    store.complete(upload, [part], size=len(DATA), crc64=crc64(DATA))
    assert send(store.sign_read(KEY)) == (200, DATA)


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed part, sound as it is, and another upload of the same key."""

    request: SignedRequest
    upload: Upload
    other: Upload


@pytest.fixture
def signed(rclone: servers.Server, opened: Callable[..., S3Store]) -> Signed:
    store = opened(rclone.endpoint)
    upload, other = (Upload(KEY, store.create(KEY, PLAIN, len(DATA), 5 * MIB), 0.0) for _ in range(2))
    return Signed(store.sign_part(upload, 1, claim_of(DATA)), upload, other)


def with_url(request: SignedRequest, old: str, new: str) -> SignedRequest:
    assert old in request.url
    return replace(request, url=request.url.replace(old, new))


def with_header(request: SignedRequest, name: str, value: str | None) -> SignedRequest:
    """The request with another value of a signed header, or without it."""
    assert name in request.headers
    headers = {**request.headers, name: value}
    return replace(request, headers={name: value for name, value in headers.items() if value is not None})


CHANGES: dict[str, Callable[[Signed], SignedRequest]] = {
    "another key": lambda s: with_url(s.request, "a%20key", "b%20key"),
    "another upload": lambda s: with_url(s.request, s.upload.upload_id, s.other.upload_id),
    "another part": lambda s: with_url(s.request, "partNumber=1", "partNumber=2"),
    "the whole object": lambda s: with_url(s.request, f"&uploadId={s.upload.upload_id}", ""),
    "a longer life": lambda s: with_url(s.request, "Expires=900", "Expires=9000"),
    "another time": lambda s: with_url(s.request, "X-Amz-Date=2", "X-Amz-Date=3"),
    "another host": lambda s: with_header(s.request, "host", "store.invalid"),
    "another MD5": lambda s: with_header(s.request, "content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="),
    "no MD5": lambda s: with_header(s.request, "content-md5", None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_signed_cannot_be_changed(signed: Signed, change: str) -> None:
    """The store refuses a request with another key, upload, part, life or signed header, and takes it as it was signed."""
    assert send(CHANGES[change](signed), DATA)[0] in (400, 403)
    assert send(signed.request, DATA)[0] == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_the_method_is_signed(signed: Signed, method: str) -> None:
    """A request to put a part neither lists parts nor aborts the upload."""
    assert send(replace(with_header(signed.request, "content-length", None), method=method))[0] == 403
    assert send(signed.request, DATA)[0] == 200


def test_the_length_is_signed(signed: Signed) -> None:
    """No part of another length is taken."""
    shorter = with_header(signed.request, "content-length", str(len(DATA) - 1))
    assert send(shorter, DATA[:-1])[0] == 403


def test_other_bytes_are_refused(signed: Signed) -> None:
    """Bytes that are not those of the claim are no part."""
    assert send(signed.request, bytes(len(DATA)))[0] == 400


def test_a_signed_hash_cannot_be_changed(rclone: servers.Server, opened: Callable[..., S3Store]) -> None:
    """Where SHA-256 is verified, the hash in the header is part of the signature: neither another nor none is taken."""
    store = opened(rclone.endpoint, "sha256")
    upload = Upload(KEY, store.create(KEY, PLAIN, len(DATA), 5 * MIB), 0.0)
    request = store.sign_part(upload, 1, claim_of(DATA))
    assert send(with_header(request, "x-amz-content-sha256", hashlib.sha256(b"other").hexdigest()), DATA)[0] == 403
    assert send(with_header(request, "x-amz-content-sha256", None), DATA)[0] == 403
    assert send(request, DATA)[0] == 200


def test_a_signed_read_is_no_write(rclone: servers.Server, opened: Callable[..., S3Store]) -> None:
    """A request to read an object neither replaces nor deletes it, nor does it read another."""
    store = opened(rclone.endpoint)
    servers.store(rclone, "read", DATA)
    servers.store(rclone, "other", DATA)
    request = store.sign_read("read")
    assert send(replace(request, method="DELETE"))[0] == 403
    assert send(replace(request, method="PUT"), b"x")[0] == 403
    assert send(with_url(request, "/read?", "/other?"))[0] == 403
    assert send(request) == (200, DATA)


@pytest.mark.slow
def test_requests_expire(rclone: servers.Server, opened: Callable[..., S3Store]) -> None:
    """A request is good until the time it names, and not after it."""
    store = opened(rclone.endpoint)
    servers.store(rclone, "soon over", DATA)
    request = store.sign_read("soon over", seconds=2)
    assert time.time() < request.expires_at <= time.time() + 2
    assert send(request)[0] == 200
    time.sleep(max(0.0, request.expires_at - time.time()) + 1.1)
    assert send(request)[0] in (400, 403)


@pytest.mark.parametrize("seconds", [PRESIGNED_SECONDS, 60])
def test_how_long_a_request_lives(opened: Callable[..., S3Store], seconds: int) -> None:
    """A quarter of an hour, or less where the caller wishes; the request says when it is over."""
    store = opened("http://store.invalid", "none")
    request = store.sign_part(Upload("k", "u", 0.0), 1, claim_of(DATA), seconds=seconds)
    assert f"X-Amz-Expires={seconds}&" in request.url
    assert 0 <= time.time() + seconds - request.expires_at < 5


@pytest.mark.parametrize(
    ("checksum", "header", "value"),
    [
        ("crc64nvme", "x-amz-checksum-crc64nvme", to_base64(crc64(DATA))),
        ("sha256", "x-amz-content-sha256", hashlib.sha256(DATA).hexdigest()),
        ("md5", "content-md5", None),
        ("etag", None, None),
        ("none", None, None),
    ],
)
def test_which_headers_are_signed(opened: Callable[..., S3Store], checksum: str, header: str | None, value: str | None) -> None:
    """Host, length and the checksum that the endpoint verifies are signed; these are the headers to send, and no others."""
    request = opened("http://store.invalid", checksum).sign_part(Upload("k", "u", 0.0), 1, claim_of(DATA))
    proofs = (
        {"authorization", "x-amz-date", "x-amz-security-token"} if checksum == "sha256" else set()
    )  # a query cannot cover the body's hash
    names = {"host", "content-length"} | ({header} if header else set())
    assert set(request.headers) - proofs == names
    if not proofs:
        assert f"X-Amz-SignedHeaders={'%3B'.join(sorted(names))}&" in request.url
    else:
        assert f"SignedHeaders={';'.join(sorted({*names, *proofs} - {'authorization'}))}," in request.headers["authorization"]
    if header and value:
        assert request.headers[header] == value


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_digest_that_is_missing(opened: Callable[..., S3Store], algorithm: str) -> None:
    """Without the digest that the endpoint verifies nothing is signed, and the error names what to give."""
    store = opened("http://store.invalid", algorithm)
    with pytest.raises(UsageError, match=algorithm) as raised:
        store.sign_part(Upload("k", "u", 0.0), 1, PartClaim(1, 1))
    assert algorithm in raised.value.hint


def test_a_claim_without_digests_is_enough_elsewhere(opened: Callable[..., S3Store]) -> None:
    """Where the endpoint verifies CRC64NVME, length and CRC are all that a client must know."""
    opened("http://store.invalid", "crc64nvme").sign_part(Upload("k", "u", 0.0), 1, PartClaim(1, 1))


def test_the_signature_is_not_shown(opened: Callable[..., S3Store]) -> None:
    """What is printed of a request is its method, address and the names of its headers: no signature, no session token."""
    store, hashing = opened("http://store.invalid", "none"), opened("http://store.invalid", "sha256")
    upload = Upload("k", "u", 0.0)
    for request in (
        store.sign_part(upload, 1, claim_of(DATA)),
        store.sign_read("k"),
        hashing.sign_part(upload, 1, claim_of(DATA)),
    ):
        assert "Signature=" in request.url + request.headers.get("authorization", "")
        assert "canary-token" in request.url + request.headers.get("x-amz-security-token", "")
        for shown in (repr(request), str(request), repr([request])):
            assert "http://store.invalid/bucket/k" in shown
            assert "Signature=" not in shown
            assert servers.ACCESS_KEY not in shown
            assert "canary-token" not in shown

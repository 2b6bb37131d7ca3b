"""The operations on whole objects, and what is common to all: who asks, which bucket, and what was said of the body."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from tests.support.judge.hashes import CHECKSUMS, Hashes
from tests.support.judge.profiles import Profile
from tests.support.judge.replies import Asked, Refusal, Reply, Request, document, element, http_date, iso, quoted
from tests.support.judge.shelf import Part, Shelf, Stored
from tests.support.judge.signature import UNSIGNED, Verifier

_DESCRIBING = ("content-type", "cache-control", "content-encoding", "content-disposition", "content-language", "expires")
LONGEST_KEY = 1024  # bytes


@dataclass(slots=True)
class Bucket:
    """Everything that one bucket answers from. `now` is the server's clock."""

    name: str
    profile: Profile
    verifier: Verifier
    now: Callable[[], float]
    shelf: Shelf = field(default_factory=Shelf)

    def admit(self, asked: Asked) -> str:
        """Before the body is read: the payload hash that was signed. Raises Refusal."""
        payload = self.verifier.payload(asked, self.now())
        if asked.bucket != self.name:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist.")
        if len(asked.key.encode("utf-8", "surrogateescape")) > LONGEST_KEY:
            raise Refusal(400, "KeyTooLongError", "Your key is too long.")
        if "transfer-encoding" in asked.headers:
            raise Refusal(501, "NotImplemented", "A header you provided implies functionality that is not implemented.")
        if asked.method == "PUT" and "content-length" not in asked.headers:
            raise Refusal(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        return payload

    def verify(self, asked: Asked, payload: str, body: Hashes) -> None:
        """After the body was read: is it what was signed and declared? Raises Refusal."""
        if payload != UNSIGNED and not hmac.compare_digest(payload, body.sha256.hex()):
            raise Refusal(400, "XAmzContentSHA256Mismatch", "The provided x-amz-content-sha256 does not match the body.")
        declared = asked.headers.get("content-md5")
        if declared is not None and "md5" in self.profile.verifies and _decoded(declared, 16) != body.md5:
            raise Refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        for name in CHECKSUMS if asked.op in ("put", "part") else ():
            given = asked.headers.get(f"x-amz-checksum-{name}")
            if given is None or name not in self.profile.verifies:
                continue
            computed = body.checksum(name)
            if _decoded(given, len(computed)) != computed:
                raise Refusal(400, "BadDigest", f"The {name.upper()} you specified did not match the calculated checksum.")

    def condition(self, asked: Asked) -> None:
        """If-None-Match and If-Match of a write."""
        if not self.profile.conditions:
            return
        present = self.shelf.objects.get(asked.key)
        unless, only = asked.headers.get("if-none-match"), asked.headers.get("if-match")
        if unless not in (None, "*"):
            raise Refusal(501, "NotImplemented", "If-None-Match takes only * here.")
        if only is not None and present is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        if (unless and present) or (only is not None and present and only.strip('"') != present.etag):
            raise Refusal(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")


def _decoded(text: str, length: int) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != length:
        raise Refusal(400, "InvalidDigest", "The checksum you specified is not valid.")
    return raw


def described(headers: Mapping[str, str]) -> dict[str, str]:
    """What a request says of the object that it makes."""
    return {name: value for name, value in headers.items() if name in _DESCRIBING or name.startswith("x-amz-meta-")}


def put(bucket: Bucket, request: Request) -> Reply:
    """PutObject."""
    if request.body.size > bucket.profile.max_put:
        raise Refusal(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
    bucket.condition(request.asked)
    part = Part.of(1, request.body, bucket.now())
    made = Stored((part,), part.etag, described(request.asked.headers), bucket.now())
    bucket.shelf.objects[request.asked.key] = made
    return Reply(200, headers={"ETag": quoted(made.etag), **_checksum_headers(bucket, made)})


def head(bucket: Bucket, request: Request) -> Reply:
    """HeadObject."""
    found = bucket.shelf.object(request.asked.key)
    return Reply(200, headers=_object_headers(bucket, request.asked, found), length=found.size)


def get(bucket: Bucket, request: Request) -> Reply:
    """GetObject, of objects whose bytes were kept."""
    found = bucket.shelf.object(request.asked.key)
    content = found.content
    if content is None:
        raise Refusal(501, "NotImplemented", "Only hashes of this object were kept.")
    headers = _object_headers(bucket, request.asked, found)
    span = request.asked.headers.get("range")
    if span is None:
        return Reply(200, content, headers)
    first, last = span_of(span, found.size)
    headers |= {"Content-Range": f"bytes {first}-{last}/{found.size}"}
    return Reply(206, content[first : last + 1], headers)


def span_of(text: str, size: int) -> tuple[int, int]:
    """First and last byte of a range of an object."""
    unit, _, span = text.partition("=")
    begin, _, end = span.partition("-")
    if unit != "bytes" or not (begin + end).isdecimal():
        raise Refusal(416, "InvalidRange", "The requested range is not satisfiable")
    first = int(begin) if begin else max(0, size - int(end))
    last = min(int(end), size - 1) if begin and end else size - 1
    if not first <= last:
        raise Refusal(416, "InvalidRange", "The requested range is not satisfiable")
    return first, last


def delete(bucket: Bucket, request: Request) -> Reply:
    """DeleteObject; one that is not there is no error."""
    bucket.shelf.objects.pop(request.asked.key, None)
    return Reply(204)


def source_of(bucket: Bucket, asked: Asked) -> tuple[str, Stored]:
    """Key and object that a copy is made of."""
    name, _, key = unquote(asked.headers["x-amz-copy-source"], errors="surrogateescape").removeprefix("/").partition("/")
    if name != bucket.name:
        raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist.")
    found = bucket.shelf.object(key)
    wanted = asked.headers.get("x-amz-copy-source-if-match")
    if wanted is not None and wanted.strip('"') != found.etag:
        raise Refusal(412, "PreconditionFailed", "The source is not the one you named.")
    return key, found


def copy(bucket: Bucket, request: Request) -> Reply:
    """CopyObject within the bucket."""
    key, found = source_of(bucket, request.asked)
    if found.size > bucket.profile.max_put:
        raise Refusal(400, "InvalidRequest", "The specified copy source is larger than the maximum allowable size.")
    replaces = request.asked.headers.get("x-amz-metadata-directive", "COPY") == "REPLACE"
    if key == request.asked.key and not replaces:
        raise Refusal(400, "InvalidRequest", "This copy request is illegal: it copies an object to itself without a change.")
    bucket.condition(request.asked)
    content = found.content
    parts = found.parts if content is None else (Part.of(1, Hashes.of(content), bucket.now()),)
    etag = found.etag if content is None else parts[0].etag
    made = Stored(parts, etag, described(request.asked.headers) if replaces else found.described, bucket.now())
    bucket.shelf.objects[request.asked.key] = made
    return document("CopyObjectResult", element("LastModified", iso(made.at)) + element("ETag", quoted(made.etag)))


def _object_headers(bucket: Bucket, asked: Asked, found: Stored) -> dict[str, str]:
    headers = {"ETag": quoted(found.etag), "Last-Modified": http_date(found.at), "Accept-Ranges": "bytes"}
    headers |= {"Content-Type": "binary/octet-stream", **{name.title(): value for name, value in found.described.items()}}
    if asked.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and "range" not in asked.headers:
        headers |= _checksum_headers(bucket, found)
    return headers


def _checksum_headers(bucket: Bucket, found: Stored) -> dict[str, str]:
    if "crc64nvme" not in bucket.profile.verifies:
        return {}
    value = base64.b64encode(found.crc64.to_bytes(8, "big")).decode()
    return {"x-amz-checksum-crc64nvme": value, "x-amz-checksum-type": "FULL_OBJECT"}

"""Signed requests to one bucket, and what a second try of the same request can mend: expired keys, clock, region."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import time
from collections.abc import Iterator
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlencode

from jettyctl.core.model import ObjectOptions, Upload, url_path
from jettyctl.core.names import printable
from jettyctl.errors import AccessError, JettyError, UsageError
from jettyctl.net.http import Headers, HttpClient, Reply
from jettyctl.storage.base import Body, SignedRequest
from jettyctl.storage.s3 import wire
from jettyctl.storage.s3.endpoints import Endpoint, endpoint_url_of, locate
from jettyctl.storage.s3.sign import EMPTY_SHA256, UNSIGNED, Means, Signer

METADATA_PREFIX = "x-amz-meta-"
_REGION = re.compile("[a-z0-9-]{1,40}")  # a reply must not choose the host by more than this
_HEADER_NAME = re.compile("[a-z0-9!#$%&'*+.^_`|~-]+")
_UNFIT = re.compile(r"[\x00-\x1f\x7f]|^ | $")  # of a value


class S3Config(NamedTuple):
    """How to reach a bucket. `checksum` is `auto` or one of probe.CHECKSUMS; `endpoint_url` None means AWS."""

    bucket: str
    region: str
    endpoint_url: str | None = None
    addressing: str = "auto"
    verify_tls: bool = True
    ca_file: str | None = None
    checksum: str = "auto"


class Requests:
    """Speaks to the bucket that `config` names."""

    def __init__(self, config: S3Config, signer: Signer) -> None:
        self._config = config
        self._signer = signer
        self.http = HttpClient(self._located(config.region).origin, verify=config.verify_tls, ca_file=config.ca_file)

    @property
    def endpoint(self) -> Endpoint:
        """Where requests go; an answer may have corrected the region."""
        return self._located(self._signer.region)

    def source(self, key: str) -> str:
        """An object of this bucket as the value of `x-amz-copy-source`."""
        return f"/{self._config.bucket}/{url_path(key)}"

    def send(
        self,
        method: str,
        key: str,
        query: str,
        headers: Headers | None = None,
        body: Body | bytes | None = None,
        *,
        payload: str | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """One request and its reply, whatever its status. `payload` is the body's hash that is signed; bytes are hashed here."""
        mended: set[str] = set()
        while True:
            means = self._signer.means()
            content = body if isinstance(body, bytes) else None
            url, signed = self._signed(method, key, query, headers or [], payload or _hash_of(content), means)
            stream = body if body is None or isinstance(body, bytes) else body.slices()
            reply = self.http.request(method, url, signed, stream, timeout)
            remedy = self._remedy(reply, means)
            if remedy is None or remedy in mended or not self._apply(remedy, reply, means):
                return reply
            mended.add(remedy)

    @contextlib.contextmanager
    def download(self, key: str) -> Iterator[tuple[Reply, Iterator[bytes]]]:
        """A GET, as `HttpClient.download`."""
        url, headers = self._signed("GET", key, "", [], EMPTY_SHA256, self._signer.means())
        with self.http.download(url, headers) as found:
            yield found

    def presign(self, method: str, key: str, query: str, headers: Headers, payload: str, seconds: int) -> SignedRequest:
        """A request that somebody else may send, with exactly these headers, for so long.

        A query's signature covers no hash of the body. Where `payload` is one, the headers are signed instead: stores take
        those for a quarter of an hour, whatever `seconds` says.
        """
        means = self._signer.means()
        endpoint = self._located(means.region)
        path, headers = _path(endpoint, key, query), [("host", endpoint.host), *headers]
        until = math.floor(time.time()) + seconds  # what is signed has whole seconds
        if payload == UNSIGNED:
            path = self._signer.presign(method, path, headers, payload, seconds, means)
        else:
            headers = [(name.lower(), value) for name, value in self._signer.sign(method, path, headers, payload, means)]
        return SignedRequest(method, endpoint.origin + path, MappingProxyType(dict(headers)), until)

    def _located(self, region: str) -> Endpoint:
        url = self._config.endpoint_url or endpoint_url_of(region)
        return locate(url, self._config.bucket, self._config.addressing)

    def _remedy(self, reply: Reply, means: Means) -> str | None:
        """What may help a request that was signed with `means`, and got this answer."""
        if reply.status < 300:
            return None
        fault = wire.fault_of(reply)
        if fault.code == "RequestTimeTooSkewed":
            return "clock"
        region = reply.headers.get("x-amz-bucket-region", means.region)
        if self._config.endpoint_url is None and region != means.region and _REGION.fullmatch(region):
            return "region"
        error: JettyError = wire.error_of(reply, "")
        return "keys" if isinstance(error, AccessError) and error.expired else None

    def _apply(self, remedy: str, reply: Reply, means: Means) -> bool:
        if remedy == "clock":
            return self._signer.correct_clock(reply.headers.get("date", ""))
        if remedy == "keys":
            return self._signer.refresh(means.keys)
        self._signer.region = reply.headers["x-amz-bucket-region"]
        return True

    def _signed(self, method: str, key: str, query: str, headers: Headers, payload: str, means: Means) -> tuple[str, Headers]:
        """A request's URL, and its headers."""
        endpoint = self._located(means.region)
        path = _path(endpoint, key, query)
        common = [("host", endpoint.host), ("accept-encoding", "identity"), ("user-agent", "jettyctl")]
        return endpoint.origin + path, self._signer.sign(method, path, common + headers, payload, means)


def _path(endpoint: Endpoint, key: str, query: str) -> str:
    return endpoint.prefix + url_path(key) + (f"?{query}" if query else "")


def part_query(upload: Upload, number: int) -> str:
    """The query that names one part."""
    return urlencode({"partNumber": str(number), "uploadId": upload.upload_id})


def object_headers(options: ObjectOptions) -> Headers:
    """What is said about an object. Raises UsageError for what would break out of its header."""
    named = {
        "content-type": options.content_type,
        "cache-control": options.cache_control,
        "x-amz-storage-class": options.storage_class,
        "x-amz-acl": options.acl,
        "x-amz-server-side-encryption": options.sse,
        "x-amz-server-side-encryption-aws-kms-key-id": options.sse_kms_key_id,
    }
    metadata = {METADATA_PREFIX + name.lower(): value for name, value in options.metadata.items()}
    headers = [(name, value) for name, value in {**named, **metadata}.items() if value is not None]
    for name, value in headers:
        if _UNFIT.search(value) or not _HEADER_NAME.fullmatch(name):
            raise UsageError(f"{printable(name)} cannot be sent: {printable(value)[:60]!r}", hint="Use plain text on one line.")
    return headers


def _hash_of(content: bytes | None) -> str:
    return hashlib.sha256(content).hexdigest() if content else EMPTY_SHA256

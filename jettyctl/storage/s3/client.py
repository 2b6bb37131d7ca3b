"""The S3 store: one bucket at one endpoint, spoken to in signed requests. Retry and rate limit are wrapped around it."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote, urlencode

from jettyctl.core.events import Note
from jettyctl.core.model import SHA256_METADATA, Limits, ObjectInfo, ObjectOptions, Receipt, Upload, url_path
from jettyctl.core.names import printable
from jettyctl.errors import AccessError, CorruptedInTransit, JettyError, StoreError, UploadGone, UsageError
from jettyctl.files.crc import from_base64, to_base64
from jettyctl.net.http import COMPLETE_TIMEOUT, Headers, HttpClient, Reply
from jettyctl.storage.base import Body
from jettyctl.storage.s3 import wire
from jettyctl.storage.s3.endpoints import endpoint_url_of, locate
from jettyctl.storage.s3.memory import ChecksumMemory
from jettyctl.storage.s3.probe import PROBE_SUFFIX, probe_checksum
from jettyctl.storage.s3.sign import EMPTY_SHA256, UNSIGNED, Signer

_METADATA_PREFIX = "x-amz-meta-"
_REGION = re.compile("[a-z0-9-]{1,40}")  # a reply must not choose the host by more than this
_HEADER_NAME = re.compile("[a-z0-9!#$%&'*+.^_`|~-]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class S3Config:
    """How to reach a bucket. `checksum` is `auto` or one of probe.CHECKSUMS; `endpoint_url` None means AWS."""

    bucket: str
    region: str
    endpoint_url: str | None = None
    addressing: str = "auto"
    verify_tls: bool = True
    ca_file: str | None = None
    checksum: str = "auto"


class S3Store:
    """Keeps the promises of `storage.base.Store`."""

    def __init__(
        self,
        config: S3Config,
        signer: Signer,
        *,
        memory: ChecksumMemory | None = None,
        note: Callable[[Note], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._signer = signer
        self._memory = memory or ChecksumMemory()
        self._note = note
        self._place(config.region)
        self._http = HttpClient(self._endpoint.origin, verify=config.verify_tls, ca_file=config.ca_file)
        self._probing = threading.Lock()
        known = self._endpoint.vendor.checksum or self._memory.recall(self._endpoint.origin)
        self._checksum = known if config.checksum == "auto" else config.checksum

    @property
    def limits(self) -> Limits:
        return self._endpoint.vendor.limits

    @property
    def checksum(self) -> str:
        return self._checksum or "auto"

    def head(self, key: str) -> ObjectInfo | None:
        reply = self._send("HEAD", key, "", [("x-amz-checksum-mode", "ENABLED")])
        if reply.status == 404 and wire.fault_of(reply).code != "NoSuchBucket":
            return None
        self._must(reply, "looking at", key)
        headers = reply.headers
        metadata = {name[len(_METADATA_PREFIX) :]: value for name, value in headers.items() if name.startswith(_METADATA_PREFIX)}
        whole = headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT" and self._checksum == "crc64nvme"
        return ObjectInfo(
            size=_length(headers),
            etag=_etag(headers),
            crc64=from_base64(headers.get("x-amz-checksum-crc64nvme", "")) if whole else None,
            sha256=metadata.get(SHA256_METADATA),
            metadata=MappingProxyType(metadata),
        )

    def put(self, key: str, body: Body, options: ObjectOptions, *, if_absent: bool = False) -> ObjectInfo:
        headers = _object_headers(options) + ([("if-none-match", "*")] if if_absent else [])
        receipt = self._put_body(key, "", 0, body, headers, "storing", known_sha256=SHA256_METADATA in options.metadata)
        return ObjectInfo(receipt.size, receipt.etag, metadata=options.metadata)

    def create(self, key: str, options: ObjectOptions, size: int | None, chunk_size: int) -> str:
        headers = _object_headers(options)
        if self.settle(key) == "crc64nvme":
            headers += [("x-amz-checksum-algorithm", "CRC64NVME"), ("x-amz-checksum-type", "FULL_OBJECT")]
        reply = self._must(self._send("POST", key, "uploads=", headers, b""), "beginning the upload of", key)
        return wire.upload_id_of(reply)

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        self.settle(upload.key)
        return self._put_body(upload.key, _part_query(upload, number), number, body, [], f"part {number} of")

    def put_part_by(self, http: HttpClient, address: str, upload: Upload, number: int, body: Body) -> Receipt:
        """The same request by way of an edge at `address`, presigned: the edge learns nothing that outlives it."""
        self.settle(upload.key)
        extra, payload = self._integrity(body, False)
        if payload != UNSIGNED:
            extra.append(("x-amz-content-sha256", payload))
        headers = [("host", self._endpoint.host), ("content-length", str(body.length)), *extra]
        path = self._endpoint.prefix + url_path(upload.key) + "?" + _part_query(upload, number)
        target = self._signer.presign("PUT", path, headers, payload)
        headers += [("content-digest", f"crc64nvme=:{to_base64(body.crc64)}:"), ("accept-encoding", "identity")]
        reply = http.request("PUT", address + target, headers, body.slices())
        return self._receipt(reply, upload.key, number, body, f"part {number} of")

    def list_parts(self, upload: Upload) -> list[Receipt]:
        parts: list[Receipt] = []
        marker = ""
        while True:
            query = urlencode(
                {
                    "max-parts": "1000",
                    **({"part-number-marker": marker} if marker else {}),
                    "uploadId": upload.upload_id,
                }
            )
            reply = self._must(self._send("GET", upload.key, query), "listing the parts of", upload.key)
            root = wire.root_of(reply, "ListPartsResult", "ListPartsResponse")  # the latter is moto's
            parts += map(wire.part_of, wire.children(root, "Part"))
            following = wire.text_of(root, "NextPartNumberMarker", "")
            if wire.text_of(root, "IsTruncated", "false") != "true" or following == marker:
                return parts
            marker = following

    def complete(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, crc64: int | None, if_absent: bool = False
    ) -> ObjectInfo:
        headers: Headers = [("content-type", "application/xml")] + ([("if-none-match", "*")] if if_absent else [])
        if self._endpoint.vendor.object_size or self._checksum == "crc64nvme":
            headers.append(("x-amz-mp-object-size", str(size)))
        if self._checksum == "crc64nvme" and crc64 is not None:
            headers += [("x-amz-checksum-crc64nvme", to_base64(crc64)), ("x-amz-checksum-type", "FULL_OBJECT")]
        query = urlencode({"uploadId": upload.upload_id})
        reply = self._send("POST", upload.key, query, headers, wire.complete_body(receipts), timeout=COMPLETE_TIMEOUT)
        root = wire.root_of(self._must(reply, "completing", upload.key), "CompleteMultipartUploadResult")
        return ObjectInfo(size, wire.text_of(root, "ETag", "").strip('"'))

    def abort(self, upload: Upload) -> None:
        reply = self._send("DELETE", upload.key, urlencode({"uploadId": upload.upload_id}))
        if reply.status == 404:
            return
        try:
            self._must(reply, "aborting the upload of", upload.key)
        except UploadGone:
            return

    def list_uploads(self, key: str) -> list[Upload]:
        uploads: list[Upload] = []
        markers: dict[str, str] = {}
        while True:
            query = urlencode({"encoding-type": "url", **markers, "prefix": key, "uploads": ""}, quote_via=quote)
            reply = self._must(self._send("GET", "", query), "listing the unfinished uploads of", key)
            root = wire.root_of(reply, "ListMultipartUploadsResult")
            uploads += [
                Upload(key, wire.text_of(item, "UploadId"), wire.epoch_of(wire.text_of(item, "Initiated", "")))
                for item in wire.children(root, "Upload")
                if wire.is_named(item, key, root)
            ]
            following = {
                "key-marker": wire.text_of(root, "NextKeyMarker", ""),
                "upload-id-marker": wire.text_of(root, "NextUploadIdMarker", ""),
            }
            if wire.text_of(root, "IsTruncated", "false") != "true" or following == markers:
                return uploads
            markers = following

    def read(self, key: str) -> Iterator[bytes]:
        path, headers = self._signed("GET", key, "", [], EMPTY_SHA256)
        with self._http.download(self._endpoint.origin + path, headers) as (reply, pieces):
            self._must(reply, "reading", key)
            yield from pieces

    def cancel(self, thread: int) -> None:
        self._http.cancel(thread)

    def interrupt(self) -> None:
        self._http.interrupt()

    def close(self) -> None:
        self._http.close()

    def _place(self, region: str) -> None:
        url = self._config.endpoint_url or endpoint_url_of(region)
        self._endpoint = locate(url, self._config.bucket, self._config.addressing)

    def _put_body(
        self, key: str, query: str, number: int, body: Body, headers: Headers, what: str, *, known_sha256: bool = False
    ) -> Receipt:
        extra, payload = self._integrity(body, known_sha256)
        length = [("content-length", str(body.length))]
        reply = self._send("PUT", key, query, headers + extra + length, body, payload=payload)
        return self._receipt(reply, key, number, body, what)

    def _receipt(self, reply: Reply, key: str, number: int, body: Body, what: str) -> Receipt:
        """What a PUT's reply is worth. Raises the error in it."""
        self._must(reply, what, key)
        etag = _etag(reply.headers)
        if not etag and number:
            raise StoreError(
                f"{what} {printable(key)}: the reply has no ETag", hint="This endpoint does not speak S3 as it should."
            )
        if self._checksum == "etag" and etag != body.digest("md5").hex():
            raise CorruptedInTransit(f"{what} {printable(key)}: the store's MD5 is not that of the bytes sent")
        return Receipt(number, body.length, etag, body.crc64)

    def _integrity(self, body: Body, known_sha256: bool) -> tuple[Headers, str]:
        """The headers by which the receiving side checks this body, and the payload hash that is signed."""
        payload = body.digest("sha256").hex() if known_sha256 or self._checksum == "sha256" else UNSIGNED
        if self._checksum == "crc64nvme":
            return [("x-amz-checksum-crc64nvme", to_base64(body.crc64))], payload
        if self._checksum == "md5" or (self._checksum is None and body.length):
            return [("content-md5", base64.b64encode(body.digest("md5")).decode())], payload
        return [], payload

    def settle(self, key: str) -> str:
        """The checksum that this endpoint verifies, probed now, beside `key`, if it is not known."""
        if self._checksum is None:
            with self._probing:
                if self._checksum is None:
                    self._checksum = self._probe(key)
        return self._checksum

    def _probe(self, key: str) -> str:
        def call(method: str, query: str, headers: Headers, body: bytes, payload: str) -> Reply:
            return self._send(method, key + PROBE_SUFFIX, query, headers, body, payload=payload or EMPTY_SHA256)

        found = probe_checksum(call)
        if found.sure:
            self._memory.learn(self._endpoint.origin, found.checksum)
        self._note(_told(self._endpoint.origin, found.checksum))
        return found.checksum

    def _must(self, reply: Reply, what: str, key: str) -> Reply:
        """The reply, if its status is a success. 3xx is none."""
        if 200 <= reply.status < 300:
            return reply
        raise wire.error_of(reply, f"{what} {printable(key)}")

    def _send(
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
        """Sign and send, once more after what a second try of the same request can mend: expired keys, clock, region."""
        mended: set[str] = set()
        while True:
            content = body if isinstance(body, bytes) else None
            path, signed = self._signed(method, key, query, headers or [], payload or _hash_of(content))
            stream = body if body is None or isinstance(body, bytes) else body.slices()
            reply = self._http.request(method, self._endpoint.origin + path, signed, stream, timeout)
            remedy = self._remedy(reply)
            if remedy is None or remedy in mended or not self._apply(remedy, reply):
                return reply
            mended.add(remedy)

    def _remedy(self, reply: Reply) -> str | None:
        if reply.status < 300:
            return None
        fault = wire.fault_of(reply)
        if fault.code == "RequestTimeTooSkewed":
            return "clock"
        region = reply.headers.get("x-amz-bucket-region", self._signer.region)
        if self._config.endpoint_url is None and region != self._signer.region and _REGION.fullmatch(region):
            return "region"
        error: JettyError = wire.error_of(reply, "")
        return "keys" if isinstance(error, AccessError) and error.expired else None

    def _apply(self, remedy: str, reply: Reply) -> bool:
        if remedy == "clock":
            return self._signer.correct_clock(reply.headers.get("date", ""))
        if remedy == "keys":
            return self._signer.refresh()
        self._signer.region = reply.headers["x-amz-bucket-region"]
        self._place(self._signer.region)
        return True

    def _signed(self, method: str, key: str, query: str, headers: Headers, payload: str) -> tuple[str, Headers]:
        path = self._endpoint.prefix + url_path(key) + (f"?{query}" if query else "")
        common = [("host", self._endpoint.host), ("accept-encoding", "identity"), ("user-agent", "jettyctl")]
        return path, self._signer.sign(method, path, common + headers, payload)


def _told(origin: str, found: str) -> Note:
    """What a probe found, for people: that nothing is verified is worth a warning, once."""
    if found == "none":
        return Note("warning", f"{origin} verifies no checksum: nothing but TCP and TLS guards the bytes on their way there")
    return Note("info", f"{origin} verifies: {found}")


def _part_query(upload: Upload, number: int) -> str:
    return urlencode({"partNumber": str(number), "uploadId": upload.upload_id})


def _hash_of(content: bytes | None) -> str:
    if not content:
        return EMPTY_SHA256
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _object_headers(options: ObjectOptions) -> Headers:
    named = {
        "content-type": options.content_type,
        "cache-control": options.cache_control,
        "x-amz-storage-class": options.storage_class,
        "x-amz-acl": options.acl,
        "x-amz-server-side-encryption": options.sse,
        "x-amz-server-side-encryption-aws-kms-key-id": options.sse_kms_key_id,
    }
    metadata = {_METADATA_PREFIX + name.lower(): value for name, value in options.metadata.items()}
    headers = [(name, value) for name, value in {**named, **metadata}.items() if value is not None]
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or _UNPRINTABLE.search(value) or value != value.strip(" "):
            raise UsageError(f"{printable(name)} cannot be sent: {printable(value)[:60]!r}", hint="Use plain text on one line.")
    return headers


def _etag(headers: Mapping[str, str]) -> str:
    return headers.get("etag", "").strip('"')


def _length(headers: Mapping[str, str]) -> int:
    try:
        return int(headers["content-length"])
    except (KeyError, ValueError):
        raise StoreError("the reply does not say how long the object is") from None

"""The S3 store: one bucket at one endpoint, spoken to in signed requests. Retry and rate limit are wrapped around it."""

from __future__ import annotations

import base64
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote, urlencode

from jettyctl.core.events import Note
from jettyctl.core.model import SHA256_METADATA, Limits, ObjectInfo, ObjectOptions, Receipt, Upload
from jettyctl.core.names import printable
from jettyctl.core.tiers import FAR
from jettyctl.errors import CorruptedInTransit, JettyError, NetworkError, NoSuchBucket, StoreError, UploadGone
from jettyctl.files.crc import from_base64, to_base64
from jettyctl.net.http import COMPLETE_TIMEOUT, Headers, HttpClient, Reply
from jettyctl.storage.base import PRESIGNED_SECONDS, Body, Claim, SignedRequest
from jettyctl.storage.s3 import wire
from jettyctl.storage.s3.memory import ChecksumMemory
from jettyctl.storage.s3.probe import PROBE_SUFFIX, probe_checksum
from jettyctl.storage.s3.requests import METADATA_PREFIX, Requests, S3Config, object_headers, part_query
from jettyctl.storage.s3.sign import EMPTY_SHA256, UNSIGNED, Signer

__all__ = ["S3Config", "S3Store"]

LIKELY = "crc64nvme"  # what most endpoints verify, or ignore
MANY = 16  # objects sent with an MD5 before it is asked, beside the others, which checksum the endpoint verifies

CLOSING, CUTTING = 1.5, 0.3  # seconds that the background has to end by itself, and when it was cut: a stop is over within 5


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
        self._requests = Requests(config, signer)
        self._memory = memory or ChecksumMemory()
        self._note = note
        self._probing = threading.Lock()
        self._whole_puts = itertools.count()
        self._background: list[threading.Thread] = []
        known = self._requests.endpoint.vendor.checksum or self._memory.recall(self._requests.endpoint.origin)
        self._checksum = known if config.checksum == "auto" else config.checksum

    def open_ahead(self, count: int) -> None:
        """Have so many connections opened while other things are prepared."""
        self._requests.http.open_ahead(count)

    @property
    def limits(self) -> Limits:
        return self._requests.endpoint.vendor.limits

    @property
    def checksum(self) -> str:
        return self._checksum or "auto"

    def head(self, key: str) -> ObjectInfo | None:
        reply = self._requests.send("HEAD", key, "", [("x-amz-checksum-mode", "ENABLED")])
        if reply.status == 404 and wire.fault_of(reply).code != "NoSuchBucket":
            return None
        if reply.status == 400 and not wire.fault_of(reply).code:  # one of the reasons passes: RequestTimeout
            raise NetworkError(f"looking at {printable(key)}: HTTP 400", hint="Check --endpoint-url and the credentials.")
        wire.must(reply, "looking at", key)
        headers = reply.headers
        if not _etag(headers) and "last-modified" not in headers:  # a portal says 200 to whatever it is asked
            raise wire.error_of(reply, f"looking at {printable(key)}")
        metadata = {name[len(METADATA_PREFIX) :]: value for name, value in headers.items() if name.startswith(METADATA_PREFIX)}
        whole = headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT" and self._checksum == "crc64nvme"
        return ObjectInfo(
            size=_length(headers),
            etag=_etag(headers),
            crc64=from_base64(headers.get("x-amz-checksum-crc64nvme", "")) if whole else None,
            sha256=metadata.get(SHA256_METADATA),
            metadata=MappingProxyType(metadata),
        )

    def put(self, key: str, body: Body, options: ObjectOptions, *, if_absent: bool = False) -> ObjectInfo:
        headers = object_headers(options) + ([("if-none-match", "*")] if if_absent else [])
        if self._checksum is None and next(self._whole_puts) == MANY:
            self._in_background(lambda: self.settle(key))  # from now on a checksum that costs nothing does what MD5 did
        known_sha256 = SHA256_METADATA in options.metadata
        receipt = self._put_body(key, "", 0, body, headers, "storing", checksum=self._checksum, known_sha256=known_sha256)
        return ObjectInfo(receipt.size, receipt.etag, metadata=options.metadata)

    def round_trip(self) -> float | None:
        return self._requests.http.round_trip()

    def farther_than(self, seconds: float) -> bool:
        return self._requests.http.farther_than(seconds)

    def expect(self, key: str, requests: int) -> None:
        self._requests.http.open_ahead(requests)
        if self._checksum is None:
            self._in_background(lambda: self.settle(key))

    def create(self, key: str, options: ObjectOptions, size: int | None, chunk_size: int) -> str:
        """Which checksum the endpoint verifies may still be asked meanwhile: most verify this one, or ignore it."""
        guess = self._checksum or LIKELY
        try:
            upload_id = self._begin(key, options, guess)
        except StoreError as error:
            if isinstance(error, NoSuchBucket) or self.settle(key) == guess:
                raise
            return self._begin(key, options, self.settle(key))
        if self._waits_not() or self.settle(key) in (guess, "none"):
            return upload_id
        with contextlib.suppress(JettyError):
            self.abort(Upload(key, upload_id, 0))
        return self._begin(key, options, self.settle(key))

    def _begin(self, key: str, options: ObjectOptions, checksum: str) -> str:
        headers = object_headers(options)
        if checksum == "crc64nvme":
            headers += [("x-amz-checksum-algorithm", "CRC64NVME"), ("x-amz-checksum-type", "FULL_OBJECT")]
        reply = wire.must(self._requests.send("POST", key, "uploads=", headers, b""), "beginning the upload of", key)
        return wire.upload_id_of(reply)

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        """Far from a store the first parts are on their way before it is known what it verifies. Where that is not what they
        carry, the MD5 of what arrived tells whether they are sent again.
        """
        if not self._waits_not():
            self.settle(upload.key)
            return self._put_part(upload, number, body)
        try:
            receipt = self._put_part(upload, number, body, early=True)
        except StoreError as error:
            if isinstance(error, UploadGone | NoSuchBucket) or self.settle(upload.key) == LIKELY:
                raise
        else:
            if self.settle(upload.key) in (LIKELY, "none") or receipt.etag == body.digest("md5").hex():
                return receipt
        return self._put_part(upload, number, body)

    def _waits_not(self) -> bool:
        """Whether parts need not wait for the probe."""
        return self._checksum is None and self.farther_than(FAR)

    def _put_part(self, upload: Upload, number: int, body: Body, *, early: bool = False) -> Receipt:
        query, what = part_query(upload, number), f"part {number} of"
        return self._put_body(upload.key, query, number, body, [], what, checksum=LIKELY if early else self._checksum)

    def put_part_by(self, http: HttpClient, address: str, upload: Upload, number: int, body: Body) -> Receipt:
        """The same request by way of an edge at `address`, presigned: the edge learns nothing that outlives it."""
        signed = self.sign_part(upload, number, body)
        headers = [("content-digest", f"crc64nvme=:{to_base64(body.crc64)}:"), ("accept-encoding", "identity")]
        reply = http.request("PUT", address + signed.target, [*signed.headers.items(), *headers], body.slices())
        return self._receipt(reply, upload.key, number, body, f"part {number} of")

    def sign_part(self, upload: Upload, number: int, claim: Claim, *, seconds: int = PRESIGNED_SECONDS) -> SignedRequest:
        """Keeps the promise of `PartSigner`: the length is signed, and whichever checksum the endpoint verifies."""
        self.settle(upload.key)
        extra, payload = _integrity(claim, self._checksum, False)
        headers = [("content-length", str(claim.length)), *extra]
        return self._requests.presign("PUT", upload.key, part_query(upload, number), headers, payload, seconds)

    def sign_read(self, key: str, *, seconds: int = PRESIGNED_SECONDS) -> SignedRequest:
        """A GET of the whole object, for somebody else."""
        return self._requests.presign("GET", key, "", [], UNSIGNED, seconds)

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
            reply = wire.must(self._requests.send("GET", upload.key, query), "listing the parts of", upload.key)
            root = wire.root_of(reply, "ListPartsResult", "ListPartsResponse")  # the latter is moto's
            parts += (wire.part_of(part, crc64=self._checksum == "crc64nvme") for part in wire.children(root, "Part"))
            following = wire.text_of(root, "NextPartNumberMarker", "")
            if wire.text_of(root, "IsTruncated", "false") != "true" or following == marker:
                return parts
            marker = following

    def complete(
        self,
        upload: Upload,
        receipts: Sequence[Receipt],
        *,
        size: int,
        crc64: int | None,
        sha256: str | None = None,
        if_absent: bool = False,
    ) -> ObjectInfo:
        headers: Headers = [("content-type", "application/xml")] + ([("if-none-match", "*")] if if_absent else [])
        if self._requests.endpoint.vendor.object_size or self._checksum == "crc64nvme":
            headers.append(("x-amz-mp-object-size", str(size)))
        if self._checksum == "crc64nvme" and crc64 is not None:
            headers += [("x-amz-checksum-crc64nvme", to_base64(crc64)), ("x-amz-checksum-type", "FULL_OBJECT")]
        query = urlencode({"uploadId": upload.upload_id})
        reply = self._requests.send("POST", upload.key, query, headers, wire.complete_body(receipts), timeout=COMPLETE_TIMEOUT)
        root = wire.root_of(wire.must(reply, "completing", upload.key), "CompleteMultipartUploadResult")
        return ObjectInfo(size, wire.text_of(root, "ETag", "").strip('"'))

    def abort(self, upload: Upload) -> None:
        reply = self._requests.send("DELETE", upload.key, urlencode({"uploadId": upload.upload_id}))
        if reply.status == 404:
            return
        try:
            wire.must(reply, "aborting the upload of", upload.key)
        except UploadGone:
            return

    def list_uploads(self, key: str) -> list[Upload]:
        uploads: list[Upload] = []
        markers: dict[str, str] = {}
        while True:
            query = urlencode({"encoding-type": "url", **markers, "prefix": key, "uploads": ""}, quote_via=quote)
            reply = wire.must(self._requests.send("GET", "", query), "listing the unfinished uploads of", key)
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
        with self._requests.download(key) as (reply, pieces):
            wire.must(reply, "reading", key)
            yield from pieces

    def copy(self, source_key: str, key: str, options: ObjectOptions, size: int, *, if_absent: bool = False) -> ObjectInfo:
        from jettyctl.storage.s3.copy import Copying  # most runs copy nothing

        return Copying(self, self._requests, source_key, key, options).perform(size, if_absent=if_absent)

    def delete(self, key: str) -> None:
        reply = self._requests.send("DELETE", key, "")
        if reply.status != 404 or wire.fault_of(reply).code == "NoSuchBucket":
            wire.must(reply, "deleting", key)

    def cancel(self, thread: int) -> None:
        self._requests.http.cancel(thread)

    def interrupt(self) -> None:
        self._requests.http.interrupt()

    def close(self) -> None:
        if not self._background_ends(CLOSING):
            self._requests.http.interrupt()
            self._background_ends(CUTTING)
        self._requests.http.close()

    def _background_ends(self, seconds: float) -> bool:
        """Whether all of it does within this time."""
        until = time.monotonic() + seconds
        for thread in self._background:  # what one of them begins follows it
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._background)

    def _put_body(
        self,
        key: str,
        query: str,
        number: int,
        body: Body,
        headers: Headers,
        what: str,
        *,
        checksum: str | None,
        known_sha256: bool = False,
    ) -> Receipt:
        extra, payload = _integrity(body, checksum, known_sha256)
        length = [("content-length", str(body.length))]
        reply = self._requests.send("PUT", key, query, headers + extra + length, body, payload=payload)
        return self._receipt(reply, key, number, body, what)

    def _receipt(self, reply: Reply, key: str, number: int, body: Body, what: str) -> Receipt:
        """What a PUT's reply is worth. Raises the error in it."""
        wire.must(reply, what, key)
        etag = _etag(reply.headers)
        if not etag:  # a page of a portal, or an error that was found after the status line was sent
            raise wire.error_of(reply, f"{what} {printable(key)}")
        if self._checksum == "etag" and etag != body.digest("md5").hex():
            raise CorruptedInTransit(f"{what} {printable(key)}: the store's MD5 is not that of the bytes sent")
        return Receipt(number, body.length, etag, body.crc64)

    def settle(self, key: str) -> str:
        """The checksum that this endpoint verifies, probed now, beside `key`, if it is not known."""
        if self._checksum is None:
            with self._probing:
                if self._checksum is None:
                    self._checksum = self._probe(key)
        return self._checksum

    def _probe(self, key: str) -> str:
        def call(method: str, query: str, headers: Headers, body: bytes, payload: str) -> Reply:
            return self._requests.send(method, key + PROBE_SUFFIX, query, headers, body, payload=payload or EMPTY_SHA256)

        found = probe_checksum(call, self._in_background)
        if found.sure:
            self._memory.learn(self._requests.endpoint.origin, found.checksum)
        self._note(_told(self._requests.endpoint.origin, found.checksum))
        return found.checksum

    def _in_background(self, call: Callable[[], object]) -> None:
        """Run what nobody waits for. What it raises is raised again where somebody does, or does not matter."""

        def run() -> None:
            with contextlib.suppress(JettyError):
                call()

        thread = threading.Thread(target=run, name="background", daemon=True)
        with contextlib.suppress(RuntimeError):  # no memory for another thread: what has to be known is asked for later
            thread.start()
            self._background.append(thread)


def _integrity(body: Claim, checksum: str | None, known_sha256: bool) -> tuple[Headers, str]:
    """The headers by which the receiving side checks this body, and the payload hash that is signed."""
    payload = body.digest("sha256").hex() if known_sha256 or checksum == "sha256" else UNSIGNED
    if checksum == "crc64nvme":
        return [("x-amz-checksum-crc64nvme", to_base64(body.crc64))], payload
    if checksum == "md5" or (checksum is None and body.length):
        return [("content-md5", base64.b64encode(body.digest("md5")).decode())], payload
    return [], payload


def _told(origin: str, found: str) -> Note:
    """What a probe found, for people: that nothing is verified is worth a warning, once."""
    if found == "none":
        return Note("warning", f"{origin} verifies no checksum: nothing but TCP and TLS guards the bytes on their way there")
    return Note("info", f"{origin} verifies: {found}")


def _etag(headers: Mapping[str, str]) -> str:
    return headers.get("etag", "").strip('"')


def _length(headers: Mapping[str, str]) -> int:
    try:
        return int(headers["content-length"])
    except (KeyError, ValueError):
        raise StoreError("the reply does not say how long the object is") from None

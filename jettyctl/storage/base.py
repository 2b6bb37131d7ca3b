"""The promises of a store, and of the bodies that it is given.

All calls block and may come from any thread, several at a time. A store speaks for one bucket (or root); keys are
validated before they get here. Every failure is a JettyError: `retryable` says whether the same call may succeed later.
Policy (retry, rate limit) wraps this same interface.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from jettyctl.core.model import Limits, ObjectInfo, ObjectOptions, Receipt, Upload


class Body(Protocol):
    """The bytes of one request. Its checksums are known before the first byte is sent."""

    @property
    def length(self) -> int:
        """Exactly how many bytes `slices` yields."""

    @property
    def crc64(self) -> int:
        """CRC64NVME of the bytes that were hashed; what is sent is compared with it."""

    def digest(self, algorithm: str) -> bytes:
        """`md5` or `sha256` of the bytes; may read them once more. Remembered after the first call."""

    def slices(self) -> Iterator[bytes]:
        """The bytes from the start, at every call, in slices of at most 256 KiB.

        Raises before the last slice is yielded (SourceChanged, SourceError, Interrupted), so that a store never gets
        a whole body of wrong bytes.
        """


class Route(Protocol):
    """One way for parts of one store's uploads: straight to it, or by way of an edge. Calls block, from any thread."""

    @property
    def id(self) -> str:
        """The edge's id; "" for the direct route."""

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        """As `Store.put_part`. An edge is not trusted: that its receipt means anything is for the store to say."""

    def cancel(self, thread: int) -> None:
        """End the call that a thread (by `threading.get_ident`) has in flight; it raises NetworkError. No call: nothing."""

    def interrupt(self) -> None:
        """End all calls in flight soon: they raise Interrupted or NetworkError. The route is not used afterwards."""

    def close(self) -> None:
        """Give back connections. Idempotent."""


class Store(Protocol):
    """One bucket (or root) that takes objects."""

    @property
    def limits(self) -> Limits:
        """What the endpoint takes."""

    @property
    def checksum(self) -> str:
        """How parts are verified on arrival, for people: crc64nvme | sha256 | md5 | etag | none."""

    def head(self, key: str) -> ObjectInfo | None:
        """Describe an object; None if there is none. Idempotent."""

    def put(self, key: str, body: Body, options: ObjectOptions, *, if_absent: bool = False) -> ObjectInfo:
        """Store an object in one request. Idempotent, except that `if_absent` raises AlreadyExists on a repeat."""

    def create(self, key: str, options: ObjectOptions, size: int | None, chunk_size: int) -> str:
        """Begin a multipart upload; its id. Not idempotent: a lost reply leaves an unfinished upload.

        `size` is None for a stream whose end is not known yet.
        """

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        """Store one part. Idempotent: the same number replaces. Raises UploadGone."""

    def list_parts(self, upload: Upload) -> list[Receipt]:
        """The parts that the store has, all pages, in order of number. Raises UploadGone."""

    def complete(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, crc64: int | None, if_absent: bool = False
    ) -> ObjectInfo:
        """Make the object from its parts, atomically: readers see the old object or the whole new one.

        Not idempotent: a repeat after success raises UploadGone. `crc64` is that of the whole object.
        Raises AlreadyExists if `if_absent` and the key was taken meanwhile.
        """

    def abort(self, upload: Upload) -> None:
        """Forget a multipart upload and its parts. Idempotent: an unknown upload is no error."""

    def list_uploads(self, key: str) -> list[Upload]:
        """The unfinished multipart uploads of exactly this key. Empty where the store cannot tell."""

    def read(self, key: str) -> Iterator[bytes]:
        """The object's bytes in order. Raises StoreError if there is none."""

    def cancel(self, thread: int) -> None:
        """End the call that a thread (by `threading.get_ident`) has in flight; it raises NetworkError. No call: nothing."""

    def interrupt(self) -> None:
        """End all calls in flight soon: they raise Interrupted or NetworkError. The store is not used afterwards."""

    def close(self) -> None:
        """Give back connections. Idempotent."""

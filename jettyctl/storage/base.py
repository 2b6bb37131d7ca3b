"""The promises of a store, and of the bodies that it is given.

All calls block and may come from any thread, several at a time. A store speaks for one bucket (or root); keys are
validated before they get here. Every failure is a JettyError: `retryable` says whether the same call may succeed later.
Policy (retry, rate limit) wraps this same interface.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from jettyctl.core.model import Limits, ObjectInfo, ObjectOptions, Receipt, Upload
from jettyctl.errors import UsageError

PRESIGNED_SECONDS = 900  # a part takes less, and what an edge could do with it is over soon


class Claim(Protocol):
    """What is known of the bytes of one request before they are here. Whoever stores them has them checked."""

    @property
    def length(self) -> int:
        """Exactly how many bytes there are."""

    @property
    def crc64(self) -> int:
        """CRC64NVME of the bytes that were hashed; what is sent is compared with it."""

    def digest(self, algorithm: str) -> bytes:
        """`md5` or `sha256` of the bytes; may read them once more. Remembered after the first call."""


class Body(Claim, Protocol):
    """The bytes of one request. Its checksums are known before the first byte is sent."""

    def slices(self) -> Iterator[bytes]:
        """The bytes from the start, at every call, in slices of at most 1 MiB.

        Raises before the last slice is yielded (SourceChanged, SourceError, Interrupted), so that a store never gets
        a whole body of wrong bytes.
        """

    def halted(self) -> bool:
        """Whether nobody waits for it any more: its file failed, or its bytes arrived another way."""


class PartClaim(NamedTuple):
    """What a client says of a part that it will send. Which digest a store needs, its `settle` says."""

    length: int
    crc64: int
    md5: bytes | None = None
    sha256: bytes | None = None

    def digest(self, algorithm: str) -> bytes:
        """Raises UsageError if the client did not give it."""
        known = {"md5": self.md5, "sha256": self.sha256}.get(algorithm)
        if known is None:
            raise UsageError(
                f"the store verifies parts by their {algorithm}, which was not given",
                hint=f"Send the {algorithm} of each part, beside its length and CRC64NVME.",
            )
        return known


@dataclass(frozen=True, slots=True, repr=False)
class SignedRequest:
    """A request that somebody else may send, with `headers` as they are, until `expires_at` (seconds since the epoch).

    The query of `url` and the values of `headers` are a secret: whoever has them can do what they allow.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    expires_at: float

    @property
    def target(self) -> str:
        """Path and query, for a request that goes to an edge's address instead."""
        parts = urlsplit(self.url)
        return f"{parts.path}?{parts.query}"

    def __repr__(self) -> str:
        shown = self.url.partition("?")[0]
        return f"SignedRequest({self.method} {shown}?…, headers={sorted(self.headers)}, expires_at={self.expires_at})"


class PartSigner(Protocol):
    """Signs part requests that others send, so that bytes need not pass through this process."""

    def sign_part(self, upload: Upload, number: int, claim: Claim, *, seconds: int = PRESIGNED_SECONDS) -> SignedRequest:
        """A PUT of exactly this part, valid for so long: method, key, upload, number, length, and where the store
        verifies one a checksum cannot be changed. Raises UsageError if the claim lacks the digest that is verified.
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

    def expect(self, key: str, requests: int) -> None:
        """A multipart upload of this key is likely to come, with so many requests at once: what it would have to wait for may
        begin. Never blocks or raises.
        """

    def round_trip(self) -> float | None:
        """Seconds that a packet takes to the store and back, as far as it is known."""

    def farther_than(self, seconds: float) -> bool:
        """Whether a round trip takes longer than that; waits at most so long to find out."""

    def create(self, key: str, options: ObjectOptions, size: int | None, chunk_size: int) -> str:
        """Begin a multipart upload; its id. Not idempotent: a lost reply leaves an unfinished upload.

        `size` is None for a stream whose end is not known yet.
        """

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        """Store one part. Idempotent: the same number replaces. Raises UploadGone."""

    def list_parts(self, upload: Upload) -> list[Receipt]:
        """The parts that the store has, all pages, in order of number. Raises UploadGone."""

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
        """Make the object from its parts, atomically: readers see the old object or the whole new one.

        Not idempotent: a repeat after success raises UploadGone. `crc64` and `sha256` are those of the whole object; the
        latter is for stores that keep an index of what they hold.
        Raises AlreadyExists if `if_absent` and the key was taken meanwhile.
        """

    def abort(self, upload: Upload) -> None:
        """Forget a multipart upload and its parts. Idempotent: an unknown upload is no error."""

    def list_uploads(self, key: str) -> list[Upload]:
        """The unfinished multipart uploads of exactly this key. Empty where the store cannot tell."""

    def read(self, key: str) -> Iterator[bytes]:
        """The object's bytes in order. Raises StoreError if there is none."""

    def copy(self, source_key: str, key: str, options: ObjectOptions, size: int, *, if_absent: bool = False) -> ObjectInfo:
        """Make `key` another object with the bytes of `source_key`, which are `size`, without moving them through here.

        Readers see the old object or the whole new one. It is described by `options` alone: nothing that was said of the
        source is said of it. Idempotent, except that `if_absent` raises AlreadyExists on a repeat. Raises StoreError if
        there is no such source. Where a server has no conditional copy, `if_absent` looks before, and can be overtaken.
        """

    def delete(self, key: str) -> None:
        """Remove an object, for good. Idempotent: one that is not there is no error."""

    def cancel(self, thread: int) -> None:
        """End the call that a thread (by `threading.get_ident`) has in flight; it raises NetworkError. No call: nothing."""

    def interrupt(self) -> None:
        """End all calls in flight soon: they raise Interrupted or NetworkError. The store is not used afterwards."""

    def close(self) -> None:
        """Give back connections. Idempotent."""

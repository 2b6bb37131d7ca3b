"""The nouns: source identity, target, chunk, layout, receipt, object. Sizes and offsets are bytes throughout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

SESSION_METADATA = "jetty-session"  # user metadata that names the session which made an object
SHA256_METADATA = "jetty-sha256"  # user metadata with the content's SHA-256, where it is known before the first byte


class Identity(NamedTuple):
    """A file as `fstat` on the open descriptor saw it. Two equal identities are taken for the same bytes."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Target(NamedTuple):
    """Where an object goes. `endpoint` is a URL for `s3`, a directory for `local`, the origin of the control plane for
    `jetty`; only `s3` has a `bucket`.
    """

    scheme: str
    endpoint: str
    bucket: str
    key: str

    @property
    def url(self) -> str:
        """The address that users type and read: `s3://bucket/key`, `jetty://host/key` or `local:key`."""
        if self.scheme == "local":
            return f"local:{self.key}"
        return f"{self.scheme}://{self.bucket or self.endpoint.partition('://')[2]}/{self.key}"

    @property
    def place(self) -> str:
        """One string that tells targets apart, endpoint included."""
        return "\n".join((self.scheme, self.endpoint, self.bucket, self.key))


class Range(NamedTuple):
    """Contiguous bytes of a file. A plain tuple: some decisions name tens of thousands of them."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)  # not a named tuple: `index` is a method of those
class Chunk:
    """A contiguous byte range of the source, sent as one part. `index` counts from 0, `number` (S3's) from 1."""

    index: int
    offset: int
    length: int

    @property
    def number(self) -> int:
        return self.index + 1


@dataclass(frozen=True, slots=True)
class Layout:
    """How `size` bytes are cut: every chunk but the last has `chunk_size` bytes."""

    size: int
    chunk_size: int

    @property
    def count(self) -> int:
        return max(1, -(-self.size // self.chunk_size))

    def chunk(self, index: int) -> Chunk:
        if not 0 <= index < self.count:
            raise IndexError(index)
        offset = index * self.chunk_size
        return Chunk(index, offset, min(self.chunk_size, self.size - offset))

    def __iter__(self) -> Iterator[Chunk]:
        return (self.chunk(index) for index in range(self.count))


class Receipt(NamedTuple):
    """What the store answered for one part. `crc64` is that of the bytes sent, None where only the store knows the part."""

    number: int
    size: int
    etag: str
    crc64: int | None = None


class Upload(NamedTuple):
    """An unfinished multipart upload at the store. `initiated` is seconds since the epoch, by the store's clock."""

    key: str
    upload_id: str
    initiated: float


class ObjectInfo(NamedTuple):
    """A stored object as its store describes it. Checksums are of the whole object, None where the store has none."""

    size: int
    etag: str
    crc64: int | None = None
    sha256: str | None = None
    metadata: Mapping[str, str] = MappingProxyType({})

    @property
    def session_id(self) -> str | None:
        return self.metadata.get(SESSION_METADATA)


@dataclass(frozen=True, slots=True)
class ObjectOptions:
    """What the user wants said about the object. None leaves it to the store."""

    content_type: str | None = None
    cache_control: str | None = None
    storage_class: str | None = None
    acl: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class Limits(NamedTuple):
    """What one endpoint takes. Data per endpoint, not constants: vendors differ."""

    max_parts: int = 10_000
    min_part: int = 5 * MIB
    max_part: int = 5 * GIB
    max_object: int = 10_000 * 5 * GIB
    max_key_bytes: int = 1_024


class Digests(NamedTuple):
    """Checksums of a whole file. `blake3` is None where nobody asked for it."""

    sha256: str
    crc64: int
    blake3: str | None = None


class Stored(NamedTuple):
    """What an upload of ours left at a place."""

    size: int
    etag: str
    sha256: str
    session_id: str


def url_path(key: str) -> str:
    """The key as a URL path: every byte but unreserved characters and `/` percent-encoded, as SigV4 for S3 wants it."""
    return quote(key.encode("utf-8", "surrogateescape"), safe="/-_.~")

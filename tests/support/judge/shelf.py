"""What a bucket holds: objects and unfinished uploads, as the hashes of their parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.support.judge.hashes import Hashes, joined_crc64
from tests.support.judge.replies import Refusal


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes that arrived in one request. `content` is None where bytes are not kept."""

    number: int
    size: int
    etag: str
    sha256: str
    crc64: int
    at: float
    content: bytes | None = None

    @classmethod
    def of(cls, number: int, body: Hashes, at: float) -> Part:
        return cls(number, body.size, body.md5.hex(), body.sha256.hex(), body.crc64, at, body.content)


@dataclass(frozen=True, slots=True)
class Stored:
    """An object. `described` are the headers that were said of it when it was made."""

    parts: tuple[Part, ...]
    etag: str
    described: Mapping[str, str]
    at: float

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def crc64(self) -> int:
        """Of the whole object."""
        return joined_crc64((part.crc64, part.size) for part in self.parts)

    @property
    def content(self) -> bytes | None:
        """The bytes, where all parts kept them."""
        pieces = [part.content for part in self.parts]
        return None if any(piece is None for piece in pieces) else b"".join(piece or b"" for piece in pieces)

    def holds(self, data: bytes) -> bool:
        """Whether the object is exactly these bytes: sizes and SHA-256, part by part."""
        offset = 0
        for part in self.parts:
            if hashlib.sha256(data[offset : offset + part.size]).hexdigest() != part.sha256:
                return False
            offset += part.size
        return offset == len(data)


@dataclass(slots=True)
class Unfinished:
    """A multipart upload."""

    id: str
    key: str
    described: Mapping[str, str]
    at: float
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass(slots=True)
class Shelf:
    """One bucket. `made` counts the uploads, so that their ids are the same in every run."""

    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Unfinished] = field(default_factory=dict)
    made: int = 0

    def begin(self, key: str, described: Mapping[str, str], at: float) -> Unfinished:
        """A new upload."""
        self.made += 1
        name = hashlib.sha256(f"{self.made} {key}".encode("utf-8", "surrogateescape")).hexdigest()
        upload = Unfinished(name, key, described, at)
        self.uploads[upload.id] = upload
        return upload

    def upload(self, upload_id: str | None, key: str, at: float, expiry: float | None) -> Unfinished:
        """The upload of exactly this key, if it is still there."""
        found = self.uploads.get(upload_id or "")
        if found is not None and expiry is not None and at - found.at > expiry:
            del self.uploads[found.id]
            found = None
        if found is None or found.key != key:
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        return found

    def object(self, key: str) -> Stored:
        """An object that must be there."""
        found = self.objects.get(key)
        if found is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        return found


def joined_etag(parts: Iterable[Part]) -> str:
    """The ETag of an object of several parts: the MD5 of their MD5s, and how many they are."""
    etags = [bytes.fromhex(part.etag) for part in parts]
    return f"{hashlib.md5(b''.join(etags), usedforsecurity=False).hexdigest()}-{len(etags)}"

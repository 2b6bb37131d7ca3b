"""Is the object at the target already this file? Decided by hashes and what the store reports, never by time stamps."""

from __future__ import annotations

from jettyctl.core.model import Digests, ObjectInfo, Stored


def comparable(info: ObjectInfo | None, size: int) -> bool:
    """Whether hashing the file first could prove that it need not be sent: same size, and the store states a checksum."""
    return info is not None and info.size == size and (info.sha256 is not None or info.crc64 is not None)


def unchanged(info: ObjectInfo | None, digests: Digests | None, remembered: Stored | None) -> bool:
    """Whether the object holds exactly the bytes of `digests`.

    What is said of the object decides where anything is, and all of it must fit: its SHA-256 is what its sender said, its
    CRC64 what the store found. Else the object must still be the one (by ETag and size) that we remember having stored with
    this SHA-256.
    """
    if info is None or digests is None:
        return False
    if info.sha256 is not None or info.crc64 is not None:
        return info.sha256 in (None, digests.sha256) and info.crc64 in (None, digests.crc64)
    if remembered is None:
        return False
    return (remembered.etag, remembered.size, remembered.sha256) == (info.etag, info.size, digests.sha256)

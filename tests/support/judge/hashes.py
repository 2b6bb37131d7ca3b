"""What is kept of bytes instead of the bytes: size and hashes, and how hashes of parts join.

CRC64NVME comes from the AWS runtime, whose values the tests compare with published ones; that two of them join to that of
both is done here, so that the product is not checked by the very function that it uses.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from functools import lru_cache

from awscrt import checksums

CHECKSUMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")  # the `x-amz-checksum-` headers
_POLYNOMIAL = 0x9A6C9329AC4BC9B5  # CRC64NVME's, bit-reversed as its registers are


class Hashes:
    """Hashes of bytes that pass by. Bytes stay only if `keep`, and checksums that are rarely sent only if `asked`."""

    __slots__ = ("_blocks", "_crc32", "_crc32c", "_md5", "_sha1", "_sha256", "crc64", "size")

    def __init__(self, *, keep: bool = False, asked: Iterable[str] = ()) -> None:
        self.size = 0
        self.crc64 = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._sha1 = hashlib.sha1(usedforsecurity=False) if "sha1" in asked else None
        self._crc32: int | None = 0 if "crc32" in asked else None
        self._crc32c: int | None = 0 if "crc32c" in asked else None
        self._blocks: list[bytes] | None = [] if keep else None

    def update(self, block: bytes) -> None:
        self.size += len(block)
        self.crc64 = checksums.crc64nvme(block, self.crc64)
        self._md5.update(block)
        self._sha256.update(block)
        if self._sha1 is not None:
            self._sha1.update(block)
        if self._crc32 is not None:
            self._crc32 = zlib.crc32(block, self._crc32)
        if self._crc32c is not None:
            self._crc32c = checksums.crc32c(block, self._crc32c)
        if self._blocks is not None:
            self._blocks.append(block)

    @classmethod
    def of(cls, content: bytes, *, keep: bool = True) -> Hashes:
        """Of bytes that are there."""
        made = cls(keep=keep)
        made.update(content)
        return made

    @property
    def md5(self) -> bytes:
        return self._md5.digest()

    @property
    def sha256(self) -> bytes:
        return self._sha256.digest()

    @property
    def content(self) -> bytes | None:
        """The bytes, if they were kept."""
        return None if self._blocks is None else b"".join(self._blocks)

    def checksum(self, name: str) -> bytes:
        """One of CHECKSUMS, as its header has it before base64."""
        if name == "sha256":
            return self.sha256
        if name == "crc64nvme":
            return self.crc64.to_bytes(8, "big")
        if name == "sha1":
            assert self._sha1 is not None
            return self._sha1.digest()
        value = self._crc32 if name == "crc32" else self._crc32c
        assert value is not None
        return value.to_bytes(4, "big")


def joined_crc64(pieces: Iterable[tuple[int, int]]) -> int:
    """The CRC64NVME of byte strings one after another, from the CRC and the size of each."""
    whole = 0
    for crc, size in pieces:
        whole = _multiply(whole, _shift(size)) ^ crc
    return whole


@lru_cache(maxsize=256)
def _shift(size: int) -> int:
    """x to the power of 8 * size, modulo the polynomial: what zeros of that many bytes do to a CRC."""
    power, base, left = 1 << 63, 1 << 62, 8 * size
    while left:
        if left & 1:
            power = _multiply(power, base)
        base = _multiply(base, base)
        left >>= 1
    return power


def _multiply(first: int, second: int) -> int:
    """The product of two polynomials whose highest bit is the constant term."""
    product = 0
    for _ in range(64):
        if first & (1 << 63):
            product ^= second
        first = (first << 1) & (1 << 64) - 1
        second = (second >> 1) ^ (_POLYNOMIAL if second & 1 else 0)
    return product

"""Request bodies for tests of stores: `files.body.FileBody` as the engine uses it, over bytes in memory."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from jettyctl.errors import SourceChanged
from jettyctl.files.body import FileBody
from jettyctl.files.crc import crc64


@dataclass(frozen=True, slots=True)
class Bytes:
    """A readable source in memory."""

    data: bytes

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def changed(self, how: str) -> SourceChanged:
        return SourceChanged(f"the bytes {how}")


class SlowBody:
    """A body that would take half a minute: one small slice every 20 ms."""

    def __init__(self, length: int = 1_500 * 16) -> None:
        self.length = length
        self.crc64 = crc64(bytes(length))

    def digest(self, algorithm: str) -> bytes:
        return body_of(bytes(self.length)).digest(algorithm)

    def halted(self) -> bool:
        return False

    def slices(self) -> Iterator[bytes]:
        for _ in range(self.length // 16):
            time.sleep(0.02)
            yield bytes(16)


def body_of(data: bytes) -> FileBody:
    """A body of these bytes."""
    return FileBody(Bytes(data), 0, len(data), crc64(data))


def changed_body(hashed: bytes, found: bytes) -> FileBody:
    """A body whose source held `hashed` when it was hashed, and holds `found` when it is sent."""
    assert len(hashed) == len(found)
    return FileBody(Bytes(found), 0, len(found), crc64(hashed))


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that depend only on `seed`."""
    return random.Random(seed).randbytes(size)

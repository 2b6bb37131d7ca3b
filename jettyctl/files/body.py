"""The bytes of one request, read from the source as they are sent, and compared with what was hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

from jettyctl.errors import Interrupted
from jettyctl.files.crc import crc64

SLICE = 256 * 1024  # bytes handed to the socket at a time: fits the L2 cache, and keeps 32 threads within 8 MiB


class Readable(Protocol):
    """Positional reads; `changed` makes the error for bytes that are not what they were."""

    def read(self, offset: int, length: int) -> bytes: ...

    def changed(self, how: str) -> Exception: ...


class FileBody:
    """A range of a source. Reading it again at every attempt costs a copy from the page cache, not memory.

    `kept` are its bytes, where somebody has them in memory anyway: then nothing is read.
    """

    def __init__(
        self,
        source: Readable,
        offset: int,
        length: int,
        crc: int,
        *,
        on_bytes: Callable[[int], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
        digests: dict[str, bytes] | None = None,
        kept: bytes = b"",
    ) -> None:
        self.length = length
        self.crc64 = crc
        self._source = source
        self._offset = offset
        self._on_bytes = on_bytes
        self._stopped = stopped
        self._digests = dict(digests or {})
        self._kept = kept

    def digest(self, algorithm: str) -> bytes:
        """`md5` or `sha256` of the range, read once more if it was not given or asked for before."""
        if algorithm not in self._digests:
            sum_ = hashlib.new(algorithm, usedforsecurity=False)
            for data in self._pieces():
                sum_.update(data)
            self._digests[algorithm] = sum_.digest()
        return self._digests[algorithm]

    def halted(self) -> bool:
        return self._stopped()

    def slices(self) -> Iterator[bytes]:
        """The range from its start. The last slice is only yielded if all bytes are those that were hashed."""
        crc, left = 0, self.length
        for data in self._pieces():
            if self.halted():
                raise Interrupted("stopped on request")
            crc = crc64(data, crc)
            left -= len(data)
            if left == 0 and crc != self.crc64:
                raise self._source.changed("changed")
            yield data
            self._on_bytes(len(data))

    def _pieces(self) -> Iterator[bytes]:
        if self._kept:
            yield from (self._kept[start : start + SLICE] for start in range(0, len(self._kept), SLICE))
            return
        position, end = self._offset, self._offset + self.length
        while position < end:
            data = self._source.read(position, min(SLICE, end - position))
            position += len(data)
            yield data

"""Everything that is to be known of a stored object, from reading it once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from jettyctl.core.model import KIB, Digests
from jettyctl.core.possession import Answers
from jettyctl.core.sampling import sample_ranges
from jettyctl.errors import IntegrityError
from jettyctl.files.crc import crc64
from jettyctl.files.fingerprint import new_sample, sample_text

_WORTH_A_THREAD = 256 * KIB  # bytes; handing over less costs more than it saves


@dataclass(frozen=True, slots=True)
class Content:
    """What an object's bytes are. `answers`: the digest for each seed of `core.possession`."""

    digests: Digests
    sample: str
    answers: Mapping[bytes, bytes]


class ObjectDigest:
    """Fed with an object's bytes in order, best 1 to 4 MiB at a time; for one thread, to be closed after use.

    SHA-256 takes three quarters of the time, so it has a thread of its own; `update` returns when both are done with the
    bytes, which may then be overwritten.
    """

    def __init__(self, size: int, seeds: Iterable[bytes] = ()) -> None:
        from blake3 import blake3

        self._size = size
        self._position = 0
        self._seeds = tuple(seeds)
        self._sha256 = hashlib.sha256()
        self._blake3 = blake3()
        self._crc64 = 0
        self._sample = new_sample(size)
        self._answers = Answers(self._seeds, size)
        self._second = ThreadPoolExecutor(1)

    def update(self, data: bytes | memoryview) -> None:
        """The next bytes of the object."""
        view = memoryview(data)
        if len(view) < _WORTH_A_THREAD:
            self._sha256.update(view)
            self._update_others(view)
        else:
            hashed = self._second.submit(self._sha256.update, view)
            self._update_others(view)
            hashed.result()
        self._position += len(view)

    def content(self) -> Content:
        """What the bytes are. Raises IntegrityError if they were not `size` bytes."""
        if self._position != self._size:
            raise IntegrityError(f"the object has {self._position} bytes where {self._size} were expected")
        return Content(
            Digests(self._sha256.hexdigest(), self._crc64, self._blake3.hexdigest()),
            sample_text(self._sample),
            {seed: self._answers.digest(seed) for seed in self._seeds},
        )

    def close(self) -> None:
        self._second.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _update_others(self, view: memoryview) -> None:
        self._blake3.update(view)
        self._crc64 = crc64(view, self._crc64)
        self._answers.update(view)
        for offset, length in sample_ranges(self._size):
            begin, end = max(0, offset - self._position), offset + length - self._position
            if begin < len(view) and end > 0:
                self._sample.update(view[begin:end])

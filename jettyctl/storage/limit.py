"""A limit on the rate of all bodies together (`--limit-rate`), as a wrapper of any store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from jettyctl.core.model import ObjectInfo, ObjectOptions, Receipt, Upload
from jettyctl.storage.base import Body, Store
from jettyctl.storage.wrapper import StoreWrapper

SLICE_SECONDS = 0.1  # a slice is cut so that it takes about this long at the limit


class RateLimit:
    """Hands out moments to send at, so that the sum of all slices keeps to `rate` bytes a second."""

    def __init__(
        self, rate: float, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.rate = rate
        self._clock = clock
        self._sleep = sleep
        self._free_at = 0.0
        self._lock = threading.Lock()

    def wait_for(self, count: int) -> None:
        """Wait until `count` more bytes may go out."""
        with self._lock:
            now = self._clock()
            starts = max(now, self._free_at)
            self._free_at = starts + count / self.rate
        if starts > now:
            self._sleep(starts - now)


class LimitedBody:
    """A body whose slices wait for the limit."""

    def __init__(self, inner: Body, limit: RateLimit) -> None:
        self._inner = inner
        self._limit = limit
        self.length = inner.length
        self.crc64 = inner.crc64

    def digest(self, algorithm: str) -> bytes:
        return self._inner.digest(algorithm)

    def halted(self) -> bool:
        return self._inner.halted()

    def slices(self) -> Iterator[bytes]:
        step = max(4096, int(self._limit.rate * SLICE_SECONDS))
        for data in self._inner.slices():
            for start in range(0, len(data), step):
                piece = data[start : start + step]
                self._limit.wait_for(len(piece))
                yield piece


class LimitedStore(StoreWrapper):
    """Sends the bodies of `inner` at a limited rate."""

    def __init__(self, inner: Store, limit: RateLimit) -> None:
        super().__init__(inner)
        self._limit = limit

    def put(self, key: str, body: Body, options: ObjectOptions, *, if_absent: bool = False) -> ObjectInfo:
        return super().put(key, LimitedBody(body, self._limit), options, if_absent=if_absent)

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        return super().put_part(upload, number, LimitedBody(body, self._limit))

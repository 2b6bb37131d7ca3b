"""The store that passes everything on: what a policy wrapper changes, it overrides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jettyctl.core.model import Limits, ObjectInfo, ObjectOptions, Receipt, Upload
from jettyctl.storage.base import Body, Store


class StoreWrapper:
    """Speaks to `inner` for the caller."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    @property
    def limits(self) -> Limits:
        return self._inner.limits

    @property
    def checksum(self) -> str:
        return self._inner.checksum

    def head(self, key: str) -> ObjectInfo | None:
        return self._inner.head(key)

    def put(self, key: str, body: Body, options: ObjectOptions, *, if_absent: bool = False) -> ObjectInfo:
        return self._inner.put(key, body, options, if_absent=if_absent)

    def expect(self, key: str, requests: int) -> None:
        self._inner.expect(key, requests)

    def round_trip(self) -> float | None:
        return self._inner.round_trip()

    def farther_than(self, seconds: float) -> bool:
        return self._inner.farther_than(seconds)

    def create(self, key: str, options: ObjectOptions, size: int | None, chunk_size: int) -> str:
        return self._inner.create(key, options, size, chunk_size)

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        return self._inner.put_part(upload, number, body)

    def list_parts(self, upload: Upload) -> list[Receipt]:
        return self._inner.list_parts(upload)

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
        return self._inner.complete(upload, receipts, size=size, crc64=crc64, sha256=sha256, if_absent=if_absent)

    def abort(self, upload: Upload) -> None:
        self._inner.abort(upload)

    def list_uploads(self, key: str) -> list[Upload]:
        return self._inner.list_uploads(key)

    def read(self, key: str) -> Iterator[bytes]:
        return self._inner.read(key)

    def copy(self, source_key: str, key: str, options: ObjectOptions, size: int, *, if_absent: bool = False) -> ObjectInfo:
        return self._inner.copy(source_key, key, options, size, if_absent=if_absent)

    def delete(self, key: str) -> None:
        self._inner.delete(key)

    def cancel(self, thread: int) -> None:
        self._inner.cancel(thread)

    def interrupt(self) -> None:
        self._inner.interrupt()

    def close(self) -> None:
        self._inner.close()

"""A store in memory, with faults on cue. It keeps every promise of `jettyctl.storage.base`."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from jettyctl.core.model import SHA256_METADATA, Limits, ObjectInfo, ObjectOptions, Receipt, Upload
from jettyctl.errors import AlreadyExists, IntegrityError, Interrupted, JettyError, StoreError, UploadGone
from jettyctl.files.crc import crc64
from jettyctl.storage.base import Body

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """Raise `error` at the `nth` call (from 1) of `operation`; with `after` only once its effect is done."""

    operation: str
    nth: int
    error: Callable[[], JettyError]
    after: bool = False


@dataclass(slots=True)
class _Unfinished:
    key: str
    options: ObjectOptions
    parts: dict[int, tuple[bytes, Receipt]] = field(default_factory=dict)


class MemoryStore:
    """Objects in a dict. `calls` counts operations, and puts of each part as `put_part:N`."""

    checksum = "crc64nvme"

    def __init__(self, *, limits: Limits | None = None, faults: Sequence[ScriptedFault] = ()) -> None:
        self.limits = limits or Limits()
        self.objects: dict[str, tuple[bytes, ObjectInfo]] = {}
        self.calls: Counter[str] = Counter()
        self._faults = {(fault.operation, fault.nth): fault for fault in faults}
        self._uploads: dict[str, _Unfinished] = {}
        self._lock = threading.Lock()
        self._interrupted = False

    def head(self, key: str) -> ObjectInfo | None:
        found = self._perform("head", lambda: self.objects.get(key))
        return found[1] if found else None

    def put(self, key: str, body: Body, options: ObjectOptions, *, if_absent: bool = False) -> ObjectInfo:
        data = self._collect(body)

        def effect() -> ObjectInfo:
            self._refuse_taken(key, if_absent)
            return self._keep(key, data, options.metadata, hashlib.md5(data, usedforsecurity=False).hexdigest())

        return self._perform("put", effect)

    def expect(self, key: str, requests: int) -> None:
        """There is nothing to wait for."""

    def round_trip(self) -> float | None:
        """Not known."""
        return None

    def farther_than(self, seconds: float) -> bool:
        """Memory is near."""
        return False

    def create(self, key: str, options: ObjectOptions, size: int | None, chunk_size: int) -> str:
        def effect() -> str:
            upload_id = uuid.uuid4().hex
            self._uploads[upload_id] = _Unfinished(key, options)
            return upload_id

        return self._perform("create", effect)

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        self.calls[f"put_part:{number}"] += 1
        data = self._collect(body)
        receipt = Receipt(number, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest(), body.crc64)

        def effect() -> Receipt:
            self._unfinished(upload).parts[number] = (data, receipt)
            return receipt

        return self._perform("put_part", effect)

    def list_parts(self, upload: Upload) -> list[Receipt]:
        def effect() -> list[Receipt]:
            parts = self._unfinished(upload).parts
            return [Receipt(n, r.size, r.etag) for n, (_, r) in sorted(parts.items())]

        return self._perform("list_parts", effect)

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
        def effect() -> ObjectInfo:
            unfinished = self._unfinished(upload)
            self._refuse_taken(unfinished.key, if_absent)
            data = b"".join(self._part(unfinished, receipt) for receipt in receipts)
            info = self._described(data, unfinished.options.metadata, f"{uuid.uuid4().hex}-{len(receipts)}")
            if len(data) != size or (crc64 is not None and crc64 != info.crc64):
                raise IntegrityError("the parts are not the object that Complete describes")
            self.objects[unfinished.key] = (data, info)
            del self._uploads[upload.upload_id]
            return info

        return self._perform("complete", effect)

    def abort(self, upload: Upload) -> None:
        self._perform("abort", lambda: self._uploads.pop(upload.upload_id, None))

    def list_uploads(self, key: str) -> list[Upload]:
        def effect() -> list[Upload]:
            return [Upload(key, upload_id, 0.0) for upload_id, found in self._uploads.items() if found.key == key]

        return self._perform("list_uploads", effect)

    def read(self, key: str) -> Iterator[bytes]:
        found = self._perform("read", lambda: self.objects.get(key))
        if found is None:
            raise StoreError(f"there is no object {key}")
        yield found[0]

    def copy(self, source_key: str, key: str, options: ObjectOptions, size: int, *, if_absent: bool = False) -> ObjectInfo:
        def effect() -> ObjectInfo:
            data, source = self.objects.get(source_key, (b"", None))
            if source is None or source.size != size:
                raise StoreError(f"there is no object {source_key} of {size} bytes")
            self._refuse_taken(key, if_absent)
            return self._keep(key, data, options.metadata, source.etag)

        return self._perform("copy", effect)

    def delete(self, key: str) -> None:
        self._perform("delete", lambda: self.objects.pop(key, None))

    def cancel(self, thread: int) -> None:
        """Calls end by themselves, and soon."""

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self) -> None:
        """Nothing to give back."""

    def _perform(self, operation: str, effect: Callable[[], T]) -> T:
        if self._interrupted:
            raise Interrupted("stopped on request")
        with self._lock:
            self.calls[operation] += 1
            fault = self._faults.get((operation, self.calls[operation]))
            if fault and not fault.after:
                raise fault.error()
            result = effect()
            if fault:
                raise fault.error()
            return result

    def _collect(self, body: Body) -> bytes:
        pieces = []
        for piece in body.slices():
            if self._interrupted:
                raise Interrupted("stopped on request")
            pieces.append(piece)
        data = b"".join(pieces)
        if len(data) != body.length:
            raise IntegrityError("the body is not as long as it said")
        return data

    def _keep(self, key: str, data: bytes, metadata: Mapping[str, str], etag: str) -> ObjectInfo:
        info = self._described(data, metadata, etag)
        self.objects[key] = (data, info)
        return info

    @staticmethod
    def _described(data: bytes, metadata: Mapping[str, str], etag: str) -> ObjectInfo:
        kept = MappingProxyType(dict(metadata))
        return ObjectInfo(len(data), etag, crc64(data), kept.get(SHA256_METADATA), kept)

    def _refuse_taken(self, key: str, if_absent: bool) -> None:
        if if_absent and key in self.objects:
            raise AlreadyExists(f"{key} exists")

    def _unfinished(self, upload: Upload) -> _Unfinished:
        found = self._uploads.get(upload.upload_id)
        if found is None or found.key != upload.key:
            raise UploadGone(f"the upload of {upload.key} is not known")
        return found

    @staticmethod
    def _part(unfinished: _Unfinished, receipt: Receipt) -> bytes:
        data, kept = unfinished.parts.get(receipt.number, (b"", None))
        if kept is None or kept.etag != receipt.etag:
            raise StoreError(f"part {receipt.number} is not the one that was received")
        return data

"""Copies within a bucket, made by the server: at once up to 5 GiB, above that in parts.

Servers differ in what they obey, so that what matters is looked at: the source before and, between many requests, after;
the object that came of it; and whether metadata of the source came with it, as it does where servers add to it instead of
replacing it. There a copy onto itself replaces it; until then, for the time of two requests, the source's can be seen.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from jettyctl.core.model import GIB, MIB, Chunk, Layout, ObjectInfo, ObjectOptions, Receipt, Upload
from jettyctl.core.names import printable
from jettyctl.errors import AlreadyExists, IntegrityError, JettyError, StoreError
from jettyctl.net.http import COMPLETE_TIMEOUT, Headers, Reply
from jettyctl.storage.base import Store
from jettyctl.storage.s3 import wire
from jettyctl.storage.s3.requests import Requests, object_headers, part_query

AT_ONCE = 5 * GIB  # bytes; S3 copies no larger object in one request
PART = 512 * MIB  # bytes; 10,000 of them are the largest object
PARALLEL = 8  # parts that the server copies at the same time


@dataclass(frozen=True, slots=True)
class Copying:
    """One copy, from `source_key` to `key`."""

    store: Store
    requests: Requests
    source_key: str
    key: str
    options: ObjectOptions

    def perform(self, size: int, *, if_absent: bool, at_once: int = AT_ONCE, part: int = PART) -> ObjectInfo:
        """Keeps the promise of `Store.copy`. `at_once` and `part` are the sizes above, for servers with less."""
        source = self._source(size)
        if if_absent and self.store.head(self.key) is not None:  # not all servers look themselves
            raise self._taken()
        if size <= at_once:
            self._whole(self.source_key, source.etag, if_absent)
        else:
            self._in_parts(source, max(part, -(-size // self.store.limits.max_parts)), if_absent)
        made = self._made(size)
        if self._kept_metadata(source, made):
            self._whole(self.key, made.etag, if_absent=False)
            made = self._made(size)
            if self._kept_metadata(source, made):
                raise StoreError(f"{self._shown}: the store keeps the metadata of what is copied")
        return made

    @property
    def _shown(self) -> str:
        return f"copying {printable(self.source_key)} to {printable(self.key)}"

    def _source(self, size: int) -> ObjectInfo:
        found = self.store.head(self.source_key)
        if found is None or found.size != size:
            raise StoreError(f"there is no object {printable(self.source_key)} of {size} bytes", hint="Check the key.")
        return found

    def _made(self, size: int) -> ObjectInfo:
        made = self.store.head(self.key)
        if made is None or made.size != size:
            raise IntegrityError(f"{self._shown}: what came of it is not the object that was copied")
        return made

    def _kept_metadata(self, source: ObjectInfo, made: ObjectInfo) -> bool:
        wanted = {name.lower(): value for name, value in self.options.metadata.items()}
        return any(made.metadata.get(name) == value != wanted.get(name) for name, value in source.metadata.items())

    def _whole(self, source_key: str, etag: str, if_absent: bool) -> None:
        headers = [*self._from(source_key, etag), ("x-amz-metadata-directive", "REPLACE"), *object_headers(self.options)]
        if if_absent:
            headers.append(("if-none-match", "*"))
        if self.store.checksum == "crc64nvme":
            headers.append(("x-amz-checksum-algorithm", "CRC64NVME"))
        reply = self.requests.send("PUT", self.key, "", headers, b"", timeout=COMPLETE_TIMEOUT)
        if reply.status == 412 and if_absent and self.store.head(self.key) is not None:
            raise self._taken()
        wire.root_of(self._success(reply), "CopyObjectResult")

    def _in_parts(self, source: ObjectInfo, part: int, if_absent: bool) -> None:
        upload = Upload(self.key, self.store.create(self.key, self.options, source.size, part), 0.0)
        try:
            with ThreadPoolExecutor(PARALLEL) as pool:
                chunks = Layout(source.size, part)
                receipts = list(pool.map(lambda chunk: self._part(upload, chunk, source.etag), chunks))
            if self._source(source.size).etag != source.etag:
                raise self._changed()
            self.store.complete(upload, receipts, size=source.size, crc64=source.crc64, if_absent=if_absent)
        except BaseException:
            with contextlib.suppress(JettyError):  # the first failure is the one to tell
                self.store.abort(upload)
            raise

    def _part(self, upload: Upload, chunk: Chunk, etag: str) -> Receipt:
        span = f"bytes={chunk.offset}-{chunk.offset + chunk.length - 1}"
        headers = [*self._from(self.source_key, etag), ("x-amz-copy-source-range", span)]
        query = part_query(upload, chunk.number)
        reply = self._success(self.requests.send("PUT", self.key, query, headers, b"", timeout=COMPLETE_TIMEOUT))
        if not reply.body.strip():  # a server that does not know the copy header took it for a part without bytes
            hint = "Objects of this size cannot be copied there."
            raise StoreError(f"{self._shown}: this endpoint does not copy parts", hint=hint)
        return Receipt(chunk.number, chunk.length, wire.text_of(wire.root_of(reply, "CopyPartResult"), "ETag").strip('"'))

    def _from(self, source_key: str, etag: str) -> Headers:
        headers: Headers = [("content-length", "0"), ("x-amz-copy-source", self.requests.source(source_key))]
        return [*headers, ("x-amz-copy-source-if-match", f'"{etag}"')] if etag else headers

    def _success(self, reply: Reply) -> Reply:
        if reply.status == 412:
            raise self._changed()
        return wire.must(reply, "copying to", self.key)

    def _taken(self) -> AlreadyExists:
        return AlreadyExists(f"{printable(self.key)} exists already", hint="Leave --if-exists out to replace the object.")

    def _changed(self) -> StoreError:
        return StoreError(f"{self._shown}: the source changed meanwhile", hint="Run the same command again.")

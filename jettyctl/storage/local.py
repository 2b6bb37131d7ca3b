"""The embedded store: a directory with multipart semantics, for `local:` and for a control plane on one machine.

Objects are plain files below `objects/`, so that any tool can read them. An upload is a directory below `uploads/`
(`storage.staging`), with all parts in one file. Complete makes that file durable and renames it into place: readers see the
old object or the whole new one. What describes an object lies below `meta/`, with the inode and mtime that it describes; a
description that does not fit the file (someone replaced it by hand, or a crash fell between the two renames) is ignored.
Keys cannot leave the root: every segment is encoded to one plain file name, and a directory that is a symbolic link is not
entered.

A copy is a second name of the same file (a hard link), with a description of its own: nothing changes a file in place,
so neither name notices what becomes of the other. Directories that lose their last object are removed; `lock` keeps that
apart from objects that are being put into them, in other processes too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jettyctl.core.model import SHA256_METADATA, TIB, Limits, ObjectInfo, ObjectOptions, Receipt, Upload
from jettyctl.core.names import printable
from jettyctl.errors import AlreadyExists, IntegrityError, StoreError, UsageError
from jettyctl.files.crc import combine
from jettyctl.storage.base import Body
from jettyctl.storage.durable import (
    crc_of,
    file_name,
    is_file,
    link_or_copy,
    make_directories,
    sync_directory,
    written_durably,
)
from jettyctl.storage.staging import Staging

_READ = 1 << 20


class LocalStore:
    """Keeps the promises of `storage.base.Store` in the directory `root`."""

    checksum = "crc64nvme"
    limits = Limits(max_parts=100_000, max_object=8 * 1024 * TIB)

    def __init__(self, root: str) -> None:
        self.root = root
        self._staging = Staging(os.path.join(root, "uploads"))

    def path_of(self, key: str) -> str:
        """The file that holds an object."""
        return self._path("objects", key)

    def head(self, key: str) -> ObjectInfo | None:
        with _translated(key):
            return self._describe(key)

    def put(self, key: str, body: Body, options: ObjectOptions, *, if_absent: bool = False) -> ObjectInfo:
        upload = Upload(key, self.create(key, options, body.length, max(1, body.length)), 0.0)
        try:
            receipt = self.put_part(upload, 1, body)
            return self.complete(upload, [receipt], size=body.length, crc64=body.crc64, if_absent=if_absent)
        except BaseException:
            self.abort(upload)
            raise

    def expect(self, key: str, requests: int) -> None:
        """There is nothing to wait for."""

    def round_trip(self) -> float | None:
        """Not known."""
        return None

    def farther_than(self, seconds: float) -> bool:
        """A disk is near."""
        return False

    def create(self, key: str, options: ObjectOptions, size: int | None, chunk_size: int) -> str:
        upload_id = uuid.uuid4().hex
        about = {"key": key, "chunk_size": chunk_size, "metadata": dict(options.metadata), "type": options.content_type}
        with _translated(key):
            self._path("objects", key)  # a key that cannot be stored is refused before the first byte
            try:
                self._within(self._staging.directory)
                self._staging.begin(upload_id, about, size)
            except BaseException:
                self._staging.remove(upload_id)
                raise
        return upload_id

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        chunk_size = int(self._staging.about(upload)["chunk_size"])
        if not 1 <= number <= self.limits.max_parts or body.length > chunk_size:
            raise StoreError(f"part {number} of {printable(upload.key)} is not one of this upload")
        with _translated(upload.key):
            return self._staging.receive(upload, number, (number - 1) * chunk_size, body)

    def own_part(self, upload: Upload, number: int) -> int | None:
        """The right to write a part, among all processes: a descriptor, to be closed after. None while another has it.

        The right of a process that is killed ends with it. Raises UploadGone.
        """
        with _translated(upload.key):
            return self._staging.own_part(upload, number)

    def list_parts(self, upload: Upload) -> list[Receipt]:
        self._staging.about(upload)
        with _translated(upload.key):
            return self._staging.parts(upload)

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
        with _translated(upload.key):
            fd = self._staging.opened(upload, fcntl.LOCK_EX)
        try:
            return self._complete(fd, upload, receipts, size, crc64, if_absent)
        finally:
            os.close(fd)

    def _complete(
        self, fd: int, upload: Upload, receipts: Sequence[Receipt], size: int, crc64: int | None, if_absent: bool
    ) -> ObjectInfo:
        about = self._staging.about(upload)
        known = {part.number: part for part in self.list_parts(upload)}
        whole, total = 0, 0
        for number, receipt in enumerate(receipts, 1):
            part = known.get(receipt.number)
            placed = receipt.number == number and total == (number - 1) * int(about["chunk_size"])  # no gap before it
            if part is None or part.etag != receipt.etag or part.crc64 is None or not placed:
                raise StoreError(f"part {receipt.number} of {printable(upload.key)} is not the one that was received")
            whole, total = combine(whole, part.crc64, part.size) if part.size else whole, total + part.size
        if total != size or (crc64 is not None and whole != crc64):
            raise IntegrityError(f"the parts of {printable(upload.key)} are not the file that was hashed")
        with _translated(upload.key):
            os.ftruncate(fd, size)
            os.fsync(fd)
            self._publish(upload, about, size, whole, if_absent)
        return _info(size, whole, about["metadata"])

    def abort(self, upload: Upload) -> None:
        with _translated(upload.key):
            self._staging.remove(upload.upload_id)

    def list_uploads(self, key: str) -> list[Upload]:
        with _translated(key):
            return list(self._staging.uploads(key))

    def read(self, key: str) -> Iterator[bytes]:
        with _translated(key):
            path = self.path_of(key)
            if not is_file(path):
                raise StoreError(f"there is no object {printable(key)}", hint="Check the key.")
            with open(path, "rb") as file:
                while data := file.read(_READ):
                    yield data

    def copy(self, source_key: str, key: str, options: ObjectOptions, size: int, *, if_absent: bool = False) -> ObjectInfo:
        upload = Upload(key, uuid.uuid4().hex, 0.0)
        about = {"key": key, "metadata": dict(options.metadata), "type": options.content_type}
        with _translated(key):
            source, data = self.path_of(source_key), self._staging.data_of(upload)
            if not is_file(source) or os.stat(source).st_size != size:
                raise StoreError(f"there is no object {printable(source_key)} of {size} bytes", hint="Check the key.")
            self._path("objects", key)
            self._within(self._staging.directory)
            make_directories(os.path.dirname(data))
            try:
                link_or_copy(source, data)
                known = self._description(source_key, os.stat(data))
                whole = int(known["crc64"], 16) if known else crc_of(data)
                if os.stat(data).st_size != size:
                    raise StoreError(f"{printable(source_key)} changed while it was copied", hint="Run the command again.")
                self._publish(upload, about, size, whole, if_absent)
            finally:
                self._staging.remove(upload.upload_id)
        return _info(size, whole, options.metadata)

    def delete(self, key: str) -> None:
        with _translated(key):
            path, meta = self.path_of(key), self._path("meta", key)
            with self._guarded(fcntl.LOCK_EX):
                for name in filter(is_file, (path, meta)):
                    os.unlink(name)
                    sync_directory(os.path.dirname(name))
                self._prune(os.path.dirname(path), "objects")
                self._prune(os.path.dirname(meta), "meta")

    def cancel(self, thread: int) -> None:
        """Calls end by themselves, and soon."""

    def interrupt(self) -> None:
        self._staging.stop()

    def close(self) -> None:
        """Nothing to give back."""

    def _publish(self, upload: Upload, about: Mapping[str, Any], size: int, whole: int, if_absent: bool) -> None:
        """The description of bytes that are durable, then the rename that readers see."""
        data, final = self._staging.data_of(upload), self.path_of(upload.key)
        found = os.stat(data)
        about = {**about, "size": size, "crc64": f"{whole:016x}", "ino": found.st_ino, "mtime_ns": found.st_mtime_ns}
        if if_absent and os.path.lexists(final):
            raise AlreadyExists(f"{printable(upload.key)} exists already", hint="Leave --if-exists out to replace it.")
        meta = self._path("meta", upload.key)
        with self._guarded(fcntl.LOCK_SH):
            make_directories(os.path.dirname(meta))
            make_directories(os.path.dirname(final))
            described = written_durably(os.path.dirname(meta), about)
            try:
                if if_absent:  # link fails if someone was quicker; rename would replace
                    self._link(data, final, upload.key)
                os.replace(described, meta)
            except BaseException:
                os.unlink(described)
                raise
            if not if_absent:
                os.replace(data, final)  # does nothing where both are names of one file, which is as good
            sync_directory(os.path.dirname(final))
        self._staging.remove(upload.upload_id)

    @staticmethod
    def _link(data: str, final: str, key: str) -> None:
        try:
            os.link(data, final)
        except FileExistsError:
            raise AlreadyExists(f"{printable(key)} exists already", hint="Leave --if-exists out to replace it.") from None

    def _describe(self, key: str) -> ObjectInfo | None:
        path = self.path_of(key)
        if not is_file(path):
            return None
        found = os.stat(path)
        about = self._description(key, found)
        if about:
            return _info(found.st_size, int(about["crc64"], 16), about["metadata"])
        return ObjectInfo(found.st_size, f"{found.st_ino:x}-{found.st_mtime_ns:x}")

    def _description(self, key: str, found: os.stat_result) -> dict[str, Any] | None:
        """What was written down of the file that was found; None if nothing was, or of another file, or it is damaged."""
        try:
            with open(self._path("meta", key), encoding="ascii") as file:
                about: dict[str, Any] = json.load(file)
            fits = (about["size"], about["ino"], about["mtime_ns"]) == (found.st_size, found.st_ino, found.st_mtime_ns)
            return {"metadata": dict(about["metadata"]), "crc64": f"{int(about['crc64'], 16):016x}"} if fits else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @contextlib.contextmanager
    def _guarded(self, kind: int) -> Iterator[None]:
        """While directories are filled (LOCK_SH, many at a time), none is removed for being empty (LOCK_EX)."""
        make_directories(self.root)
        fd = os.open(os.path.join(self.root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, kind)
            yield
        finally:
            os.close(fd)

    def _prune(self, directory: str, kind: str) -> None:
        """Remove directories without objects, from here up: they would be in the way of a key of their name."""
        top = os.path.join(self.root, kind)
        with contextlib.suppress(OSError):  # it has other objects, or is not there
            while directory != top:
                os.rmdir(directory)
                directory = os.path.dirname(directory)

    def _path(self, kind: str, key: str) -> str:
        path = os.path.join(self.root, kind, *map(file_name, key.split("/")))
        self._within(os.path.dirname(path))
        return path

    def _within(self, directory: str) -> None:
        """Refuse a directory that a symbolic link below the root leads out of its place."""
        below = os.path.relpath(directory, self.root)
        if os.path.realpath(directory) != os.path.join(os.path.realpath(self.root), below):
            raise StoreError(
                f"a symbolic link in the store is in the way: {printable(directory)}", hint="Check the store's directory."
            )


def _info(size: int, crc64: int, metadata: Mapping[str, str]) -> ObjectInfo:
    kept = MappingProxyType(dict(metadata))
    return ObjectInfo(size, f"{crc64:016x}", crc64, kept.get(SHA256_METADATA), kept)


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        shown = printable(key)
        if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
            raise UsageError(f"{shown} cannot be stored: a part of its path is an object", hint="Choose another key.") from None
        hint = "Make room, then run the same command again." if error.errno == errno.ENOSPC else "Check the store's directory."
        raise StoreError(f"{shown} cannot be stored: {error.strerror}", hint=hint) from None

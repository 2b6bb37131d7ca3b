"""The embedded store: a directory with multipart semantics, for `local:` and for a control plane on one machine.

Objects are plain files below `objects/`, so that any tool can read them. An upload is a directory below `uploads/`:

    upload.json   key, options, chunk size
    data          all parts, written in place into one file
    parts         one line for each part begun, and one for each received, appended after its bytes are on disk

Complete makes `data` durable and renames it into place: readers see the old object or the whole new one. What describes
an object lies below `meta/`, with the inode and mtime that it describes; a description that does not fit the file
(someone replaced it by hand, or a crash fell between the two renames) is ignored. Keys cannot leave the root: every
segment is encoded to one plain file name, and a directory that is a symbolic link is not entered.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from jettyctl.core.model import SHA256_METADATA, TIB, Limits, ObjectInfo, ObjectOptions, Receipt, Upload
from jettyctl.core.names import printable
from jettyctl.errors import AlreadyExists, IntegrityError, Interrupted, StoreError, UploadGone
from jettyctl.files.crc import combine
from jettyctl.storage.base import Body

_SAFE = " !#$&'()+,-.;=@[]^_`{}~"  # kept as they are in file names, beside letters and digits
_NAME_BYTES = 255
_READ = 1 << 20


class LocalStore:
    """Keeps the promises of `storage.base.Store` in the directory `root`."""

    checksum = "crc64nvme"
    limits = Limits(max_parts=100_000, max_object=8 * 1024 * TIB)

    def __init__(self, root: str) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._interrupted = False

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

    def create(self, key: str, options: ObjectOptions, size: int | None, chunk_size: int) -> str:
        upload_id = uuid.uuid4().hex
        about = {"key": key, "chunk_size": chunk_size, "metadata": dict(options.metadata), "type": options.content_type}
        with _translated(key):
            self._path("objects", key)  # a key that cannot be stored is refused before the first byte
            try:
                self._begin(self._upload_dir(upload_id), about, size)
            except BaseException:
                self._remove(upload_id)
                raise
        return upload_id

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        chunk_size = int(self._about(upload)["chunk_size"])
        if not 1 <= number <= self.limits.max_parts or body.length > chunk_size:
            raise StoreError(f"part {number} of {printable(upload.key)} is not one of this upload")
        with _translated(upload.key):
            fd = self._open(upload, os.O_WRONLY)
            try:
                self._append(upload, [number])  # what was there under this number is lost from here on
                self._write_at(fd, (number - 1) * chunk_size, body)
                os.fdatasync(fd)
            finally:
                os.close(fd)
            receipt = Receipt(number, body.length, f"{body.crc64:016x}", body.crc64)
            self._append(upload, [number, body.length, receipt.etag], durably=True)
        return receipt

    def list_parts(self, upload: Upload) -> list[Receipt]:
        self._about(upload)
        parts: dict[int, Receipt] = {}
        path = os.path.join(self._upload_dir(upload.upload_id), "parts")
        with _translated(upload.key), contextlib.suppress(FileNotFoundError), open(path, "rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, TypeError):  # a line cut off by a power failure
                    number, *received = json.loads(line)
                    parts.pop(number, None)
                    if received:
                        size, etag = received
                        parts[number] = Receipt(number, size, etag, int(etag, 16))
        return [parts[number] for number in sorted(parts)]

    def complete(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, crc64: int | None, if_absent: bool = False
    ) -> ObjectInfo:
        about = self._about(upload)
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
            self._publish(upload, about, size, whole, if_absent)
        return ObjectInfo(size, f"{whole:016x}", whole, metadata=MappingProxyType(dict(about["metadata"])))

    def abort(self, upload: Upload) -> None:
        with _translated(upload.key):
            self._remove(upload.upload_id)

    def list_uploads(self, key: str) -> list[Upload]:
        found = []
        with _translated(key), contextlib.suppress(FileNotFoundError):
            for name in os.listdir(os.path.join(self.root, "uploads")):
                with contextlib.suppress(UploadGone, FileNotFoundError):
                    self._about(Upload(key, name, 0.0))
                    found.append(Upload(key, name, os.stat(os.path.join(self._upload_dir(name), "upload.json")).st_mtime))
        return found

    def read(self, key: str) -> Iterator[bytes]:
        with _translated(key):
            path = self.path_of(key)
            if not _is_file(path):
                raise StoreError(f"there is no object {printable(key)}", hint="Check the key.")
            with open(path, "rb") as file:
                while data := file.read(_READ):
                    yield data

    def cancel(self, thread: int) -> None:
        """Calls end by themselves, and soon."""

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self) -> None:
        """Nothing to give back."""

    def _begin(self, directory: str, about: Mapping[str, Any], size: int | None) -> None:
        """The directory of a new upload; it is one once `upload.json` is in it."""
        self._within(os.path.dirname(directory))
        _make_directories(directory)
        fd = os.open(os.path.join(directory, "data"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if size:
                _preallocate(fd, size)
        finally:
            os.close(fd)
        os.replace(_written_durably(directory, about), os.path.join(directory, "upload.json"))
        _sync_directory(directory)

    def _write_at(self, fd: int, offset: int, body: Body) -> None:
        end = offset + body.length
        for data in body.slices():
            if self._interrupted:
                raise Interrupted("stopped on request")
            if offset + len(data) > end:
                break
            _write_whole(fd, data, offset)
            offset += len(data)
        if offset != end:
            raise IntegrityError("the body is not as long as it said")

    def _publish(self, upload: Upload, about: Mapping[str, Any], size: int, whole: int, if_absent: bool) -> None:
        """Durable bytes, then the description, then the rename that readers see."""
        data, final = os.path.join(self._upload_dir(upload.upload_id), "data"), self.path_of(upload.key)
        fd = self._open(upload, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
            os.fsync(fd)
            found = os.fstat(fd)
        finally:
            os.close(fd)
        about = {**about, "size": size, "crc64": f"{whole:016x}", "ino": found.st_ino, "mtime_ns": found.st_mtime_ns}
        if if_absent and os.path.lexists(final):
            raise AlreadyExists(f"{printable(upload.key)} exists already", hint="Leave --if-exists out to replace it.")
        meta = self._path("meta", upload.key)
        _make_directories(os.path.dirname(meta))
        _make_directories(os.path.dirname(final))
        described = _written_durably(os.path.dirname(meta), about)
        try:
            if if_absent:  # link fails if someone was quicker; rename would replace
                self._link(data, final, upload.key)
            os.replace(described, meta)
        except BaseException:
            os.unlink(described)
            raise
        if not if_absent:
            os.replace(data, final)
        _sync_directory(os.path.dirname(final))
        self._remove(upload.upload_id)

    @staticmethod
    def _link(data: str, final: str, key: str) -> None:
        try:
            os.link(data, final)
        except FileExistsError:
            raise AlreadyExists(f"{printable(key)} exists already", hint="Leave --if-exists out to replace it.") from None

    def _describe(self, key: str) -> ObjectInfo | None:
        path = self.path_of(key)
        if not _is_file(path):
            return None
        found = os.stat(path)
        try:
            with open(self._path("meta", key), encoding="ascii") as file:
                about = json.load(file)
            if (about["size"], about["ino"], about["mtime_ns"]) == (found.st_size, found.st_ino, found.st_mtime_ns):
                metadata, crc = MappingProxyType(dict(about["metadata"])), int(about["crc64"], 16)
                return ObjectInfo(found.st_size, f"{crc:016x}", crc, metadata.get(SHA256_METADATA), metadata)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no description, or a damaged one: the file speaks for itself
        return ObjectInfo(found.st_size, f"{found.st_ino:x}-{found.st_mtime_ns:x}")

    def _about(self, upload: Upload) -> dict[str, Any]:
        try:
            with open(os.path.join(self._upload_dir(upload.upload_id), "upload.json"), encoding="ascii") as file:
                about: Any = json.load(file)
        except (OSError, ValueError):
            about = None
        if not isinstance(about, dict) or about.get("key") != upload.key:
            raise _gone(upload)
        known: dict[str, Any] = about
        return known

    def _append(self, upload: Upload, record: list[Any], *, durably: bool = False) -> None:
        """A line of its own, whatever a crash left of the one before."""
        line = b"\n" + json.dumps(record).encode()
        path = os.path.join(self._upload_dir(upload.upload_id), "parts")
        with self._lock:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                raise _gone(upload) from None
            try:
                _write_whole(fd, line)
                if durably:
                    os.fdatasync(fd)
            finally:
                os.close(fd)

    def _open(self, upload: Upload, flags: int) -> int:
        try:
            fd = os.open(os.path.join(self._upload_dir(upload.upload_id), "data"), flags | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _gone(upload) from None
        if os.fstat(fd).st_nlink > 1:  # published already; a crash came before the clearing up
            os.close(fd)
            raise _gone(upload)
        return fd

    def _remove(self, upload_id: str) -> None:
        directory = self._upload_dir(upload_id)
        with self._lock, contextlib.suppress(FileNotFoundError):
            for name in os.listdir(directory):
                os.unlink(os.path.join(directory, name))
            os.rmdir(directory)

    def _upload_dir(self, upload_id: str) -> str:
        if not upload_id.isalnum():
            raise UploadGone("the upload is not known")
        return os.path.join(self.root, "uploads", upload_id)

    def _path(self, kind: str, key: str) -> str:
        path = os.path.join(self.root, kind, *map(_file_name, key.split("/")))
        self._within(os.path.dirname(path))
        return path

    def _within(self, directory: str) -> None:
        """Refuse a directory that a symbolic link below the root leads out of its place."""
        below = os.path.relpath(directory, self.root)
        if os.path.realpath(directory) != os.path.join(os.path.realpath(self.root), below):
            raise StoreError(
                f"a symbolic link in the store is in the way: {printable(directory)}", hint="Check the store's directory."
            )


def _gone(upload: Upload) -> UploadGone:
    return UploadGone(f"the upload of {printable(upload.key)} is not known (any more)")


def _file_name(segment: str) -> str:
    """One segment of a key as one plain file name: never empty, `.`, `..` or with a separator in it."""
    name = "".join(c if c.isalnum() or c in _SAFE else quote(c, safe="", errors="surrogatepass") for c in segment)
    if name in ("", ".", ".."):
        name = name.replace(".", "%2E") or "%00"
    if len(name.encode()) > _NAME_BYTES:
        raise StoreError(
            f"a name of more than {_NAME_BYTES} bytes cannot be stored locally: {name[:40]}…",
            hint="Give a shorter key.",
        )
    return name


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        shown = printable(key)
        if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
            raise StoreError(f"{shown} cannot be stored: a part of its path is an object", hint="Choose another key.") from None
        hint = "Make room, then run the same command again." if error.errno == errno.ENOSPC else "Check the store's directory."
        raise StoreError(f"{shown} cannot be stored: {error.strerror}", hint=hint) from None


def _preallocate(fd: int, size: int) -> None:
    """Reserve the room, so that a full disk shows before the first byte; where that is not possible, only the length."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        os.ftruncate(fd, size)


def _written_durably(directory: str, about: Mapping[str, Any]) -> str:
    """A new file with `about` in it, to be renamed into place."""
    path = os.path.join(directory, f".{uuid.uuid4().hex}.tmp")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_whole(fd, json.dumps(about).encode())
        os.fsync(fd)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    return path


def _write_whole(fd: int, data: bytes, at: int | None = None) -> None:
    """All of `data`, from `at` or the end: a disk that is almost full takes some of it without an error."""
    view = memoryview(data)
    while view:
        written = os.write(fd, view) if at is None else os.pwrite(fd, view, at)
        view, at = view[written:], None if at is None else at + written


def _is_file(path: str) -> bool:
    """Whether a regular file is there: neither a directory, which other keys lie in, nor a planted link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _make_directories(path: str) -> None:
    """Like `os.makedirs`, which gives its mode to the last directory only."""
    if not os.path.isdir(path):
        _make_directories(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

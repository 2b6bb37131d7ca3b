"""Uploads of the embedded store that are not complete: a directory for each, named by its upload id.

    upload.json   key, options, chunk size
    data          all parts, written in place into one file
    parts         one line for each part begun, and one for each received, appended after its bytes are on disk
    writing-N     locks of parts, where several processes receive them

Who writes a part holds a shared lock of `data`, and Complete an exclusive one: nobody can still write into what is an object.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from jettyctl.core.model import Receipt, Upload
from jettyctl.core.names import printable
from jettyctl.errors import IntegrityError, Interrupted, UploadGone
from jettyctl.storage.base import Body
from jettyctl.storage.durable import make_directories, preallocate, sync_directory, write_whole, written_durably

_LOCKS = 64  # files of an upload that stand for the right to write a part; parts that share one wait for each other


class Staging:
    """The uploads below `directory`. All methods may raise OSError, and those that take an upload UploadGone."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._stopped = False

    def directory_of(self, upload_id: str) -> str:
        if not upload_id.isalnum():
            raise UploadGone("the upload is not known")
        return os.path.join(self.directory, upload_id)

    def data_of(self, upload: Upload) -> str:
        """The file that becomes the object."""
        return os.path.join(self.directory_of(upload.upload_id), "data")

    def begin(self, upload_id: str, about: Mapping[str, Any], size: int | None) -> None:
        """The directory of a new upload, with room for `size` bytes; it is one once `upload.json` is in it."""
        directory = self.directory_of(upload_id)
        make_directories(directory)
        fd = os.open(os.path.join(directory, "data"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if size:
                preallocate(fd, size)
        finally:
            os.close(fd)
        os.replace(written_durably(directory, about), os.path.join(directory, "upload.json"))
        sync_directory(directory)

    def about(self, upload: Upload) -> dict[str, Any]:
        """What it was begun with."""
        try:
            with open(os.path.join(self.directory_of(upload.upload_id), "upload.json"), encoding="ascii") as file:
                about: Any = json.load(file)
        except (OSError, ValueError):
            about = None
        if not isinstance(about, dict) or about.get("key") != upload.key:
            raise _gone(upload)
        known: dict[str, Any] = about
        return known

    def uploads(self, key: str) -> Iterator[Upload]:
        """The uploads of a key, each with the time at which it was begun."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return
        for name in names:
            with contextlib.suppress(UploadGone, FileNotFoundError):
                self.about(Upload(key, name, 0.0))
                yield Upload(key, name, os.stat(os.path.join(self.directory_of(name), "upload.json")).st_mtime)

    def receive(self, upload: Upload, number: int, offset: int, body: Body) -> Receipt:
        """A part's bytes, on disk before the receipt is.

        Raises Interrupted while the upload is completed and after `stop`; IntegrityError for a body of another length.
        """
        fd = self.opened(upload, fcntl.LOCK_SH)
        try:
            self._append(upload, [number])  # what was there under this number is lost from here on
            self._write_at(fd, offset, body)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        receipt = Receipt(number, body.length, f"{body.crc64:016x}", body.crc64)
        self._append(upload, [number, body.length, receipt.etag], durably=True)
        return receipt

    def parts(self, upload: Upload) -> list[Receipt]:
        """Those received, by number."""
        parts: dict[int, Receipt] = {}
        path = os.path.join(self.directory_of(upload.upload_id), "parts")
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, TypeError):  # a line cut off by a power failure
                    number, *received = json.loads(line)
                    parts.pop(number, None)
                    if received:
                        size, etag = received
                        parts[number] = Receipt(number, size, etag, int(etag, 16))
        return [parts[number] for number in sorted(parts)]

    def own_part(self, upload: Upload, number: int) -> int | None:
        """As `LocalStore.own_part` says."""
        path = os.path.join(self.directory_of(upload.upload_id), f"writing-{number % _LOCKS}")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise _gone(upload) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def opened(self, upload: Upload, lock: int) -> int:
        """`data`, with a lock of it. Raises Interrupted while another's lock is in the way."""
        path = self.data_of(upload)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _gone(upload) from None
        try:
            fcntl.flock(fd, lock | fcntl.LOCK_NB)
            # Published already: before the lock was had, or a crash came before the clearing up.
            if os.fstat(fd).st_nlink != 1 or not os.path.exists(path):
                raise _gone(upload)
        except BlockingIOError:
            os.close(fd)
            raise Interrupted(f"{printable(upload.key)} is being written, or completed") from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def remove(self, upload_id: str) -> None:
        directory = self.directory_of(upload_id)
        with self._lock, contextlib.suppress(FileNotFoundError):
            while names := os.listdir(directory):  # a part that comes too late may begin one more
                for name in names:
                    os.unlink(os.path.join(directory, name))
            os.rmdir(directory)

    def stop(self) -> None:
        """Parts that are being written are left as they are."""
        self._stopped = True

    def _write_at(self, fd: int, offset: int, body: Body) -> None:
        end = offset + body.length
        for data in body.slices():
            if self._stopped:
                raise Interrupted("stopped on request")
            if offset + len(data) > end:
                break
            write_whole(fd, data, offset)
            offset += len(data)
        if offset != end:
            raise IntegrityError("the body is not as long as it said")

    def _append(self, upload: Upload, record: list[Any], *, durably: bool = False) -> None:
        """A line of its own, whatever a crash left of the one before."""
        line = b"\n" + json.dumps(record).encode()
        path = os.path.join(self.directory_of(upload.upload_id), "parts")
        with self._lock:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                raise _gone(upload) from None
            try:
                write_whole(fd, line)
                if durably:
                    os.fdatasync(fd)
            finally:
                os.close(fd)


def _gone(upload: Upload) -> UploadGone:
    return UploadGone(f"the upload of {printable(upload.key)} is not known (any more)")

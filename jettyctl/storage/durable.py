"""What a store in a directory needs of the file system: safe names, whole writes, and what survives a power failure."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from jettyctl.errors import StoreError
from jettyctl.files.crc import crc64

_SAFE = " !#$&'()+,-.;=@[]^_`{}~"  # kept as they are in file names, beside letters and digits
_NAME_BYTES = 255
_READ = 1 << 20


def file_name(segment: str) -> str:
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


def preallocate(fd: int, size: int) -> None:
    """Reserve the room, so that a full disk shows before the first byte; where that is not possible, only the length."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        os.ftruncate(fd, size)


def written_durably(directory: str, about: Mapping[str, Any]) -> str:
    """A new file with `about` in it, to be renamed into place."""
    path = os.path.join(directory, f".{uuid.uuid4().hex}.tmp")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_whole(fd, json.dumps(about).encode())
        os.fsync(fd)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    return path


def write_whole(fd: int, data: bytes, at: int | None = None) -> None:
    """All of `data`, from `at` or the end: a disk that is almost full takes some of it without an error."""
    view = memoryview(data)
    while view:
        written = os.write(fd, view) if at is None else os.pwrite(fd, view, at)
        view, at = view[written:], None if at is None else at + written


def link_or_copy(source: str, path: str) -> None:
    """A second name of a file; where there can be none, another file with the same bytes, durable."""
    try:
        os.link(source, path, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # file systems without links, or with too many of this file
        with open(source, "rb") as file, open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
            shutil.copyfileobj(file, copy, _READ)
            copy.flush()
            os.fsync(copy.fileno())


def crc_of(path: str) -> int:
    """The CRC64NVME of a file's bytes."""
    crc = 0
    with open(path, "rb") as file:
        while data := file.read(_READ):
            crc = crc64(data, crc)
    return crc


def is_file(path: str) -> bool:
    """Whether a regular file is there: neither a directory, which other keys lie in, nor a planted link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def make_directories(path: str) -> None:
    """Like `os.makedirs`, which gives its mode to the last directory only, and lets a power failure take what it made."""
    if not os.path.isdir(path):
        parent = os.path.dirname(path)
        make_directories(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        sync_directory(parent)  # also where another process made it just now: it may not have come to that


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

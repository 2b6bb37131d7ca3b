"""An open source file. The descriptor is opened once and everything is read through it: a rename cannot swap the bytes."""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType
from typing import Self

from jettyctl.core.model import Identity
from jettyctl.core.names import printable
from jettyctl.errors import SourceChanged, SourceError

STDIN_PATH = "-"  # the path that sessions of standard input carry


class Source:
    """A regular file, open for reading. Reads are positional, so any thread may read at any time."""

    def __init__(self, path: str, fd: int, identity: Identity) -> None:
        self.path = path
        self.identity = identity
        self._fd = fd

    @classmethod
    def open(cls, path: str, *, follow: bool = True) -> Source:
        """Open `path`. Raises SourceError for what is missing, unreadable or not a regular file; never blocks on a FIFO."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
        except OSError as error:
            raise cannot_open(path, error) from None
        except ValueError:  # a NUL, or a surrogate that is no byte
            raise SourceError(f"{printable(path)} is not a file name", hint="Check the path.") from None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise SourceError(f"{printable(path)} is {kind_of(found.st_mode)}, not a regular file", hint="Name a file.")
            return cls(path, fd, identity_of(found))
        except BaseException:
            os.close(fd)
            raise

    @property
    def size(self) -> int:
        return self.identity.size

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Raises SourceChanged if the file has become shorter, SourceError if it cannot be read."""
        data = self._pread(offset, length)
        while len(data) < length:
            more = self._pread(offset + len(data), length - len(data))
            if not more:
                raise self.changed("became shorter")
            data += more
        return data

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset`. Raises like `read`."""
        filled = 0
        while filled < len(view):
            try:
                count = os.preadv(self._fd, [view[filled:]], offset + filled)
            except OSError as error:
                raise SourceError(f"cannot read {printable(self.path)}: {error.strerror}") from None
            if count == 0:
                raise self.changed("became shorter")
            filled += count

    def current_identity(self) -> Identity:
        """What `fstat` says now."""
        return identity_of(os.fstat(self._fd))

    def changed(self, how: str) -> SourceChanged:
        """The error for a source that `how` changed."""
        return SourceChanged(
            f"{printable(self.path)} {how} while it was being sent",
            hint="Run the same command again when the file is at rest.",
        )

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _pread(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise SourceError(f"cannot read {printable(self.path)}: {error.strerror}") from None


def identity_of(found: os.stat_result) -> Identity:
    """The identity in a stat result."""
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def kind_of(mode: int) -> str:
    """A file mode's kind in words, with its article."""
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISLNK, "a symbolic link"),
    )
    return next((words for test, words in kinds if test(mode)), "a special file")


def cannot_open(path: str, error: OSError) -> SourceError:
    """The error for a path that does not open, with what to do about it."""
    shown = printable(path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SourceError(f"{shown} does not exist", hint="Check the path.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return SourceError(f"{shown} cannot be read: permission denied", hint="Ask its owner, or run as a user who may read it.")
    if error.errno == errno.ELOOP:
        return SourceError(f"{shown} is a symbolic link", hint="Add --follow-symlinks to upload what it points to.")
    if error.errno == errno.ENXIO:
        return SourceError(f"{shown} is a socket or a pipe, not a regular file", hint="Name a file.")
    return SourceError(f"{shown} cannot be opened: {error.strerror}")

"""What the user named, turned into files to upload: one result for each file, and one for each thing left out.

Nothing is opened here but directories, so that a named pipe cannot block us, and no error ends the walk: one unreadable
directory must not cost the user the rest of the tree.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from jettyctl.core.names import printable
from jettyctl.errors import JettyError, SourceError, UsageError
from jettyctl.files.source import cannot_open, kind_of


class Found(NamedTuple):
    """A regular file. `path` opens it, `name` is what its key is made of; undecodable bytes are surrogate escapes.

    `follow`: a symbolic link at `path` may be followed. Below a directory it may not, unless the user said so: what was
    a file when it was listed may be a link when it is opened.
    """

    path: str
    name: str
    follow: bool = True


class Skipped(NamedTuple):
    """What is not uploaded, and why. `harmless`: nothing that the user asked for is missing."""

    path: str
    error: JettyError
    harmless: bool = False


def walk(
    sources: Sequence[str],
    *,
    recursive: bool,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow_symlinks: bool = False,
) -> Iterator[Found | Skipped]:
    """The files that `sources` name, in the order given; those of a directory in the byte order of their names.

    Names are relative to a directory that is the only source, and begin with the directory's own name where there are
    several. `exclude` keeps files out, and whole directories; `include` lets only matching files in.
    """
    walker = _Walker(include, exclude, follow_symlinks)
    for path in sources:
        try:
            found = os.stat(path)  # follows a symbolic link: the user named it
        except OSError as error:
            yield Skipped(path, cannot_open(path, error))
            continue
        name = _base_name(path)
        if not stat.S_ISDIR(found.st_mode):
            yield from walker.file(_Entry(path, name, found.st_mode), harmless=False)
        elif not recursive:
            yield from walker.refused_directory(path, name)
        else:
            yield from walker.tree(_Entry(path, name if len(sources) > 1 else "", found.st_mode))


class _Entry(NamedTuple):
    """A thing on the way. `above` holds the (dev, inode) of the directories that led here, where links are followed."""

    path: str
    name: str
    mode: int
    above: tuple[tuple[int, int], ...] = ()
    failure: OSError | None = None  # why nobody knows what it is; `mode` is 0 then

    @property
    def order(self) -> bytes:
        """Sorts a directory where the names of its files belong, so that keys come out in the store's order."""
        return os.fsencode(self.name + "/" if stat.S_ISDIR(self.mode) else self.name)


class _Walker(NamedTuple):
    include: Sequence[str]
    exclude: Sequence[str]
    follow: bool

    def file(self, entry: _Entry, *, harmless: bool) -> Iterator[Found | Skipped]:
        """A file, or the reason why a thing is not one. What the filters leave out is not mentioned at all."""
        if self._excluded(entry.name) or not self._included(entry.name):
            return
        if entry.failure:
            yield Skipped(entry.path, cannot_open(entry.path, entry.failure))
        elif stat.S_ISREG(entry.mode):
            yield Found(entry.path, entry.name, follow=self.follow or not harmless)
        else:
            yield Skipped(entry.path, _not_a_file(entry), harmless)

    def refused_directory(self, path: str, name: str) -> Iterator[Skipped]:
        """A directory that was named without `recursive`."""
        if not self._excluded(name):
            error = UsageError(f"{printable(path)} is a directory", hint="Add -r to upload what is in it.")
            yield Skipped(path, error)

    def tree(self, top: _Entry) -> Iterator[Found | Skipped]:
        """Everything below a directory. A stack of our own: trees may be deeper than Python's."""
        pending = [top]
        while pending:
            entry = pending.pop()
            if not stat.S_ISDIR(entry.mode):
                yield from self.file(entry, harmless=True)
            elif not (entry.name and self._excluded(entry.name)):
                try:
                    yield from self._enter(entry, pending)
                except OSError as error:
                    yield Skipped(entry.path, cannot_open(entry.path, error))

    def _enter(self, directory: _Entry, pending: list[_Entry]) -> Iterator[Skipped]:
        """Put what a directory holds on the stack, first name on top. One that is in itself is not entered."""
        above = directory.above
        if self.follow:
            found = os.stat(directory.path)
            me = (found.st_dev, found.st_ino)
            if me in above:
                yield Skipped(directory.path, _loop(directory.path), harmless=True)
                return
            above = (*above, me)
        with os.scandir(directory.path) as entries:
            children = [self._child(entry, directory.name, above) for entry in entries]
        pending.extend(sorted(children, key=lambda child: child.order, reverse=True))

    def _child(self, entry: os.DirEntry[str], parent: str, above: tuple[tuple[int, int], ...]) -> _Entry:
        name = f"{parent}/{entry.name}" if parent else entry.name
        try:
            return _Entry(entry.path, name, _mode(entry, self.follow), above)
        except OSError as error:
            return _Entry(entry.path, name, 0, failure=error)

    def _excluded(self, name: str) -> bool:
        return any(_matches(name, pattern) for pattern in self.exclude)

    def _included(self, name: str) -> bool:
        return not self.include or any(_matches(name, pattern) for pattern in self.include)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or ("/" not in pattern and fnmatchcase(name.rpartition("/")[2], pattern))


def _mode(entry: os.DirEntry[str], follow: bool) -> int:
    """The kind of a directory entry. Plain files and directories need no system call: the listing tells them."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return entry.stat(follow_symlinks=follow).st_mode


def _base_name(path: str) -> str:
    base = os.path.basename(path.rstrip("/"))
    return os.path.basename(os.path.realpath(path)) if base in ("", ".", "..") else base


def _not_a_file(entry: _Entry) -> SourceError:
    message = f"{printable(entry.path)} is {kind_of(entry.mode)}"
    if stat.S_ISLNK(entry.mode):
        return SourceError(message, hint="Add --follow-symlinks to upload what it points to.")
    return SourceError(f"{message}, not a regular file", hint="Only regular files can be uploaded.")


def _loop(path: str) -> SourceError:
    message = f"{printable(path)} leads back to a directory that it is in"
    return SourceError(message, hint="Nothing is lost: the files of that directory are uploaded from where they are.")

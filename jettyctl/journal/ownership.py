"""Who works on a session: one process at a time, held by the kernel.

Two processes that complete one upload at once can lose data at some stores. A lock of the kernel (`flock`) ends with
its process, however that ends, so no stale lock has to be judged by its age. The text in the lock file is for people.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator

from jettyctl.errors import JournalError, SessionBusy

_SESSION_ID = re.compile(r"[0-9a-zA-Z-]{1,64}")
_OWNER = re.compile(r"([0-9]{1,10}) ([!-~]{1,255}) [0-9]+\n")


def valid_session_id(session_id: str) -> bool:
    """Ids come from files and from the command line, and become file names: letters, digits and dashes, at most 64."""
    return _SESSION_ID.fullmatch(session_id) is not None


def check_session_id(session_id: str) -> str:
    """The id itself. Raises JournalError if it is not one."""
    if not valid_session_id(session_id):
        raise JournalError(f"not a session id: {session_id[:80]!r}", hint="Run `jettyctl sessions list` to see the sessions.")
    return session_id


def os_failure(path: str, error: OSError) -> JournalError:
    """The JournalError that says what the system said about `path`."""
    reason = error.strerror or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free some space there, then run the same command again."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = f"Make {os.path.dirname(path)!r} writable for you, then run the same command again."
    else:
        hint = f"Look at {os.path.dirname(path)!r} and its disk, then run the same command again."
    return JournalError(f"journal {path!r}: {reason}", hint=hint)


def make_private_directory(directory: str) -> None:
    """Make a directory and its missing parents, 0700 each. Raises OSError; JournalError if others can write to it.

    Whoever can write to it could plant a lock, or a rollback journal that SQLite would play back. An existing directory
    is never changed: it may be the user's home or `/tmp`.
    """
    if not os.path.isdir(directory):
        parent = os.path.dirname(directory)
        if not os.path.isdir(parent):
            make_private_directory(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
    state = os.stat(directory)
    if state.st_uid not in (0, os.geteuid()) or state.st_mode & 0o022:
        raise JournalError(
            f"journal: other users can write to {directory!r}",
            hint=f"Keep the journal in a directory of your own, or run `chmod go-w {directory}`.",
        )


@contextlib.contextmanager
def own(lock_dir: str, session_id: str) -> Iterator[None]:
    """Own a session while the context lasts; never waits.

    Raises SessionBusy, naming the owner, if another process or another place of this process owns it, and JournalError
    if the lock cannot be made. A forked child keeps the ownership alive until it ends as well.
    """
    path = _lock_path(lock_dir, session_id)
    try:
        make_private_directory(lock_dir)
        descriptor = _acquire(path, session_id)
    except OSError as error:
        raise os_failure(path, error) from error
    try:
        yield
    finally:
        # Unlinked while still locked; who opened the file before that sees in `_acquire` that it has lost its name.
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def sweep(lock_dir: str, session_id: str) -> None:
    """Remove the lock file that a killed process left, unless somebody owns the session now."""
    if os.path.lexists(_lock_path(lock_dir, session_id)):
        with contextlib.suppress(SessionBusy, JournalError), own(lock_dir, session_id):
            pass


def _lock_path(lock_dir: str, session_id: str) -> str:
    return os.path.join(lock_dir, f"{check_session_id(session_id)}.lock")


def _acquire(path: str, session_id: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still_named(descriptor, path):
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            busy = _busy(session_id, os.pread(descriptor, 300, 0))
            os.close(descriptor)
            raise busy from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _still_named(descriptor: int, path: str) -> bool:
    mine = os.fstat(descriptor)
    try:
        named = os.lstat(path)
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)


def _sign(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {os.uname().nodename} {int(time.time())}\n".encode(), 0)


def _busy(session_id: str, signature: bytes) -> SessionBusy:
    found = _OWNER.fullmatch(signature.decode("ascii", "replace"))
    if found is None:  # the owner has the lock, but has not signed yet
        return SessionBusy(f"session {session_id} is held by another process", hint="Wait for it to end.")
    pid, host = found.groups()
    return SessionBusy(
        f"session {session_id} is held by pid {pid} on {host}",
        hint=f"Wait for it, or end that process (on {host}: kill {pid}).",
    )

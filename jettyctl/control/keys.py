"""The user's keys, one for each control plane: in a file that nobody else can read, or in a variable for one run.

A key is sent to the origin that it was given for, and is shown nowhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from dataclasses import dataclass

from jettyctl import paths
from jettyctl.core.names import printable
from jettyctl.errors import AccessError, UsageError

LARGEST = 64 << 10  # bytes of a file that may be one of keys
_KEY = re.compile(r"[!-~]{8,512}")


@dataclass(frozen=True, slots=True, repr=False)
class ApiKey:
    """A secret that does not print itself."""

    secret: str

    def __repr__(self) -> str:
        return "ApiKey(…)"


def key_for(origin: str) -> ApiKey:
    """The key for a control plane: JETTY_API_KEY, JETTY_API_KEY_FILE, or what `login` kept. Raises AccessError, UsageError."""
    if given := os.environ.get("JETTY_API_KEY"):
        return parsed(given)
    if path := os.environ.get("JETTY_API_KEY_FILE"):
        return from_file(path)
    secret = _read().get(origin)
    if secret is None:
        raise AccessError(f"there is no key for {printable(origin)}", hint=f"Run `jettyctl login --control {printable(origin)}`.")
    return parsed(secret)


def parsed(text: str) -> ApiKey:
    """A key as somebody typed or piped it. Raises UsageError, which does not repeat it."""
    if not _KEY.fullmatch(text.strip()):
        raise UsageError("that is not a key", hint="A key is one word, like jty_… as `jettyctl keys create` shows it.")
    return ApiKey(text.strip())


def from_file(path: str) -> ApiKey:
    """The key in a file. Raises UsageError."""
    try:
        with open(path, encoding="utf-8") as file:
            return parsed(file.read(LARGEST))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"cannot read the key in {printable(path)}: {reason}", hint="Check the path.") from None


def keep(origin: str, key: ApiKey) -> None:
    """Remember the key of a control plane, in place of an older one. Raises UsageError if it cannot be written."""
    _write(_read() | {origin: key.secret})


def forget(origin: str) -> bool:
    """Remove the key of a control plane; whether there was one. Raises UsageError."""
    known = _read()
    if known.pop(origin, None) is None:
        return False
    _write(known)
    return True


def _read() -> dict[str, str]:
    """All kept keys, by origin. Raises UsageError for a file that is broken, or readable by others."""
    shown = printable(paths.keys_file())
    try:
        fd = os.open(paths.keys_file(), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}", hint="Check what it is, and its permissions.") from None
    with os.fdopen(fd, "rb") as file:
        state = os.fstat(fd)
        data = file.read(LARGEST)
    if state.st_uid != os.geteuid() or state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"others can read the keys in {shown}", hint=f"Run `chmod 600 {shown}`, and replace the keys in it.")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise UsageError(f"{shown} is broken", hint=f"Remove it, and log in again: rm {shown} && jettyctl login")
    return found


def _write(keys: dict[str, str]) -> None:
    import tempfile

    path = paths.keys_file()
    directory = os.path.dirname(path)
    try:
        if not os.path.isdir(directory):
            os.makedirs(directory, mode=0o700)
        fd, temporary = tempfile.mkstemp(prefix=".keys-", dir=directory)  # made with mode 0600
        try:
            with open(fd, "w", encoding="utf-8") as file:
                json.dump(keys, file)
                file.flush()
                os.fsync(fd)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(
            f"cannot write {printable(path)}: {error.strerror}", hint="Set JETTY_CONFIG_DIR to a directory that can be written."
        ) from None

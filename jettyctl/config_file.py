"""The configuration file itself: read with care, written whole.

It can redirect uploads and switch verification off, so one that others may write to is refused.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from jettyctl import paths
from jettyctl.core.names import printable
from jettyctl.errors import UsageError


def read() -> dict[str, Any]:
    """The file's content; empty if there is none. Raises UsageError for one that is broken, or open to others."""
    text = read_text()
    if not text:
        return {}
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{shown()} is not valid TOML: {error}", hint="Edit the file.") from None


def read_text() -> str:
    """The file as it is; empty if there is none. Raises UsageError."""
    try:
        with open(paths.config_file(), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise UsageError(f"cannot read {shown()}: {error.strerror}", hint="Check its permissions.") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(f"others can write to {shown()}", hint=f"Look at what it says, then run: chmod 600 {shown()}")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{shown()} is not valid TOML: it is not UTF-8", hint="Edit the file.") from None


def document() -> Any:  # noqa: ANN401 - tomlkit's document behaves as a dict
    """The file's content with its comments, to be changed and written. Raises UsageError."""
    import tomlkit

    text = read_text()
    try:
        return tomlkit.parse(text)
    except ValueError as error:
        raise UsageError(f"{shown()} is not valid TOML: {error}", hint="Edit the file.") from None


def write(changed: Any) -> None:  # noqa: ANN401 - as above
    """Replace the file at once by a document, private to the user. A link stays a link."""
    import tomlkit

    target = os.path.realpath(paths.config_file())
    directory = os.path.dirname(target)
    try:
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
        _replace(target, directory, tomlkit.dumps(changed))
    except OSError as error:
        raise UsageError(
            f"cannot write {printable(target)}: {error.strerror}", hint="Set JETTY_CONFIG_DIR to a directory that can be written."
        ) from None


def shown() -> str:
    """The file's name for messages."""
    return printable(paths.config_file())


def _replace(target: str, directory: str, text: str) -> None:
    import tempfile

    fd, temporary = tempfile.mkstemp(prefix=".config-", dir=directory)  # made with mode 0600
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise

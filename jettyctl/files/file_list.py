"""The list behind `--files-from`: what to upload, one path a line, or as `find -print0` writes it."""

from __future__ import annotations

import os
import sys

from jettyctl.errors import SourceError
from jettyctl.files.source import STDIN_PATH, cannot_open


def read_file_list(path: str) -> list[str]:
    """The paths in a file, or in standard input for `-`. Raises SourceError for a list that cannot be read.

    A NUL anywhere means that NULs end the paths; only then may a path hold a line break. Nothing else is special, so
    that every name can be listed: no comments, no quotes, no trimming.
    """
    data = _read(path)
    if b"\0" in data:
        return [os.fsdecode(name) for name in data.split(b"\0") if name]
    return [os.fsdecode(line) for line in data.split(b"\n") if line.strip()]


def _read(path: str) -> bytes:
    try:
        if path == STDIN_PATH:
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:  # may be a pipe, as from <(find …): waiting for it is right
            return file.read()
    except OSError as error:
        raise cannot_open(path, error) from None
    except ValueError:  # a NUL in the path itself
        raise SourceError("the name of the file list holds a NUL", hint="Check the path.") from None

"""`jettyctl hash`: the lines of `sha256sum`, byte for byte, so that its `-c` and every script around it can read them."""

from __future__ import annotations

import hashlib
import os
import sys
from enum import StrEnum
from io import FileIO
from typing import Annotated, Protocol

import typer

from jettyctl.cli.options import option
from jettyctl.cli.output import error_line
from jettyctl.cli.streams import SafeStream
from jettyctl.core.names import printable
from jettyctl.errors import JettyError, SomeFailed, SourceError

STDIN = "-"
_BLOCK = 4 << 20  # enough for BLAKE3 to spread over all cores
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"))  # the backslash first: the others bring new ones


class Algorithm(StrEnum):
    """What can be computed."""

    SHA256 = "sha256"
    BLAKE3 = "blake3"


class _Sum(Protocol):
    def update(self, data: memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("hash", help=hash_files.__doc__)(hash_files)


def hash_files(
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE...", help="Files; - or none is standard input.")] = None,
    algorithm: Annotated[Algorithm, option("--algorithm", help="What to compute.")] = Algorithm.SHA256,
) -> None:
    """Print the hash of each file, as sha256sum does."""
    names = files or [STDIN]
    if len(names) == 1:
        return _print(names[0], algorithm)
    failed = sum(not _printed(name, algorithm) for name in names)
    if failed:
        raise SomeFailed(f"{failed} of {len(names)} files could not be hashed")
    return None


def line_of(digest: str, name: str) -> bytes:
    """One line in the form of GNU's tools: a backslash before the hash says that the name is escaped."""
    raw = os.fsencode(name)
    escaped = raw
    for plain, escape in _ESCAPES:
        escaped = escaped.replace(plain, escape)
    return (b"\\" if escaped != raw else b"") + digest.encode() + b"  " + escaped


def _printed(name: str, algorithm: Algorithm) -> bool:
    """Print a file's line, or why there is none; whether it went well."""
    try:
        _print(name, algorithm)
    except SourceError as error:
        SafeStream(sys.stderr).line(error_line(error, name))
        return False
    return True


def _print(name: str, algorithm: Algorithm) -> None:
    line = line_of(_digest(name, algorithm), name)
    try:
        if sys.stdout.isatty():
            sys.stdout.write(printable(os.fsdecode(line)) + "\n")
        else:
            sys.stdout.buffer.write(line + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        raise typer.Exit from None
    except OSError as error:
        raise JettyError(f"cannot write the result: {error.strerror}", hint="Make room where the output goes.") from None


def _digest(name: str, algorithm: Algorithm) -> str:
    from jettyctl.files.source import cannot_open

    standard = name == STDIN
    try:
        # A name may be a pipe, as from <(command): waiting for it is right.
        with open(0 if standard else name, "rb", buffering=0, closefd=not standard) as file:
            return _digest_of(file, algorithm)
    except OSError as error:
        raise cannot_open("standard input" if standard else name, error) from None


def _digest_of(file: FileIO, algorithm: Algorithm) -> str:
    sum_ = _new(algorithm)
    buffer = memoryview(bytearray(_BLOCK))
    while count := file.readinto(buffer):
        sum_.update(buffer[:count])
    return sum_.hexdigest()


def _new(algorithm: Algorithm) -> _Sum:
    if algorithm is Algorithm.SHA256:
        return hashlib.sha256()
    import blake3

    return blake3.blake3(max_threads=blake3.blake3.AUTO)

"""Standard output and error that cannot hurt: when the reader is gone, what is left to say is dropped."""

from __future__ import annotations

import contextlib
import os
import sys
from io import TextIOWrapper
from typing import ClassVar, TextIO


class SafeStream:
    """Writes lines until the other side goes away, then swallows them. A transfer must not end with its terminal."""

    lost: ClassVar[Exception | None] = None  # why results could not be written, other than that nobody reads any more

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def line(self, text: str) -> None:
        """One line, at once."""
        self.write(text + "\n")

    def write(self, text: str) -> int:
        """Text as it is, at once."""
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except BrokenPipeError:  # the reader has enough, as `head` has
                self._stream = None
            except (OSError, ValueError) as error:
                if self._stream is sys.stdout:
                    SafeStream.lost = SafeStream.lost or error
                self._stream = None
        return len(text)

    def flush(self) -> None:
        """Every write is flushed already."""

    def isatty(self) -> bool:
        """Whether a person may be looking."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    @property
    def broken(self) -> bool:
        """Whether the reader is gone."""
        return self._stream is None


def mute_at_exit() -> None:
    """Keep the interpreter from complaining about a closed pipe when it flushes its own streams."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # was closed before we began
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def interactive(stream: SafeStream) -> bool:
    """Whether live progress makes sense there: a capable terminal, and no CI system around."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")

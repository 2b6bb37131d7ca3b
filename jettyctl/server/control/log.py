"""One JSON line on stderr for each request, and for what went wrong inside. Never a query string, a key or a body."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime


def write(level: str, **facts: object) -> None:
    """Write one line with the time and the facts."""
    line = json.dumps({"ts": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, **facts})
    sys.stderr.write(line + "\n")  # stderr writes whole lines at once


def failure(request_id: str, error: BaseException) -> None:
    """Say where an error that nobody expected came from. Its text stays out: it may quote what a client sent."""
    write("error", requestId=request_id, error=type(error).__qualname__, where=_where(error))


def _where(error: BaseException) -> list[str]:
    """The innermost calls."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-12:]]


class Lines(logging.Handler):
    """What libraries have to say, as our lines: who says it, and its first words. Errors come without their text, as above."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, object] = {"logger": record.name, "message": record.getMessage().partition("\n")[0][:200]}
        if record.exc_info and record.exc_info[1]:
            facts |= {"error": type(record.exc_info[1]).__qualname__, "where": _where(record.exc_info[1])}
        write("warning" if record.levelno < logging.ERROR else "error", **facts)

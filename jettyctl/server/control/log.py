"""One JSON line on stderr for each request, and for what went wrong inside. Never a query string, a key or a body."""

from __future__ import annotations

import json
import sys
import traceback
from datetime import UTC, datetime


def write(level: str, **facts: object) -> None:
    """Write one line with the time and the facts."""
    line = json.dumps({"ts": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, **facts})
    sys.stderr.write(line + "\n")  # stderr writes whole lines at once


def failure(request_id: str, error: BaseException) -> None:
    """Say where an error that nobody expected came from. Its text stays out: it may quote what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
    write("error", requestId=request_id, error=type(error).__qualname__, where=where)

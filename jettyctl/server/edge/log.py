"""The access log: one line a request on standard error, with nothing of a request that may be secret.

A line has the path and never the query, for a presigned query is a credential. Of a target that is no plain path, as
`http://user:password@host/`, nothing is shown.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import select
from dataclasses import dataclass

from jettyctl.core.names import printable

_LONGEST = 1024  # characters of a path: a line stays within what a pipe takes at once


@dataclass(slots=True)
class Entry:
    """What is told of one request."""

    client: str
    method: str = "-"
    path: str = "-"
    received: int = 0
    status: int = 0
    seconds: float = 0.0

    def line(self, now: datetime.datetime) -> str:
        """`TIME METHOD PATH BYTES STATUS SECONDS CLIENT`; the status is 499 for a client that went away."""
        path = printable(self.path).replace(" ", "%20")[:_LONGEST]
        time = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"{time} {self.method} {path} {self.received} {self.status} {self.seconds:.3f} {self.client}"


class AccessLog:
    """Writes to a file descriptor; None is silence."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def add(self, entry: Entry) -> None:
        """One request is over."""
        self.say(entry.line(datetime.datetime.now(datetime.UTC)))

    def say(self, text: str) -> None:
        """A line, unless the reader of the log is stuck or gone: then it is lost, for the edge must not wait for it."""
        if self._descriptor is None:
            return
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        if any(event & select.POLLOUT for _, event in waiting.poll(0)):
            with contextlib.suppress(OSError):
                os.write(self._descriptor, text.encode("utf-8", "backslashreplace") + b"\n")

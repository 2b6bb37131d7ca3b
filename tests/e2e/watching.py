"""What is seen of a run from outside: its requests at a proxy, and its journal."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from jettyctl.core.session import Session
from jettyctl.journal.sqlite import SqliteJournal
from tests.support.proxy import RecordingProxy
from tests.support.relay import Request

PATIENCE = 20.0  # seconds to wait for something that must happen


def until(happened: Callable[[], Any], what: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until `happened()` is true; in vain at once if the process that was to bring it about is over."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        assert process is None or process.poll() is None or happened(), f"exit {process.returncode} before {what}"
        time.sleep(0.005)


def requests_for(proxy: RecordingProxy, key: str, op: str) -> list[Request]:
    """The requests of one operation for exactly this key: a probe has a key of its own."""
    return [r for r in list(proxy.requests) if r.op == op and r.path == f"/{proxy.bucket}/{key}"]


def parts_begun(proxy: RecordingProxy, key: str) -> Counter[int]:
    """Part number -> requests begun for this key."""
    return Counter(r.part for r in requests_for(proxy, key, "part") if r.part is not None)


def recorded_sessions(env: dict[str, str]) -> list[Session]:
    """What the journal says, the last used first."""
    journal = SqliteJournal(os.path.join(env["JETTY_DATA_DIR"], "journal.sqlite"))
    try:
        return journal.sessions()
    finally:
        journal.close()


def recorded_status(env: dict[str, str], key: str) -> str:
    """What the journal says of the newest session for this key."""
    return next(s.status.value for s in recorded_sessions(env) if s.target.key == key)

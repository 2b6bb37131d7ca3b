"""A process that takes up small files for another one, which starts it and speaks to it through two pipes
(`engine/workers.py`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import IO

from jettyctl.connection import Connection
from jettyctl.core.backoff import RetryPolicy
from jettyctl.engine.handover import OVER
from jettyctl.machine import look_for_garbage_seldom
from jettyctl.stores import Stores
from jettyctl.wiring import Runtime

ONE_TRY = RetryPolicy(attempts=1)  # what fails is given back


def main() -> None:
    """Work until nothing more comes, and end the process. Signals reach the other process, too, and are its business."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    look_for_garbage_seldom()
    inbox, outbox = sys.stdin.buffer, sys.stdout.buffer
    lines = _lines(inbox)
    connection = json.loads(next(lines))
    with Runtime(Stores(Connection(**connection), policy=ONE_TRY)) as runtime:
        runtime.work(lines, outbox)
    os._exit(0)


def _lines(inbox: IO[bytes]) -> Iterator[bytes]:
    """What comes in, up to an empty line. Without that, the other process is gone: then nothing more is sent."""
    for line in inbox:
        if line == OVER:
            return
        yield line
    os._exit(1)

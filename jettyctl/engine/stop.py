"""Stopping on request, in two steps: first no new work begins, then, after a grace, what is in flight ends too."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from jettyctl.errors import CTRL_C, Interrupted

GRACE = 3.0  # seconds that chunks in flight have to arrive; a stop must be over within 5


class Stop:
    """Set from a signal handler or another thread, looked at from everywhere."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._now = threading.Event()
        self.exit_status = Interrupted.exit_status

    def request(self, number: signal.Signals | None = None) -> None:
        """Begin nothing new. After Ctrl-C the exit status is the shell's own for it."""
        if number is signal.SIGINT:
            self.exit_status = CTRL_C
        self._requested.set()

    def force(self) -> None:
        """End what is in flight as well."""
        self._requested.set()
        self._now.set()

    def requested(self) -> bool:
        return self._requested.is_set()

    def forced(self) -> bool:
        return self._now.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but wake up when a stop is requested; whether it was."""
        return self._requested.wait(seconds)


@contextlib.contextmanager
def stopping_signals(loop: asyncio.AbstractEventLoop, stop: Stop) -> Iterator[None]:
    """The first signal requests a stop, a second one ends the process at once. An ignored SIGHUP (nohup) stays ignored."""
    caught = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        caught.append(signal.SIGHUP)

    def handle(number: signal.Signals) -> None:
        if stop.requested():
            os._exit(stop.exit_status)
        stop.request(number)

    for number in caught:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)

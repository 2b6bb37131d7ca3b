"""Calls that run in a thread of their own, and waiting for what they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from jettyctl.errors import JettyError


class running:  # noqa: N801 - reads as a statement
    """Run a call in a thread; the list that `as` names holds its result or error after the block."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._outcome: list[object] = []
        self._thread = threading.Thread(target=self._run, args=(call,))

    def _run(self, call: Callable[[], object]) -> None:
        try:
            self._outcome.append(call())
        except JettyError as error:
            self._outcome.append(error)

    def __enter__(self) -> list[object]:
        self._thread.start()
        return self._outcome

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


def settle(condition: Callable[[], bool]) -> None:
    """Wait until something is so, for a few seconds at most."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)

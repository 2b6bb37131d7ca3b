"""Counts of a run, added to from any thread and read by the progress display and the pacer."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Meter:
    """Bytes and files so far. `sent` counts body bytes given to sockets, `done` bytes acknowledged or reused.

    `reused` are those of `done` that an earlier run sent, or that are there anyway. In seconds: what leaders spent
    `reading` and `hashing`, how long transfers were `starved` (free to send, with nothing hashed yet), and how long
    requests waited because they were `throttled`.
    """

    files_total: int = 0
    files_done: int = 0
    total: int = 0
    done: int = 0
    reused: int = 0
    sent: int = 0
    by_edges: int = 0
    hashed: int = 0
    reading: float = 0.0
    hashing: float = 0.0
    starved: float = 0.0
    throttled: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_sent(self, count: int) -> None:
        with self._lock:
            self.sent += count

    def add_by_edges(self, count: int) -> None:
        """Bytes sent, but not by the direct route."""
        with self._lock:
            self.sent += count
            self.by_edges += count

    def direct(self) -> int:
        """Bytes sent by the direct route."""
        return self.sent - self.by_edges

    def add_hashed(self, count: int) -> None:
        with self._lock:
            self.hashed += count

    def add_done(self, count: int) -> None:
        with self._lock:
            self.done += count

    def add_reused(self, count: int) -> None:
        """Bytes that need not be sent: done, without being sent."""
        with self._lock:
            self.done += count
            self.reused += count

    def add_led(self, reading: float, hashing: float) -> None:
        """The seconds of a leader."""
        with self._lock:
            self.reading += reading
            self.hashing += hashing

    def add_starved(self, seconds: float) -> None:
        with self._lock:
            self.starved += seconds

    def add_throttled(self, seconds: float) -> None:
        with self._lock:
            self.throttled += seconds

    def begin_file(self) -> None:
        with self._lock:
            self.files_total += 1

    def add_total(self, size: int) -> None:
        """Bytes of a file that was opened."""
        with self._lock:
            self.total += size

    def end_file(self) -> None:
        with self._lock:
            self.files_done += 1

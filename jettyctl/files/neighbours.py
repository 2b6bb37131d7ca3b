"""Rows of the cache that are read together with those that follow: many files are asked for in the order of their names.

A row at a time, under a lock, kept 64 threads waiting for each other: 5,000 small files took five times as long.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from typing import NamedTuple

AHEAD = 64  # rows read at a time
FRESH = 1.0  # seconds for which what was read is believed: other processes write, too
MOST = 4  # stretches kept: names that are close in order are asked for in nearly that order
_SELECT = "SELECT key, value, crc FROM entries WHERE kind = ? AND key >= ? ORDER BY key LIMIT ?"

Row = tuple[object, object]  # a value and its checksum, as they are in the file
NO_ROW: Row = (None, None)


class _Stretch(NamedTuple):
    """All rows of a kind between two keys. `last` None: to the end."""

    kind: str
    first: bytes
    last: bytes | None
    rows: Mapping[bytes, Row]
    until: float

    def covers(self, kind: str, key: bytes) -> bool:
        return kind == self.kind and self.first <= key and (self.last is None or key <= self.last)


class Neighbours:
    """What was read of one table. `find` needs no lock; the other methods want their callers to take turns."""

    def __init__(self) -> None:
        self._stretches: tuple[_Stretch, ...] = ()

    def find(self, kind: str, key: bytes) -> Row | None:
        """The row, NO_ROW if there is none, None if nothing is known of it."""
        for stretch in self._stretches:
            if stretch.covers(kind, key) and time.monotonic() < stretch.until:
                return stretch.rows.get(key, NO_ROW)
        return None

    def fetch(self, database: sqlite3.Connection, kind: str, key: bytes) -> Row:
        """The row, read from the database with its neighbours. Raises sqlite3.Error."""
        found = database.execute(_SELECT, (kind, key, AHEAD)).fetchall()
        rows = {name: (value, crc) for name, value, crc in found}
        last = found[-1][0] if len(found) == AHEAD else None
        stretch = _Stretch(kind, key, last, rows, time.monotonic() + FRESH)
        self._stretches = (stretch, *self._stretches[: MOST - 1])
        return rows.get(key, NO_ROW)

    def clear(self) -> None:
        """Something was written."""
        self._stretches = ()

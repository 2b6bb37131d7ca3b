"""Hashes of files seen before, and what was stored where, so that a second run need not read a file again.

It is only a cache: every failure is a miss, and a broken file is thrown away. But a wrong hash would be worse than
none, so each row carries a checksum, a file counts as the same only if its whole identity is, and an entry made too
soon after the file's last change is not believed: another change might have left the same timestamp.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Literal

from jettyctl.core.model import Digests, Identity, Stored
from jettyctl.files.neighbours import NO_ROW, Neighbours

SCHEMA = 1  # a file of another schema is begun anew
RACY_NS = 2_000_000_000  # the coarsest timestamps in use (FAT's) are 2 s apart
BATCH = 200  # writes kept back before they are committed together
DELAY = 1.0  # seconds that a write is kept back, if another call follows
PATIENCE = 0.2  # seconds to wait for another process's commit

Kind = Literal["hashes", "blake3", "stored"]
Key = tuple[Kind, bytes]
Entry = Sequence[Any]  # the values of a row; none where there is nothing any more


class HashCache:
    """All kinds of entries in one SQLite file, opened at first use. Methods never raise and may be called from any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._useless = False
        self._pending: dict[Key, Entry] = {}
        self._pending_since = 0.0
        self._read = Neighbours()

    def hashes(self, path: str, identity: Identity) -> Digests | None:
        """The digests of the file at an absolute path, if it is certainly the one that was hashed."""
        row = self._get("hashes", path)
        return Digests(*row[6:]) if row and len(row) == 9 and _same(identity, row) else None

    def remember(self, path: str, identity: Identity, digests: Digests, hashed_at_ns: int) -> None:
        """Keep a file's digests. `hashed_at_ns`: when the hashing began, by the clock that stamps files."""
        row = (*identity, hashed_at_ns, digests.sha256, digests.crc64, digests.blake3)
        self._put("hashes", path, row)

    def blake3(self, path: str, identity: Identity) -> str | None:
        """The BLAKE3 of the file at an absolute path, in hex; like `hashes`."""
        row = self._get("blake3", path)
        return str(row[6]) if row and len(row) == 7 and _same(identity, row) else None

    def remember_blake3(self, path: str, identity: Identity, blake3: str, hashed_at_ns: int) -> None:
        """Keep a file's BLAKE3, which is known sooner than its other digests; like `remember`."""
        self._put("blake3", path, (*identity, hashed_at_ns, blake3))

    def stored(self, place: str) -> Stored | None:
        """What the last upload left at a `Target.place`."""
        row = self._get("stored", place)
        return Stored(*row) if row and len(row) == 4 else None

    def remember_stored(self, place: str, stored: Stored) -> None:
        """Keep what an upload left at a place."""
        self._put("stored", place, stored)

    def forget_stored(self, place: str) -> None:
        """The object at a place is not what it was."""
        self._put("stored", place, ())

    def close(self) -> None:
        """Commit what is kept back. The cache is empty from then on. Idempotent."""
        with self._lock:
            self._flush()
            self._useless = True
            self._disconnect()

    def _get(self, kind: Kind, name: str) -> Entry | None:
        key = _key(kind, name)
        if self._due():
            with self._lock:
                self._flush_if_due()
        kept_back = self._pending.get(key)
        if kept_back is not None:
            return kept_back
        found = self._read.find(*key)
        if found is None:
            with self._lock:
                found = self._run(lambda database: self._read.fetch(database, *key)) or NO_ROW
        return _decode(_proven(key, *found))

    def _put(self, kind: Kind, name: str, row: Entry) -> None:
        key = _key(kind, name)
        with self._lock:
            if self._useless:
                return
            if not self._pending:
                self._pending_since = time.monotonic()
            self._pending[key] = row
            self._flush_if_due()

    def _due(self) -> bool:
        overdue = time.monotonic() - self._pending_since >= DELAY
        return len(self._pending) >= BATCH or (bool(self._pending) and overdue)

    def _flush_if_due(self) -> None:
        if self._due():
            self._flush()

    def _flush(self) -> None:
        """One short transaction, so that no other process waits for us. What fails is lost."""
        rows = [_row(key, entry) for key, entry in self._pending.items()]
        if rows:
            self._run(lambda database: _write(database, rows))
        self._read.clear()
        self._pending.clear()  # last: who asks meanwhile finds it here, or in the file

    def _run(self, action: Callable[[sqlite3.Connection], Any]) -> Any:  # noqa: ANN401 - what SQLite answers
        """The action's answer, or None if it fails."""
        try:
            database = self._connect()
            return None if database is None else action(database)
        except sqlite3.Error as error:
            if _is_damage(error):  # begin anew; a file that is busy or a disk that is full may do better later
                self._disconnect()
                _remove(self._path)
            return None

    def _connect(self) -> sqlite3.Connection | None:
        if self._database is None and not self._useless:
            try:
                self._database = _open(self._path)
            except (OSError, ValueError, sqlite3.Error):
                self._useless = True  # trying again for every file would cost more than the cache saves
        return self._database

    def _disconnect(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database = None


def _same(identity: Identity, row: Entry) -> bool:
    """Whether a row is certainly of this file: it begins with an identity, and the time when the hashing began."""
    *known, hashed_at_ns = row[:6]
    return tuple(known) == identity and max(identity.mtime_ns, identity.ctime_ns) <= hashed_at_ns - RACY_NS


def _open(path: str) -> sqlite3.Connection:
    """The database with its table, made if need be. A file that is damaged, or no database at all, is replaced."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
    try:
        return _prepared(path)
    except sqlite3.Error as error:
        if not _is_damage(error):
            raise
        _remove(path)
        return _prepared(path)


def _prepared(path: str) -> sqlite3.Connection:
    with suppress(FileExistsError):  # never open a file that exists: closing it again would drop SQLite's locks
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)
    try:
        database.execute("PRAGMA synchronous = OFF")
        if _schema(database) != SCHEMA:
            _make_table(database)
    except BaseException:
        database.close()
        raise
    return database


def _write(database: sqlite3.Connection, rows: list[tuple[Kind, bytes, bytes, int]]) -> None:
    """In few statements: Python's other threads are let run, and waited for, with each of them."""
    with database:
        for begin in range(0, len(rows), BATCH):
            some = rows[begin : begin + BATCH]
            values = ", ".join(["(?, ?, ?, ?)"] * len(some))
            insert = f"INSERT OR REPLACE INTO entries (kind, key, value, crc) VALUES {values}"  # noqa: S608 - of placeholders
            database.execute(insert, list(chain(*some)))


def _schema(database: sqlite3.Connection) -> object:
    return database.execute("PRAGMA user_version").fetchone()[0]


def _make_table(database: sqlite3.Connection) -> None:
    with database:
        database.execute("BEGIN IMMEDIATE")
        if _schema(database) == SCHEMA:  # another process was quicker
            return
        database.execute("DROP TABLE IF EXISTS entries")
        database.execute(
            "CREATE TABLE entries (kind TEXT, key BLOB, value BLOB, crc INTEGER, PRIMARY KEY (kind, key)) WITHOUT ROWID"
        )
        database.execute(f"PRAGMA user_version = {SCHEMA}")


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _remove(path: str) -> None:
    for name in (path, f"{path}-journal"):  # a journal left behind would be played into the new file
        with suppress(OSError):
            os.unlink(name)


def _key(kind: Kind, name: str) -> Key:
    return kind, name.encode("utf-8", "surrogatepass")  # undecodable bytes are surrogates, which SQLite refuses


def _row(key: Key, entry: Entry) -> tuple[Kind, bytes, bytes, int]:
    value = json.dumps(entry).encode()
    return (*key, value, _crc(key, value))


def _crc(key: Key, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key[1], zlib.crc32(key[0].encode())))


def _proven(key: Key, value: object, crc: object) -> bytes | None:
    """A row's value, if it is what was written; rot may change even its type."""
    return value if isinstance(value, bytes) and _crc(key, value) == crc else None


def _decode(value: bytes | None) -> list[Any] | None:
    try:
        row = None if value is None else json.loads(value)
    except ValueError:
        return None
    return row if isinstance(row, list) else None

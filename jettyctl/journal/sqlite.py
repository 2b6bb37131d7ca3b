"""The journal that ships: one SQLite file, shared by all processes of a user.

Bit rot in an SQLite file does not announce itself, so every row carries a CRC of its key and record. Everything beside
the record is only an index and never believed. A rollback journal instead of WAL: several processes write, and SQLite
before 3.51.3 can lose commits of a WAL with more than one connection. Its mode is TRUNCATE and not DELETE, as only that
syncs the end of a transaction, so that a power cut does not bring a finished rollback journal back.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar
from urllib.parse import quote

from jettyctl.core.session import ChunkRecord, Session
from jettyctl.errors import JournalBusy, JournalError
from jettyctl.journal.ownership import (
    check_session_id,
    make_private_directory,
    os_failure,
    own,
    sweep,
    valid_session_id,
)

T = TypeVar("T")

BUSY_SECONDS = 10.0

# Entry n takes a file from schema version n to n + 1. `IF NOT EXISTS`, as the version itself may be what rotted.
# Without rowid a row has one place, and not a second one in a key index that may come to differ from it.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, place BLOB, source_path BLOB, updated REAL,
           crc INTEGER, record TEXT) WITHOUT ROWID""",
        "CREATE INDEX IF NOT EXISTS sessions_by_source ON sessions (source_path, place)",
        """CREATE TABLE IF NOT EXISTS chunks (session_id TEXT, idx INTEGER, crc INTEGER, record TEXT,
           PRIMARY KEY (session_id, idx)) WITHOUT ROWID""",
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)

_SAVE = "INSERT OR REPLACE INTO sessions (id, place, source_path, updated, crc, record) VALUES (?, ?, ?, ?, ?, ?)"
_SAVE_CHUNK = "INSERT OR REPLACE INTO chunks (session_id, idx, crc, record) VALUES (?, ?, ?, ?)"
_SESSIONS = "SELECT id, crc, record FROM sessions"
_CHUNKS = "SELECT session_id, idx, crc, record FROM chunks WHERE session_id = ?"
_DELETE = ("DELETE FROM sessions WHERE id = CAST(? AS TEXT)", "DELETE FROM chunks WHERE session_id = CAST(? AS TEXT)")

# Codes that say the file is not what we wrote. Our statements are constants that a sound file accepts, hence
# SQLITE_ERROR: a table or column that is gone, or a file format that we never wrote.
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_NOT_A_RECORD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

# Closing any descriptor of a file drops all POSIX locks that this process has on it, SQLite's included. A descriptor of
# ours exists only while the file is created, and nothing in this process opens the file meanwhile.
_creating = threading.Lock()


class SqliteJournal:
    """The promises of `Journal`, in the file `path`, which the first write makes.

    `moved_aside` is the path that an unreadable file was renamed to, None if there was none: the caller should warn.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._locks = os.path.join(os.path.dirname(self._path), "locks")
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._closed = False
        self._damaged: set[tuple[object, ...]] = set()
        self._lock = threading.Lock()
        self.moved_aside: str | None = None

    def save(self, session: Session) -> None:
        record = json.dumps(session.to_json())
        key = check_session_id(session.session_id)
        index = (_index_key(session.target.place), _index_key(session.source.path), session.last_updated)
        self._write(_SAVE, [(key, *index, _crc(key.encode(), record.encode()), record)])

    def save_chunks(self, session_id: str, records: Iterable[ChunkRecord]) -> None:
        key = check_session_id(session_id).encode()
        texts = [(record.index, json.dumps(record.to_json())) for record in records]
        self._write(
            _SAVE_CHUNK,
            [(session_id, index, _crc(key, b"%d" % index, text.encode()), text) for index, text in texts],
        )

    def get(self, session_id: str) -> Session | None:
        if not valid_session_id(session_id):
            return None
        found = self._select(" WHERE id = ?", session_id)
        return found[0] if found and found[0].session_id == session_id else None

    def match(self, prefix: str) -> list[Session]:
        if prefix and not valid_session_id(prefix):
            return []
        found = self._select(" WHERE id >= ? AND id < ?", prefix, prefix + "~")  # "~" sorts behind all that ids have
        return [session for session in found if session.session_id.startswith(prefix)]

    def sessions(self) -> list[Session]:
        return self._select("")

    def find(self, source_path: str, place: str) -> list[Session]:
        found = self._select(" WHERE source_path = ? AND place = ?", _index_key(source_path), _index_key(place))
        return [session for session in found if (session.source.path, session.target.place) == (source_path, place)]

    def chunks(self, session_id: str) -> Mapping[int, ChunkRecord]:
        if not valid_session_id(session_id):
            return {}
        rows = self._call(lambda connection: connection.execute(_CHUNKS, (session_id,)).fetchall(), write=False)
        records = (self._chunk(session_id.encode(), *row) for row in rows or ())
        return {record.index: record for record in records if record is not None}

    def delete(self, session_id: str) -> None:
        if valid_session_id(session_id):
            self._call(lambda connection: _delete(connection, session_id.encode()), write=False)
            sweep(self._locks, session_id)

    def own(self, session_id: str) -> AbstractContextManager[None]:
        return own(self._locks, session_id)

    @property
    def damaged(self) -> int:
        return len(self._damaged)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()

    # Rows

    def _select(self, where: str, *values: object) -> list[Session]:
        rows = self._call(lambda connection: connection.execute(_SESSIONS + where, values).fetchall(), write=False)
        found = [session for session in (self._session(*row) for row in rows or ()) if session is not None]
        found.sort(key=lambda session: (-session.last_updated, session.session_id))
        newest: dict[str, Session] = {}  # a damaged tree can show a row twice
        for session in found:
            newest.setdefault(session.session_id, session)
        return list(newest.values())

    def _session(self, key: Any, crc: object, record: Any) -> Session | None:  # noqa: ANN401 - of whatever type the damage made it
        try:
            session = Session.from_json(_checked(crc, record, key))
            if session.session_id.encode() != key:
                raise ValueError("another session's record")
        except _NOT_A_RECORD:
            self._damaged.add((key,))
            return None
        return session

    def _chunk(self, session_id: bytes, key: Any, index: Any, crc: object, record: Any) -> ChunkRecord | None:  # noqa: ANN401 - likewise
        try:
            if key != session_id or not isinstance(index, int):
                raise ValueError("another chunk's record")
            return ChunkRecord.from_json(index, _checked(crc, record, key, b"%d" % index))
        except _NOT_A_RECORD:
            self._damaged.add((session_id, key, index))
            return None

    def _write(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            with _transaction(connection):
                connection.executemany(statement, rows)

        if rows:
            self._call(work, write=True)

    # The file

    def _call(self, work: Callable[[sqlite3.Connection], T], *, write: bool) -> T | None:
        """Run `work` on the open file. None without a file, which only `write` makes."""
        with self._lock, _translated(self._path):
            if self._closed:
                raise JournalError("the journal is closed")
            try:
                return self._try(work, write)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                if not _means_damage(error):
                    raise
                self._move_aside()
            return self._try(work, write)

    def _try(self, work: Callable[[sqlite3.Connection], T], write: bool) -> T | None:
        try:
            connection = self._connect(write)
            return None if connection is None else work(connection)
        except BaseException:
            # After a failed fsync nobody knows what the cache holds: the next call reads the file anew. Closing also
            # rolls back.
            self._drop()
            raise

    def _connect(self, write: bool) -> sqlite3.Connection | None:
        state = _look(self._path)
        if self._connection is not None and state is not None and (state.st_dev, state.st_ino) == self._opened:
            return self._connection
        self._drop()  # the file was replaced or removed under us: writing on would reach nobody
        if state is None or (state.st_size == 0 and not write):
            if not write:
                return None
            state = _create(self._path)
        make_private_directory(os.path.dirname(self._path))
        if state.st_mode & 0o077:
            os.chmod(self._path, 0o600)
        self._opened = state.st_dev, state.st_ino
        self._connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self._path))}?mode=rw",  # never made by SQLite: it would make it for all to read
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        _prepare(self._connection, self._path)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _move_aside(self) -> None:
        directory = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Without this lock, a process that saw the same damage later would move the new file away.
            fcntl.flock(directory, fcntl.LOCK_EX)
            state = _look(self._path)
            if state is None or (state.st_dev, state.st_ino) != self._opened:
                return
            aside = f"{self._path}.corrupt-{int(time.time())}"
            with contextlib.suppress(FileNotFoundError):  # first, or SQLite would play it back into the new file
                os.rename(f"{self._path}-journal", f"{aside}-journal")
            os.rename(self._path, aside)
            self.moved_aside = aside
        finally:
            os.close(directory)


def _look(path: str) -> os.stat_result | None:
    try:
        state = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(state.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(state.st_mode) else "not a regular file"
        raise JournalError(f"journal {path!r} is {what}", hint="Remove it, then run the same command again.")
    if state.st_uid != os.geteuid():
        raise JournalError(
            f"journal {path!r} belongs to another user (uid {state.st_uid})",
            hint="Run jettyctl as that user, or choose another journal.",
        )
    return state


def _create(path: str) -> os.stat_result:
    make_private_directory(os.path.dirname(path))
    with _creating:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        state = _look(path)
    if state is None:
        raise JournalError(f"journal {path!r} vanished as it was made", hint="Run the same command again.")
    return state


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    connection.text_factory = bytes  # damaged text must fail its row's CRC, not the whole query
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")  # a damaged pointer finds zeros, not an older version of a row
    version = _version(connection)
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"journal {path!r} was written by a newer jettyctl (schema {version}, this one knows {SCHEMA_VERSION})",
            hint="Upgrade jettyctl, for instance with `pip install --upgrade jettyctl`.",
        )
    if version < SCHEMA_VERSION:
        _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    with _transaction(connection):
        for statements in _MIGRATIONS[_version(connection) :]:  # read again: another process may have been first
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return max(0, version)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction. It takes the write lock at once: two readers that both want to write would deadlock."""
    connection.execute("BEGIN IMMEDIATE")
    yield  # whatever is raised here closes the connection (`_try`), and that rolls back
    connection.execute("COMMIT")


def _delete(connection: sqlite3.Connection, key: bytes) -> None:
    with _transaction(connection):
        for statement in _DELETE:
            connection.execute(statement, (key,))


def _index_key(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _crc(*parts: bytes) -> int:
    return zlib.crc32(b"\n".join(parts))


def _checked(crc: object, record: bytes, *key: bytes) -> Any:  # noqa: ANN401 - JSON
    if crc != _crc(*key, record):
        raise ValueError("damaged")
    return json.loads(record)


def _means_damage(error: Exception) -> bool:
    # The message of an error about a damaged schema quotes it, and may then be no text.
    return isinstance(error, UnicodeDecodeError) or _code(error) in _DAMAGE


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", -1) & 0xFF  # the low byte of an extended code is its class


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _failure(path, error) from error
    except OSError as error:
        raise os_failure(path, error) from error


def _failure(path: str, error: sqlite3.Error) -> JournalError:
    directory = os.path.dirname(path)
    hints = {
        sqlite3.SQLITE_FULL: f"Free some space in {directory!r}, then run the same command again.",
        sqlite3.SQLITE_BUSY: "Another jettyctl is writing, or was stopped while it wrote. Wait for it, or end it.",
        sqlite3.SQLITE_READONLY: f"Make {directory!r} and the journal writable for you.",
        sqlite3.SQLITE_CANTOPEN: f"Make {directory!r} and the journal writable for you.",
        sqlite3.SQLITE_IOERR: f"Look at the disk of {directory!r}, then run the same command again.",
    }
    reason = " ".join(str(error).split())
    kind = JournalBusy if _code(error) == sqlite3.SQLITE_BUSY else JournalError
    return kind(f"journal {path!r}: {reason}", hint=hints.get(_code(error), "Run the same command again."))

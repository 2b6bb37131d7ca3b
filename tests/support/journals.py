"""SQLite journals with known content, and a look at what is left of it after damage."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace

from jettyctl.core.model import Identity, Target
from jettyctl.core.session import ChunkRecord, ChunkStatus, Session, SessionStatus, SourceRecord
from jettyctl.errors import JournalError
from jettyctl.journal.sqlite import SqliteJournal


def make_session(number: int = 0, **changes: object) -> Session:
    """A session that differs from others by its number; its path is no text."""
    session = Session(
        session_id=f"{number:08x}-5e55",
        source=SourceRecord(f"/data/caf\udce9/{number}", Identity(dev=1, ino=2, size=100, mtime_ns=3, ctime_ns=4)),
        target=Target("s3", "https://store.example", "bucket", f"key {number}"),
        chunk_size=8,
        threads=4,
        started_at=1.5,
        last_updated=float(number),
    )
    return replace(session, **changes)  # type: ignore[arg-type]


def make_chunk(index: int) -> ChunkRecord:
    """A chunk that was sent."""
    return ChunkRecord(index, ChunkStatus.COMPLETED, 1.25, bytes_uploaded=8, etag=f'"{index}"', crc64=index)


def fill(path: str) -> dict[str, Session]:
    """Ten sessions of five chunks, each written twice, so that old versions of rows could turn up."""
    journal = SqliteJournal(path)
    truth = {}
    for number in range(10):
        status = SessionStatus.COMPLETED if number % 2 else SessionStatus.IN_PROGRESS
        for session in (make_session(number), make_session(number, status=status, upload_id="u")):
            journal.save(session)
            journal.save_chunks(session.session_id, [replace(make_chunk(index), etag="") for index in range(5)])
            journal.save_chunks(session.session_id, [make_chunk(index) for index in range(5)])
            truth[session.session_id] = session
    journal.close()
    return truth


def edit(path: str, statement: str) -> None:
    """Change the file behind the journal's back."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def check_answers(path: str, truth: dict[str, Session], new: Session, what: str) -> None:
    """What is returned is right or absent, and `new` can be saved."""
    with contextlib.closing(SqliteJournal(path)) as journal, contextlib.suppress(JournalError):
        assert all(truth[session.session_id] == session for session in journal.sessions()), what
        for session_id, session in truth.items():
            assert journal.get(session_id) in (session, None), what
            assert journal.find(session.source.path, session.target.place) in ([session], []), what
            assert all(make_chunk(index) == record for index, record in journal.chunks(session_id).items()), what
        journal.save(new)
        assert journal.get(new.session_id) in (new, None), what

"""What `sessions gc` removes, and what it leaves alone and does not speak of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from jettyctl.engine.housekeeping import Garbage, collect_garbage
from jettyctl.journal.sqlite import SqliteJournal
from tests.support.journals import make_session
from tests.support.memory_store import MemoryStore

NEW = 50.0


@contextmanager
def _two_processes(tmp_path: Path) -> Iterator[tuple[SqliteJournal, SqliteJournal]]:
    """Two journals in one file, with two old unfinished sessions."""
    path = str(tmp_path / "journal.sqlite")
    with closing(SqliteJournal(path)) as ours, closing(SqliteJournal(path)) as theirs:
        for number in (1, 2):
            ours.save(make_session(number, upload_id=f"upload {number}"))
        yield ours, theirs


def _collected(journal: SqliteJournal) -> Iterator[Garbage]:
    store = MemoryStore()
    return collect_garbage(journal, lambda _: store, NEW, dry_run=False)


def test_a_session_that_another_process_works_on(tmp_path: Path) -> None:
    """It is left alone, and not said to be removed."""
    with _two_processes(tmp_path) as (ours, theirs), theirs.own(make_session(1).session_id):
        told = [(item.kind, item.session_id) for item in _collected(ours)]
        gone = make_session(2).session_id
        assert told == [("unfinished upload", gone), ("record", gone)]
        assert [session.session_id for session in ours.sessions()] == [make_session(1).session_id]


def test_sessions_that_are_used_meanwhile(tmp_path: Path) -> None:
    """So is what another process went on with, or ended, after the sessions were listed."""
    with _two_processes(tmp_path) as (ours, theirs):
        garbage = _collected(ours)
        assert next(garbage).session_id == make_session(2).session_id
        for number in (1, 2):
            theirs.save(make_session(number, upload_id=f"upload {number}", last_updated=NEW + number))
        assert list(garbage) == []
        assert len(ours.sessions()) == 2

"""The SQLite journal's file: private, made when it is needed, and of this version or brought up to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from jettyctl.errors import JournalError
from jettyctl.journal.sqlite import SCHEMA_VERSION, SqliteJournal
from tests.support.journals import edit, fill, make_session


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# Who may read it


def test_only_the_user_can_read_it_whatever_the_umask(path: str, open_umask: None) -> None:
    """File and rollback journal are 0600, the directories made for them 0700, from the first moment on."""
    journal = SqliteJournal(path)
    journal.save(make_session())
    with journal.own("a1"):
        assert mode(f"{os.path.dirname(path)}/locks/a1.lock") == 0o600
    assert mode(path) == mode(f"{path}-journal") == 0o600
    assert mode(os.path.dirname(path)) == mode(f"{os.path.dirname(path)}/locks") == 0o700
    journal.close()


def test_missing_parents_are_private_too(tmp_path: Path, open_umask: None) -> None:
    """Every directory that has to be made on the way is 0700."""
    journal = SqliteJournal(str(tmp_path / "one" / "two" / "journal.sqlite"))
    journal.save(make_session())
    journal.close()
    assert mode(str(tmp_path / "one")) == mode(str(tmp_path / "one" / "two")) == 0o700


def test_a_readable_file_is_closed_to_others(path: str) -> None:
    """A journal that somebody opened to others is 0600 again after the next use."""
    fill(path)
    os.chmod(path, 0o644)
    journal = SqliteJournal(path)
    assert len(journal.sessions()) == 10
    journal.close()
    assert mode(path) == 0o600


def test_a_directory_that_others_write_to_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Others could plant a rollback journal there, so it is refused; changing its mode is the user's decision."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    journal = SqliteJournal(str(shared / "journal.sqlite"))
    with pytest.raises(JournalError, match="other users can write to") as refused:
        journal.save(make_session())
    assert "chmod go-w" in refused.value.hint
    assert mode(str(shared)) == 0o1777
    assert os.listdir(shared) == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_is_refused(tmp_path: Path, exists: bool) -> None:
    """A link is never followed, neither to a file that exists nor to one that would be made."""
    target = tmp_path / "elsewhere"
    if exists:
        target.write_bytes(b"precious")
    path = tmp_path / "journal.sqlite"
    path.symlink_to(target)
    journal = SqliteJournal(str(path))
    with pytest.raises(JournalError, match="is a symbolic link"):
        journal.save(make_session())
    with pytest.raises(JournalError, match="is a symbolic link"):
        journal.sessions()
    assert not exists or target.read_bytes() == b"precious"
    assert target.exists() == exists


def test_the_file_of_another_user_is_refused(path: str) -> None:
    """A journal that belongs to somebody else is neither read nor written."""
    if os.geteuid() != 0:
        pytest.skip("giving a file away needs root")
    fill(path)
    os.chown(path, 12345, 12345)
    with pytest.raises(JournalError, match="belongs to another user"):
        SqliteJournal(path).sessions()


def test_a_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    """What is not a regular file is refused, not moved away."""
    with pytest.raises(JournalError, match="not a regular file"):
        SqliteJournal(str(tmp_path)).sessions()
    assert tmp_path.is_dir()


# When it is made, and by whom


def test_reading_does_not_make_a_file(path: str) -> None:
    """Looking at a journal that does not exist leaves no trace."""
    journal = SqliteJournal(path)
    assert journal.sessions() == []
    assert journal.get("a1") is None
    journal.delete("a1")
    journal.close()
    assert not os.path.exists(os.path.dirname(path))


def test_an_empty_file_is_a_new_journal(path: str) -> None:
    """A kill between making the file and its first transaction leaves nothing that must be repaired."""
    os.mkdir(os.path.dirname(path), 0o700)
    Path(path).touch(0o600)
    journal = SqliteJournal(path)
    assert journal.sessions() == []
    journal.save(make_session())
    assert journal.sessions() == [make_session()]
    assert journal.moved_aside is None
    journal.close()


def test_a_newer_schema_is_refused_with_the_way_out(path: str) -> None:
    """A file of a newer version is not touched, and the user is told to upgrade."""
    fill(path)
    edit(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    content = Path(path).read_bytes()
    journal = SqliteJournal(path)
    for _ in range(2):
        with pytest.raises(JournalError, match=rf"newer jettyctl \(schema {SCHEMA_VERSION + 1}") as refused:
            journal.save(make_session())
        assert "Upgrade jettyctl" in refused.value.hint
    assert Path(path).read_bytes() == content


def test_an_older_schema_is_migrated(path: str) -> None:
    """A file of an older version is brought up to date, and keeps its rows."""
    truth = fill(path)
    edit(path, "PRAGMA user_version = 0")
    journal = SqliteJournal(path)
    assert {session.session_id: session for session in journal.sessions()} == truth
    journal.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()


def test_it_is_not_in_wal_mode_and_syncs(path: str) -> None:
    """A file that was put into WAL mode leaves it, as WAL is not safe with several writers in these versions."""
    fill(path)
    edit(path, "PRAGMA journal_mode = WAL")
    journal = SqliteJournal(path)
    assert len(journal.sessions()) == 10
    assert journal._connection is not None
    assert journal._connection.execute("PRAGMA journal_mode").fetchone() == (b"truncate",)
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    journal.close()


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_taken_away_is_noticed(path: str, replaced: bool) -> None:
    """A journal removed or replaced while open is opened or made anew, so that writes reach what others read."""
    journal = SqliteJournal(path)
    journal.save(make_session(1))
    os.rename(path, f"{path}.gone")
    if replaced:
        fill(path)
    assert len(journal.sessions()) == (10 if replaced else 0)
    journal.save(make_session(77))
    journal.close()
    with contextlib.closing(SqliteJournal(path)) as another:
        assert another.get(make_session(77).session_id) == make_session(77)

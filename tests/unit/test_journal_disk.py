"""A journal on a disk that is full or read-only: an error with a way out, and nothing is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jettyctl.errors import JournalError
from jettyctl.journal.sqlite import SqliteJournal
from tests.support.journals import fill, make_chunk, make_session


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=128k,mode=0700", "tmpfs"]
    try:
        mounted = subprocess.run(["mount", *options, str(disk)], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def save_until_it_fails(journal: SqliteJournal) -> None:
    for index in range(10_000):
        journal.save_chunks("a1", [make_chunk(index)])


def test_a_full_disk_is_an_error_with_a_way_out_and_loses_nothing(small_disk: Path) -> None:
    """When the disk is full the save fails in one line, what was saved stays readable, and space helps."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 40_000)
    journal = SqliteJournal(str(small_disk / "journal.sqlite"))
    with pytest.raises(JournalError, match="full") as full:
        save_until_it_fails(journal)
    assert "Free some space" in full.value.hint
    assert "\n" not in full.value.message
    saved = len(journal.chunks("a1"))
    assert saved > 10
    assert dict(journal.chunks("a1")) == {index: make_chunk(index) for index in range(saved)}
    ballast.unlink()
    journal.save_chunks("a1", [make_chunk(saved)])
    assert len(journal.chunks("a1")) == saved + 1
    journal.close()


def test_a_disk_that_is_full_from_the_start_leaves_an_empty_journal(small_disk: Path) -> None:
    """Not even the first row fits: saving fails, reading still answers, and nothing is moved aside."""
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(b"\0" * 200_000)
    journal = SqliteJournal(str(small_disk / "journal.sqlite"))
    with pytest.raises(JournalError, match=r"full|No space"):
        journal.save(make_session())
    assert journal.sessions() == []
    assert journal.moved_aside is None
    journal.close()


def test_a_read_only_disk_can_be_read(small_disk: Path) -> None:
    """Of a journal on a read-only file system the sessions can be listed; saving says what is wrong."""
    path = str(small_disk / "journal.sqlite")
    truth = fill(path)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    journal = SqliteJournal(path)
    assert {session.session_id: session for session in journal.sessions()} == truth
    with pytest.raises(JournalError, match=r"readonly|read-only") as refused:
        journal.save(make_session(77))
    assert "writable" in refused.value.hint
    with pytest.raises(JournalError, match="Read-only"), journal.own("a1"):
        pass
    journal.close()

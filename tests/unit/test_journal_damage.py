"""A damaged journal: what is left of it is right or absent, it is said what was lost, and writing goes on."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from jettyctl.journal import sqlite
from jettyctl.journal.sqlite import SqliteJournal
from tests.support.journals import check_answers, edit, fill, make_chunk, make_session


@pytest.mark.parametrize("content", [b"xyz", b"garbage " * 1000, b"SQLite format 3\0" + b"\xff" * 5000, b"\0" * 4096])
def test_a_file_that_is_no_database_is_moved_aside(path: str, content: bytes) -> None:
    """An unreadable file is kept under another name, the caller can see which, and a new one begins."""
    os.mkdir(os.path.dirname(path), 0o700)
    Path(path).write_bytes(content)
    journal = SqliteJournal(path)
    assert journal.sessions() == []
    journal.save(make_session())
    assert journal.sessions() == [make_session()]
    assert journal.moved_aside is not None
    assert journal.moved_aside.startswith(f"{path}.corrupt-")
    assert Path(journal.moved_aside).read_bytes() == content
    journal.close()


def test_a_moved_file_takes_its_rollback_journal_along(path: str) -> None:
    """The rollback journal of a broken file is not played back into the new one."""
    fill(path)
    Path(path).write_bytes(b"garbage " * 1000)
    assert os.path.exists(f"{path}-journal")
    journal = SqliteJournal(path)
    assert journal.sessions() == []
    assert not os.path.exists(f"{path}-journal")
    assert os.path.exists(f"{journal.moved_aside}-journal")
    journal.close()


def test_a_schema_damaged_beyond_text_is_moved_aside(path: str) -> None:
    """SQLite's message then quotes bytes that are no text, which must not become another exception."""
    fill(path)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content.replace(b"CREATE TABLE sessions (id", b"CREATE TABLE sessions (\xf0("))
    journal = SqliteJournal(path)
    assert journal.sessions() == []
    assert journal.moved_aside is not None
    journal.close()


def test_a_truncated_file_loses_rows_and_invents_none(path: str) -> None:
    """A file cut anywhere is moved aside or read as far as it is right, and takes new sessions."""
    truth = fill(path)
    content = Path(path).read_bytes()
    new = make_session(77)
    for length in [1, 15, 16, 99, 100, 511, 512, 4095, *range(4096, len(content), 3001)]:
        Path(path).write_bytes(content[:length])
        journal = SqliteJournal(path)
        assert all(truth[session.session_id] == session for session in journal.sessions())
        journal.save(new)
        assert journal.get(new.session_id) == new
        journal.close()


def test_two_processes_that_see_one_damage_move_one_file(path: str) -> None:
    """Who sees the damage second takes up the new file of the first, and does not move it away."""
    fill(path)
    first, second = SqliteJournal(path), SqliteJournal(path)
    assert len(first.sessions()) == len(second.sessions()) == 10
    with open(path, "r+b") as file:
        file.write(b"garbage " * 1000)
    first.save(make_session(77))
    second.save(make_session(78))
    assert len(first.sessions()) == len(second.sessions()) == 2
    assert (first.moved_aside is None) != (second.moved_aside is None)
    first._opened = (0, 0)  # as if the damage had been seen before the file was replaced
    first.moved_aside = None
    first._move_aside()
    assert first.moved_aside is None
    assert len(second.sessions()) == 2
    first.close()
    second.close()


def test_an_older_version_of_a_row_leaves_no_trace(path: str) -> None:
    """What was replaced or deleted is overwritten, so that a damaged pointer cannot bring it back."""
    journal = SqliteJournal(path)
    for message in ("the older one", "the newer one"):
        journal.save(make_session(1, error_message=message))
        journal.save_chunks("a1", [replace(make_chunk(0), error_message=message)])
    assert b"the older one" not in Path(path).read_bytes()
    journal.delete(make_session(1).session_id)
    journal.delete("a1")
    assert b"the newer one" not in Path(path).read_bytes()
    journal.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET record = replace(record, '\"threads\": 4', '\"threads\": 5') WHERE id LIKE '00000003%'",
        "UPDATE sessions SET crc = crc + 1 WHERE id LIKE '00000003%'",
        "UPDATE sessions SET id = '00000033-5e55' WHERE id LIKE '00000003%'",
        "UPDATE sessions SET record = NULL, crc = 'x' WHERE id LIKE '00000003%'",
        "UPDATE sessions SET record = CAST(x'ff00' AS TEXT) WHERE id LIKE '00000003%'",
        "UPDATE sessions SET id = x'ff' WHERE id LIKE '00000003%'",
    ],
)
def test_a_damaged_session_is_left_out_and_counted_once(path: str, statement: str) -> None:
    """A session whose row is not what was written is absent, however it is asked for, and the rest is there."""
    truth = fill(path)
    edit(path, statement)
    journal = SqliteJournal(path)
    lost = make_session(3)
    assert {session.session_id for session in journal.sessions()} == truth.keys() - {lost.session_id}
    assert journal.get(lost.session_id) is None
    assert journal.find(lost.source.path, lost.target.place) == []
    assert len(journal.sessions()) == 9
    assert journal.damaged == 1
    journal.save(lost)
    assert journal.get(lost.session_id) == lost
    journal.close()


@pytest.mark.parametrize("change", ["crc = crc + 1", "idx = 7", "idx = 'x'", "record = '{}'", "record = x'00'"])
def test_a_damaged_chunk_is_left_out_and_counted(path: str, change: str) -> None:
    """A chunk whose row is not what was written is absent, so that it is looked up at the store or sent again."""
    fill(path)
    session_id = make_session(3).session_id
    edit(path, f"UPDATE chunks SET {change} WHERE session_id = '{session_id}' AND idx = 2")
    journal = SqliteJournal(path)
    assert dict(journal.chunks(session_id)) == {index: make_chunk(index) for index in (0, 1, 3, 4)}
    assert journal.damaged == 1
    journal.close()


@pytest.mark.parametrize("record", ["{}", "[]", "1", "no JSON", '{"source": 1, "target": 2}', "[" * 100_000])
def test_a_row_with_a_good_crc_that_is_no_record_is_left_out(path: str, record: str) -> None:
    """A right checksum is not enough: what does not parse as a session or as a chunk is absent."""
    fill(path)
    session_id = make_session(3).session_id
    crc, chunk_crc = (sqlite._crc(*key, record.encode()) for key in ((session_id.encode(),), (b"a1", b"0")))
    edit(path, f"UPDATE sessions SET record = '{record}', crc = {crc} WHERE id = '{session_id}'")
    edit(path, f"INSERT INTO chunks VALUES ('a1', 0, {chunk_crc}, '{record}')")
    journal = SqliteJournal(path)
    assert journal.get(session_id) is None
    assert journal.chunks("a1") == {}
    assert journal.damaged == 2
    journal.close()


def test_a_flipped_bit_never_changes_an_answer(path: str) -> None:
    """With any one bit of the file flipped, what is returned is right or absent, and writing goes on."""
    truth = fill(path)
    content = Path(path).read_bytes()
    bits = random.Random(20_240)
    new = make_session(77)
    for _ in range(300):
        bit = bits.randrange(len(content) * 8)
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        Path(path).write_bytes(damaged)
        check_answers(path, truth, new, f"bit {bit}")

"""What the SQLite journal promises of its file: private, checked, shared, and never a reason to fail without a word."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jettyctl.core.model import Identity, Target
from jettyctl.core.session import ChunkRecord, ChunkStatus, Session, SessionStatus, SourceRecord
from jettyctl.errors import JournalError, SessionBusy
from jettyctl.journal import sqlite
from jettyctl.journal.ownership import own, sweep
from jettyctl.journal.sqlite import SCHEMA_VERSION, SqliteJournal

PACKAGE_ROOT = str(Path(sqlite.__file__).parents[2])

SAVE_CHUNKS_FOREVER = """
import itertools, sys
from jettyctl.core.session import ChunkRecord, ChunkStatus
from jettyctl.journal.sqlite import SqliteJournal
journal = SqliteJournal(sys.argv[1])
for index in itertools.count(int(sys.argv[2])):
    journal.save_chunks("a1", [ChunkRecord(index, ChunkStatus.COMPLETED, 1.0, etag=f"e{index}")])
    print(index, flush=True)
    if index == int(sys.argv[3]):
        break
"""

OWN_UNTIL_STDIN_CLOSES = """
import sys
from jettyctl.journal.sqlite import SqliteJournal
with SqliteJournal(sys.argv[1]).own("a1"):
    print("owned", flush=True)
    sys.stdin.read()
"""


def make_session(number: int = 0, **changes: object) -> Session:
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
    return ChunkRecord(index, ChunkStatus.COMPLETED, 1.25, bytes_uploaded=8, etag=f'"{index}"', crc64=index)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "data" / "journal.sqlite")


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


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


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": PACKAGE_ROOT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


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


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def edit(path: str, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


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
    assert journal.prune(1e12) == 0
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


# Damage


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


def test_pruning_removes_damaged_rows_with_the_old_ones(path: str) -> None:
    """A damaged row is not reported for ever: it goes with the sessions of its age, but is not counted as one."""
    fill(path)
    edit(path, "UPDATE sessions SET crc = crc + 1 WHERE id LIKE '00000003%'")
    journal = SqliteJournal(path)
    assert journal.prune(6.0) == 2  # 1 and 5; 3 is the damaged one
    journal.close()
    journal = SqliteJournal(path)
    assert len(journal.sessions()) == 7
    assert journal.damaged == 0
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


def check_answers(path: str, truth: dict[str, Session], new: Session, what: str) -> None:
    with contextlib.closing(SqliteJournal(path)) as journal, contextlib.suppress(JournalError):
        assert all(truth[session.session_id] == session for session in journal.sessions()), what
        for session_id, session in truth.items():
            assert journal.get(session_id) in (session, None), what
            assert journal.find(session.source.path, session.target.place) in ([session], []), what
            assert all(make_chunk(index) == record for index, record in journal.chunks(session_id).items()), what
        journal.save(new)
        assert journal.get(new.session_id) in (new, None), what


# Trouble with the disk


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


# Processes


def test_what_was_acknowledged_survives_a_kill(path: str) -> None:
    """After SIGKILL of a writer every row whose save returned is there, and the file is sound."""
    acknowledged: set[int] = set()
    for start_at in (0, 1000, 2000):
        writer = start(SAVE_CHUNKS_FOREVER, path, start_at, -1)
        assert writer.stdout is not None
        acknowledged.update(int(writer.stdout.readline()) for _ in range(25 + start_at // 100))
        writer.kill()
        acknowledged.update(map(int, writer.stdout))  # first: `communicate` does not know what `readline` has read ahead
        writer.communicate()
    journal = SqliteJournal(path)
    found = journal.chunks("a1")
    assert acknowledged <= found.keys()
    assert len(found) <= len(acknowledged) + 3  # one save may have been on its way at each kill
    assert all(record.etag == f"e{index}" for index, record in found.items())
    assert journal.damaged == 0
    assert journal.moved_aside is None
    journal.close()


def test_processes_write_at_once(path: str) -> None:
    """Three writers that begin together, on a file that none of them finds, all get all their rows in."""
    writers = [start(SAVE_CHUNKS_FOREVER, path, begin, begin + 49) for begin in (0, 100, 200)]
    for writer in writers:
        assert len(writer.communicate()[0].splitlines()) == 50
        assert writer.returncode == 0
    journal = SqliteJournal(path)
    assert sorted(journal.chunks("a1")) == [begin + index for begin in (0, 100, 200) for index in range(50)]
    journal.close()


def test_a_session_owned_by_another_process_is_busy_until_that_is_killed(path: str) -> None:
    """The message names the owner's pid and host; SIGKILL frees the session at once, with no lock to clear by hand."""
    owner = start(OWN_UNTIL_STDIN_CLOSES, path)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "owned\n"
    journal = SqliteJournal(path)
    expected = f"session a1 is held by pid {owner.pid} on {os.uname().nodename}"
    with pytest.raises(SessionBusy) as busy, journal.own("a1"):
        pass
    assert busy.value.message == expected
    assert f"kill {owner.pid}" in busy.value.hint
    journal.delete("a1")
    with pytest.raises(SessionBusy), journal.own("a1"):
        pass
    owner.kill()
    owner.communicate()
    with journal.own("a1"):
        pass
    assert os.listdir(f"{os.path.dirname(path)}/locks") == []


def test_an_owner_that_ends_lets_go(path: str) -> None:
    """A process that leaves the context frees the session and takes its lock file along."""
    owner = start(OWN_UNTIL_STDIN_CLOSES, path)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "owned\n"
    owner.communicate()
    assert owner.returncode == 0
    assert os.listdir(f"{os.path.dirname(path)}/locks") == []


def test_a_left_over_lock_file_is_swept_with_its_session(path: str) -> None:
    """The lock file of a killed process stops nobody, and deleting the session removes it."""
    journal = SqliteJournal(path)
    journal.save(make_session())
    locks = Path(path).parent / "locks"
    locks.mkdir(0o700)
    left = locks / f"{make_session().session_id}.lock"
    left.write_text("1 elsewhere 1\n")
    journal.delete(make_session().session_id)
    assert not left.exists()
    journal.close()


def test_an_unsigned_or_forged_lock_names_nobody(tmp_path: Path) -> None:
    """What stands in a lock file reaches the user only if it looks like what an owner writes."""
    with own(str(tmp_path), "a1"):
        (tmp_path / "a1.lock").write_bytes(b"1 \x1b[31mhost 1\n")
        with pytest.raises(SessionBusy, match=r"held by another process$"), own(str(tmp_path), "a1"):
            pass


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """A link in place of the lock file is not followed."""
    (tmp_path / "a1.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JournalError), own(str(tmp_path), "a1"):
        pass
    sweep(str(tmp_path), "a1")
    assert os.listdir(tmp_path) == ["a1.lock"]


def test_owners_that_come_and_go_are_never_two(tmp_path: Path) -> None:
    """Processes that take and release one lock as fast as they can, file removal included, are never in it together."""
    script = """
import os, sys, time
from jettyctl.errors import SessionBusy
from jettyctl.journal.ownership import own
inside, rounds, end = sys.argv[1] + "/inside", 0, time.monotonic() + 1
while time.monotonic() < end:
    try:
        with own(sys.argv[1], "a1"):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            os.unlink(inside)
            rounds += 1
    except SessionBusy:
        pass
print(rounds)
"""
    owners = [start(script, tmp_path) for _ in range(3)]
    rounds = [int(owner.communicate()[0]) for owner in owners]
    assert [owner.returncode for owner in owners] == [0, 0, 0]
    assert sum(rounds) > 10

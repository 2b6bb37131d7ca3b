"""Processes that share a journal: they write at once, get killed, and never own one session together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jettyctl.errors import JournalError, SessionBusy
from jettyctl.journal import sqlite
from jettyctl.journal.ownership import own, sweep
from jettyctl.journal.sqlite import SqliteJournal
from tests.support.journals import make_session

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


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": PACKAGE_ROOT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


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

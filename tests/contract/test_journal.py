"""What every journal promises, whatever keeps it. Another implementation joins by one line in `OPENERS`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jettyctl.core.model import Identity, Target
from jettyctl.core.session import ChunkRecord, ChunkStatus, Session, SessionStatus, SourceRecord
from jettyctl.errors import JournalError, SessionBusy
from jettyctl.journal.base import Journal
from jettyctl.journal.sqlite import SqliteJournal
from tests.support.memory_journal import MemoryJournal

OPENERS: dict[str, Callable[[str], Journal]] = {
    "memory": lambda directory: MemoryJournal(),
    "sqlite": lambda directory: SqliteJournal(f"{directory}/journal.sqlite"),
}

FOREIGN_PATH = "/data/caf\udce9 \u2603\n.bin"  # a byte that is no UTF-8, a snowman and a line break


@pytest.fixture(params=OPENERS)
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    opened = OPENERS[request.param](str(tmp_path))
    yield opened
    opened.close()


def make_session(session_id: str = "a1", *, path: str = "/data/a", key: str = "k", **changes: object) -> Session:
    session = Session(
        session_id=session_id,
        source=SourceRecord(path, Identity(dev=1, ino=2, size=100, mtime_ns=3, ctime_ns=4)),
        target=Target("s3", "https://store.example", "bucket", key),
        chunk_size=8,
        threads=4,
        started_at=1.5,
        last_updated=2.5,
    )
    return replace(session, **changes)  # type: ignore[arg-type]


def make_chunk(index: int, **changes: object) -> ChunkRecord:
    done = ChunkRecord(index, ChunkStatus.COMPLETED, 1.25, bytes_uploaded=8, etag='"e"', crc64=(1 << 64) - 1 - index)
    return replace(done, **changes)  # type: ignore[arg-type]


def test_an_empty_journal_answers_every_question_with_nothing(journal: Journal) -> None:
    """A journal that holds nothing, or does not exist yet, answers and does not fail."""
    assert journal.get("a1") is None
    assert journal.sessions() == journal.match("") == journal.find("/data/a", make_session().target.place) == []
    assert journal.chunks("a1") == {}
    journal.delete("a1")
    assert journal.damaged == 0


def test_a_session_comes_back_as_it_was_saved(journal: Journal) -> None:
    """Every field of a session survives, undecodable file names and options included."""
    session = make_session(
        path=FOREIGN_PATH,
        key="ключ/\udcff",
        upload_id="u",
        status=SessionStatus.COMPLETING,
        user_id="me",
        file_hash="sha256:" + "0" * 64,
        edges_used=("e1", "e2"),
        chunks_completed=3,
        bytes_uploaded=24,
        completed_at=3.5,
        error_message="no\nluck",
        imported=True,
        options={"content_type": "text/plain", "metadata": {"a": "b"}},
    )
    journal.save(session)
    assert journal.get("a1") == session
    assert journal.find(FOREIGN_PATH, session.target.place) == [session]


def test_saving_again_replaces(journal: Journal) -> None:
    """There is one session per id, the last that was saved, found only under its newest path."""
    journal.save(make_session(path="/old"))
    newer = make_session(path="/new", last_updated=9.0)
    journal.save(newer)
    assert journal.sessions() == [newer]
    assert journal.find("/old", newer.target.place) == []
    assert journal.find("/new", newer.target.place) == [newer]


def test_sessions_are_listed_newest_update_first(journal: Journal) -> None:
    """The order of a list is that of the updates, not that of the ids or of the saves."""
    for session_id, updated in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        journal.save(make_session(session_id, last_updated=updated))
    place = make_session().target.place
    assert [session.session_id for session in journal.sessions()] == ["c", "b", "a"]
    assert [session.session_id for session in journal.find("/data/a", place)] == ["c", "b", "a"]


def test_find_wants_both_source_and_place(journal: Journal) -> None:
    """A session of the same file to another key, or of another file to the same key, is not found."""
    wanted = make_session("a", path="/x", key="one")
    journal.save(wanted)
    journal.save(make_session("b", path="/x", key="two"))
    journal.save(make_session("c", path="/y", key="one"))
    assert journal.find("/x", wanted.target.place) == [wanted]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("", {"ab1", "ab2", "Ab3", "ab"}), ("ab", {"ab1", "ab2", "ab"}), ("ab1", {"ab1"}), ("ab12", set()), ("b", set())],
)
def test_match_finds_by_the_beginning_of_the_id(journal: Journal, prefix: str, expected: set[str]) -> None:
    """A prefix is compared letter by letter and is case-sensitive."""
    for session_id in ("ab1", "ab2", "Ab3", "ab"):
        journal.save(make_session(session_id))
    assert {session.session_id for session in journal.match(prefix)} == expected


@pytest.mark.parametrize("prefix", ["%", "a%", "_", "*", "a*", "'", "\udcff", "~", "a" * 1000, "\0"])
def test_match_knows_no_wildcards(journal: Journal, prefix: str) -> None:
    """Text that cannot begin an id matches nothing, and does not fail."""
    journal.save(make_session("ab1"))
    assert journal.match(prefix) == []


@pytest.mark.parametrize("session_id", ["", "../x", "a/b", "a\n", "a.b", "a" * 65, "é", "\udcff", "a\0"])
def test_what_is_no_session_id_is_refused_or_unknown(journal: Journal, session_id: str) -> None:
    """Nothing is written under an id that could not be a file name; asking for it finds nothing."""
    with pytest.raises(JournalError, match="not a session id"):
        journal.save(make_session(session_id))
    with pytest.raises(JournalError, match="not a session id"):
        journal.save_chunks(session_id, [make_chunk(0)])
    with pytest.raises(JournalError, match="not a session id"), journal.own(session_id):
        pass
    assert journal.get(session_id) is None
    assert journal.chunks(session_id) == {}
    journal.delete(session_id)
    assert journal.sessions() == []


def test_chunks_come_back_as_they_were_saved(journal: Journal) -> None:
    """Every field of a chunk survives, and a later record replaces an earlier one."""
    journal.save_chunks("a1", [make_chunk(0), make_chunk(7, status=ChunkStatus.UPLOADING, crc64=None, etag="")])
    journal.save_chunks("a1", iter([make_chunk(7, edge_id="e1", error_message="x\ny"), make_chunk(9_999)]))
    journal.save_chunks("a2", [make_chunk(1)])
    expected = [make_chunk(0), make_chunk(7, edge_id="e1", error_message="x\ny"), make_chunk(9_999)]
    assert dict(journal.chunks("a1")) == {record.index: record for record in expected}
    assert dict(journal.chunks("a2")) == {1: make_chunk(1)}


def test_saving_chunks_is_idempotent(journal: Journal) -> None:
    """The same records saved twice, or none at all, change nothing."""
    journal.save_chunks("a1", [make_chunk(0), make_chunk(1)])
    journal.save_chunks("a1", [make_chunk(0), make_chunk(1)])
    journal.save_chunks("a1", [])
    assert dict(journal.chunks("a1")) == {0: make_chunk(0), 1: make_chunk(1)}


def test_delete_forgets_one_session_and_its_chunks(journal: Journal) -> None:
    """Deleting takes the chunks along, spares other sessions, and may be repeated."""
    for session_id in ("a", "ab"):
        journal.save(make_session(session_id))
        journal.save_chunks(session_id, [make_chunk(0)])
    journal.delete("a")
    journal.delete("a")
    assert journal.get("a") is None
    assert journal.chunks("a") == {}
    assert journal.get("ab") == make_session("ab")
    assert dict(journal.chunks("ab")) == {0: make_chunk(0)}


def test_a_session_has_one_owner(journal: Journal) -> None:
    """A second owner is refused and told who the first is, until the first lets go."""
    with journal.own("a1"):
        with pytest.raises(SessionBusy, match=r"session a1 is held by pid \d+ on ") as busy, journal.own("a1"):
            pass
        assert busy.value.hint
        with journal.own("a2"):
            pass
    with journal.own("a1"):
        pass


def test_ownership_ends_with_an_error_and_passes_it_on(journal: Journal) -> None:
    """What is raised while a session is owned arrives unchanged, and the session is free again."""
    with pytest.raises(OSError, match="mine"), journal.own("a1"):
        raise OSError("mine")
    with journal.own("a1"):
        pass


def test_an_owner_may_delete_its_session(journal: Journal) -> None:
    """Deleting an owned session neither fails nor ends the ownership."""
    journal.save(make_session("a1"))
    with journal.own("a1"):
        journal.delete("a1")
        with pytest.raises(SessionBusy), journal.own("a1"):
            pass
    with journal.own("a1"):
        pass


def test_calls_may_come_from_any_thread(journal: Journal) -> None:
    """Threads that save at once lose nothing."""
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for index in range(10):
                journal.save_chunks("a1", [make_chunk(thread * 10 + index)])
                journal.save(make_session(f"t{thread}"))
                journal.chunks("a1")
        except BaseException as error:  # noqa: BLE001 - shown by the test below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(journal.chunks("a1")) == list(range(60))
    assert len(journal.sessions()) == 6


def test_a_closed_journal_says_so(journal: Journal) -> None:
    """Closing twice is fine; using a closed journal is a JournalError."""
    journal.save(make_session())
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.save(make_session())
    with pytest.raises(JournalError, match="closed"):
        journal.sessions()


def test_scripted_saves_fail_and_store_nothing() -> None:
    """The memory journal fails the saves it is told to, counted over sessions and chunks from 1."""
    journal = MemoryJournal(fail_saves=[2, 3])
    journal.save(make_session("a"))
    with pytest.raises(JournalError):
        journal.save_chunks("a", [make_chunk(0)])
    with pytest.raises(JournalError):
        journal.save(make_session("b"))
    journal.save_chunks("a", [make_chunk(1)])
    assert journal.sessions() == [make_session("a")]
    assert list(journal.chunks("a")) == [1]


IDS = st.sampled_from(["a", "ab", "B-1", "0" * 64])
TEXTS = st.text(st.characters(), max_size=5)  # any code point, lone surrogates included
TIMES = st.integers(0, 50).map(float)
CHUNKS = st.builds(
    ChunkRecord,
    index=st.integers(0, 5),
    status=st.sampled_from(ChunkStatus),
    timestamp=TIMES,
    edge_id=TEXTS,
    etag=TEXTS,
    crc64=st.none() | st.integers(0, (1 << 64) - 1),
    error_message=TEXTS,
)
SESSIONS = st.builds(
    make_session,
    IDS,
    path=st.sampled_from(["/x", FOREIGN_PATH]),
    key=st.sampled_from(["one", "two"]),
    status=st.sampled_from(SessionStatus),
    last_updated=TIMES,
    upload_id=st.none() | TEXTS,
    error_message=TEXTS,
)


class AgainstADict(RuleBasedStateMachine):
    """Any order of calls leaves what the same calls leave in two dicts."""

    opener = OPENERS["memory"]

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.journal = type(self).opener(self.directory.name)
        self.kept: dict[str, Session] = {}
        self.records: dict[str, dict[int, ChunkRecord]] = {}

    def teardown(self) -> None:
        self.journal.close()
        self.directory.cleanup()

    @rule(session=SESSIONS)
    def save(self, session: Session) -> None:
        self.journal.save(session)
        self.kept[session.session_id] = session

    @rule(session_id=IDS, records=st.lists(CHUNKS, max_size=4))
    def save_chunks(self, session_id: str, records: list[ChunkRecord]) -> None:
        self.journal.save_chunks(session_id, records)
        self.records.setdefault(session_id, {}).update({record.index: record for record in records})

    @rule(session_id=IDS)
    def delete(self, session_id: str) -> None:
        self.journal.delete(session_id)
        self.kept.pop(session_id, None)
        self.records.pop(session_id, None)

    @rule(session_id=IDS, path=st.sampled_from(["/x", FOREIGN_PATH]), key=st.sampled_from(["one", "two"]))
    def look(self, session_id: str, path: str, key: str) -> None:
        place = make_session(key=key).target.place
        expected = {s.session_id for s in self.kept.values() if (s.source.path, s.target.place) == (path, place)}
        assert {session.session_id for session in self.journal.find(path, place)} == expected
        assert self.journal.get(session_id) == self.kept.get(session_id)
        assert self.journal.chunks(session_id) == self.records.get(session_id, {})

    @invariant()
    def holds_the_same_sessions(self) -> None:
        found = self.journal.sessions()
        assert {session.session_id: session for session in found} == self.kept
        assert [s.last_updated for s in found] == sorted((s.last_updated for s in found), reverse=True)


class SqliteAgainstADict(AgainstADict):
    """The same with the file, which also survives being closed at any moment."""

    opener = OPENERS["sqlite"]

    @rule()
    def reopen(self) -> None:
        assert self.journal.damaged == 0
        self.journal.close()
        self.journal = type(self).opener(self.directory.name)


MACHINE_SETTINGS = settings(max_examples=40, stateful_step_count=25, deadline=None, database=None)
TestMemoryAgainstADict = AgainstADict.TestCase
TestMemoryAgainstADict.settings = MACHINE_SETTINGS
TestSqliteAgainstADict = SqliteAgainstADict.TestCase
TestSqliteAgainstADict.settings = MACHINE_SETTINGS

"""A journal and a dictionary, step by step: Hypothesis draws what is done to both, and looks for a difference.

As long as the file is sound, both hold the same. After bytes of it were damaged, the journal may miss rows, but each that it
shows was written once. Two openers share the file all the time; a crash leaves a copy of it, which is opened then.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from jettyctl.core.session import ChunkRecord, ChunkStatus, Session, SessionStatus
from jettyctl.errors import JournalError
from jettyctl.journal.sqlite import SCHEMA_VERSION, SqliteJournal
from tests.support.journals import make_chunk, make_session

WALK = 100  # steps from one new file to the next
NUMBERS = st.integers(0, 5)  # sessions
OPENERS = st.integers(0, 1)
STATUSES = st.sampled_from(list(SessionStatus))
CHUNKS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.sampled_from(list(ChunkStatus))), max_size=12)


class JournalMachine(RuleBasedStateMachine):
    """`directory` and the count of `steps` are set by `machine`, in a class of its own for each walk."""

    directory = ""
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self._home = tempfile.mkdtemp(dir=self.directory)
        self._copies = 0
        self._clock = 0.0
        self._journals: list[SqliteJournal] = []
        self._begin(os.path.join(self._home, "0", "journal.sqlite"))

    @initialize()
    def begin(self) -> None:
        self._forget()

    def _begin(self, path: str) -> None:
        for journal in self._journals:
            journal.close()
        self._path = path
        self._journals = [SqliteJournal(path), SqliteJournal(path)]

    def _forget(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._chunks: dict[tuple[str, int], ChunkRecord] = {}
        self._ever: set[tuple[object, str]] = set()  # what was written at any time; records are compared by their text
        self._sound = True

    def _write(self, work: Callable[[], object]) -> bool:
        """Whether it was done. In a damaged file it need not be, but then it has to say so."""
        try:
            work()
        except JournalError:
            if self._sound:
                raise
            return False
        return True

    # What jettyctl does

    @rule(opener=OPENERS, number=NUMBERS, status=STATUSES, size=st.sampled_from((0, 10, 3_000)))
    def save(self, opener: int, number: int, status: SessionStatus, size: int) -> None:
        self._clock += 1
        session = make_session(number, status=status, last_updated=self._clock, error_message="x" * size)
        self._ever.add((session.session_id, repr(session)))
        if self._write(lambda: self._journals[opener].save(session)):
            self._sessions[session.session_id] = session

    @rule(opener=OPENERS, number=NUMBERS, drawn=CHUNKS)
    def save_chunks(self, opener: int, number: int, drawn: list[tuple[int, int, ChunkStatus]]) -> None:
        session_id = make_session(number).session_id
        records = [replace(make_chunk(at), etag=f"{tag}", status=status) for at, tag, status in drawn]
        self._ever.update(((session_id, record.index), repr(record)) for record in records)
        if self._write(lambda: self._journals[opener].save_chunks(session_id, records)):
            self._chunks.update({(session_id, record.index): record for record in records})

    @rule(opener=OPENERS, number=NUMBERS)
    def delete(self, opener: int, number: int) -> None:
        session_id = make_session(number).session_id
        if self._write(lambda: self._journals[opener].delete(session_id)):
            self._drop(session_id)

    def _drop(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)
        self._chunks = {place: record for place, record in self._chunks.items() if place[0] != session_id}

    @rule(opener=OPENERS, number=NUMBERS)
    def look(self, opener: int, number: int) -> None:
        session = make_session(number)
        known = self._sessions.get(session.session_id)
        journal = self._journals[opener]
        with suppress(*(() if self._sound else (JournalError,))):
            found = [journal.get(session.session_id), *journal.find(session.source.path, session.target.place)]
            found += journal.match(session.session_id[:8])
            if self._sound:
                assert found == ([known] * 3 if known else [None])
            assert all(item is None or (item.session_id, repr(item)) in self._ever for item in found)

    # What befalls it

    @rule(opener=OPENERS)
    def reopen(self, opener: int) -> None:
        self._journals[opener].close()
        self._journals[opener] = SqliteJournal(self._path)

    @rule()
    def crash(self) -> None:
        """What a kill leaves, side files included, is opened elsewhere."""
        self._copies += 1
        there = os.path.join(self._home, str(self._copies))
        if os.path.exists(self._path):
            shutil.copytree(os.path.dirname(self._path), there, ignore=shutil.ignore_patterns("*.corrupt-*"))
        self._begin(os.path.join(there, "journal.sqlite"))

    @precondition(lambda self: self._sound)
    @rule(version=st.sampled_from((0, SCHEMA_VERSION + 1)))
    def other_version(self, version: int) -> None:
        """An older file is taken over; a newer one is refused until it is as it was."""
        if not self._sessions:
            return
        self._set_version(version)
        self.reopen(0)
        if version > SCHEMA_VERSION:
            with pytest.raises(JournalError, match="newer jettyctl"):
                self._journals[0].sessions()
            self._set_version(SCHEMA_VERSION)

    def _set_version(self, version: int) -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            connection.execute(f"PRAGMA user_version = {version}")

    @precondition(lambda self: self._sound and self._sessions)
    @rule(share=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
    def rot(self, share: float, change: int) -> None:
        """A byte of the file that means something is another one; nobody has it in a cache."""
        if not os.path.exists(self._path):
            return
        self._sound = False
        content = bytearray(Path(self._path).read_bytes())
        meaning = [place for place, byte in enumerate(content) if byte]
        content[meaning[int(share * len(meaning))]] ^= change
        Path(self._path).write_bytes(content)
        self._begin(self._path)

    @precondition(lambda self: not self._sound)
    @rule()
    def anew(self) -> None:
        """The damaged file is removed."""
        self._copies += 1
        self._begin(os.path.join(self._home, str(self._copies), "journal.sqlite"))
        self._forget()

    @invariant()
    def agrees(self) -> None:
        """Both openers show what was written."""
        type(self).steps += 1
        for journal in self._journals:
            with suppress(*(() if self._sound else (JournalError,))):
                self._compare(journal)

    def _compare(self, journal: SqliteJournal) -> None:
        sessions = {session.session_id: session for session in journal.sessions()}
        ids = [make_session(number).session_id for number in range(6)]
        chunks = {(key, index): record for key in ids for index, record in journal.chunks(key).items()}
        if self._sound:
            assert sessions == self._sessions
            assert chunks == self._chunks
            assert not journal.damaged
            assert journal.moved_aside is None
        shown: list[tuple[object, object]] = [*sessions.items(), *chunks.items()]
        assert all((place, repr(item)) in self._ever for place, item in shown)

    def teardown(self) -> None:
        for journal in self._journals:
            journal.close()
        shutil.rmtree(self._home, ignore_errors=True)


def walked(directory: str, steps: int) -> tuple[int, list[str]]:
    """At least so many steps from seeds that are the same in every run, or up to the first contradiction: how many, and it."""

    class Machine(JournalMachine):
        """With a count of its own."""

    Machine.directory = directory
    number = 0
    while Machine.steps < steps:
        rules = settings(
            max_examples=max(1, (steps - Machine.steps) // WALK),
            stateful_step_count=WALK,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(seed(number)(Machine), settings=rules)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            return Machine.steps, ["".join(traceback.format_exception_only(error)).strip()]
        number += 1
    return Machine.steps, []

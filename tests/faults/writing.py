"""A writer of a journal that says what has returned, and what the journal may hold after each of its words.

A step is one transaction, so that after a crash the journal holds what it held after the last step that returned, or what
the step in flight made of it: nothing else.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from jettyctl.core.session import ChunkRecord, Session
from jettyctl.errors import JournalError
from jettyctl.journal.base import Journal
from jettyctl.journal.sqlite import SqliteJournal
from tests.support.journals import make_chunk, make_session

STEPS = 40
SESSIONS = 5


@dataclass(slots=True)
class Held:
    """What a journal holds."""

    sessions: dict[str, Session] = field(default_factory=dict)
    chunks: dict[str, dict[int, ChunkRecord]] = field(default_factory=dict)

    @classmethod
    def of(cls, journal: Journal) -> Held:
        """By the same calls as jettyctl's own."""
        ids = [make_session(number).session_id for number in range(SESSIONS)]
        chunks = {session_id: dict(found) for session_id in ids if (found := journal.chunks(session_id))}
        return cls({session.session_id: session for session in journal.sessions()}, chunks)

    def after(self, number: int) -> Held:
        """What it is once a step is done."""
        held = Held(dict(self.sessions), {key: dict(chunks) for key, chunks in self.chunks.items()})
        what, session, records = step(number)
        if what == "save":
            held.sessions[session.session_id] = session
        elif what == "chunks":
            held.chunks.setdefault(session.session_id, {}).update({record.index: record for record in records})
        else:
            held.sessions.pop(session.session_id, None)
            held.chunks.pop(session.session_id, None)
        return held


def step(number: int) -> tuple[str, Session, list[ChunkRecord]]:
    """What the writer does: save a session, many or few chunks of it, or, now and then, delete it."""
    draw = random.Random(number)
    session = make_session(number % SESSIONS, upload_id=f"upload {number}", error_message="x" * draw.choice((0, 100, 3_000)))
    if number % 3 == 0:
        return "save", session, []
    if number % 11 == 10:
        return "delete", session, []
    begin, count = draw.randrange(40), draw.choice((1, 2, 4, 60))
    return "chunks", session, [replace(make_chunk(index), etag=f"{number}") for index in range(begin, begin + count)]


def perform(journal: Journal, number: int) -> None:
    """One step, for real."""
    what, session, records = step(number)
    if what == "save":
        journal.save(session)
    elif what == "chunks":
        journal.save_chunks(session.session_id, records)
    else:
        journal.delete(session.session_id)


def write(path: str, count: str = str(STEPS)) -> int:
    """All steps; each is said to be `done` when it has returned, or `failed`."""
    journal = SqliteJournal(path)
    for number in range(int(count)):
        try:
            perform(journal, number)
        except JournalError:
            os.write(1, b"failed\n")
        else:
            os.write(1, b"done\n")
    journal.close()
    return 0


def possible(said: Iterable[str]) -> list[Held]:
    """What the journal may hold after these words: what failed may be there or not, and so may the step in flight."""
    states, number = [Held()], 0
    for number, word in enumerate(said, 1):
        done = [state.after(number - 1) for state in states]
        states = done if word == "done" else states + done
    return states + [state.after(number) for state in states]


def fault(path: str, said: Sequence[str]) -> str | None:
    """What is wrong with a journal whose writer said this before it died; None if nothing is."""
    journal = SqliteJournal(path)
    try:
        held = Held.of(journal)
        if held not in possible(said):
            return "it holds what no step has left there"
        if journal.damaged or journal.moved_aside:
            return f"{journal.damaged} rows are damaged, the file is {'moved aside' if journal.moved_aside else 'in place'}"
        perform(journal, 0)
        return None if journal.get(make_session(0).session_id) == step(0)[1] else "a new row is not there"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return f"{type(error).__name__}: {error}"
    finally:
        journal.close()

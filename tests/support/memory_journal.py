"""A journal that forgets everything when the process ends.

It keeps the promises of `jettyctl.journal.base` but durability. Records are kept as JSON text, so that whatever the file
would not give back, this does not give back either. Faults are data: name the saves that fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping

from jettyctl.core.session import ChunkRecord, Session
from jettyctl.errors import JournalError, SessionBusy
from jettyctl.journal.ownership import check_session_id


class MemoryJournal:
    """The promises of `Journal`, in memory, and owned per instance.

    `fail_saves` numbers the calls of `save` and `save_chunks`, together and from 1, that raise JournalError and store
    nothing.
    """

    def __init__(self, fail_saves: Iterable[int] = ()) -> None:
        self._fail_saves = frozenset(fail_saves)
        self._saves = 0
        self._sessions: dict[str, str] = {}
        self._chunks: dict[str, dict[int, str]] = {}
        self._owned: set[str] = set()
        self._closed = False
        self._lock = threading.RLock()

    def save(self, session: Session) -> None:
        with self._saving(session.session_id):
            self._sessions[session.session_id] = json.dumps(session.to_json())

    def save_chunks(self, session_id: str, records: Iterable[ChunkRecord]) -> None:
        texts = {record.index: json.dumps(record.to_json()) for record in records}
        with self._saving(session_id):
            self._chunks.setdefault(session_id, {}).update(texts)

    def get(self, session_id: str) -> Session | None:
        return next((session for session in self.sessions() if session.session_id == session_id), None)

    def match(self, prefix: str) -> list[Session]:
        return [session for session in self.sessions() if session.session_id.startswith(prefix)]

    def sessions(self) -> list[Session]:
        with self._open():
            texts = list(self._sessions.values())
        found = [Session.from_json(json.loads(text)) for text in texts]
        return sorted(found, key=lambda session: (-session.last_updated, session.session_id))

    def find(self, source_path: str, place: str) -> list[Session]:
        return [found for found in self.sessions() if (found.source.path, found.target.place) == (source_path, place)]

    def chunks(self, session_id: str) -> Mapping[int, ChunkRecord]:
        with self._open():
            texts = dict(self._chunks.get(session_id, {}))
        return {index: ChunkRecord.from_json(index, json.loads(text)) for index, text in sorted(texts.items())}

    def delete(self, session_id: str) -> None:
        with self._open():
            self._sessions.pop(session_id, None)
            self._chunks.pop(session_id, None)

    @contextlib.contextmanager
    def own(self, session_id: str) -> Iterator[None]:
        with self._open():
            if check_session_id(session_id) in self._owned:
                holder = f"pid {os.getpid()} on {os.uname().nodename}"
                raise SessionBusy(f"session {session_id} is held by {holder}", hint="Wait for it to end.")
            self._owned.add(session_id)
        try:
            yield
        finally:
            with self._lock:
                self._owned.discard(session_id)

    @property
    def damaged(self) -> int:
        return 0

    def close(self) -> None:
        self._closed = True

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise JournalError("the journal is closed")
            yield

    @contextlib.contextmanager
    def _saving(self, session_id: str) -> Iterator[None]:
        check_session_id(session_id)
        with self._open():
            self._saves += 1
            if self._saves in self._fail_saves:
                raise JournalError(f"scripted fault: save {self._saves} fails", hint="Run the same command again.")
            yield

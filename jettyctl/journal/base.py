"""The promises of a journal.

A journal is a hint that saves work, never the truth: what it says is compared with the store before it is used. It may
lose the newest rows in a power cut, it may not invent or alter one. Calls block and may come from any thread.
Every failure is a JournalError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from jettyctl.core.session import ChunkRecord, Session


class Journal(Protocol):
    """Sessions by id, and the chunk records of each by index."""

    def save(self, session: Session) -> None:
        """Insert or replace one session; durable when it returns."""

    def save_chunks(self, session_id: str, records: Iterable[ChunkRecord]) -> None:
        """Insert or replace chunk records in one transaction; durable when it returns. Idempotent."""

    def get(self, session_id: str) -> Session | None:
        """One session; None if it is unknown or its row is damaged."""

    def match(self, prefix: str) -> list[Session]:
        """The sessions whose id starts with `prefix`."""

    def sessions(self) -> list[Session]:
        """All sessions, newest update first."""

    def find(self, source_path: str, place: str) -> list[Session]:
        """The sessions of this source path and `Target.place`, newest update first."""

    def chunks(self, session_id: str) -> Mapping[int, ChunkRecord]:
        """The chunk records of a session. Damaged rows are left out (and counted in `damaged`)."""

    def delete(self, session_id: str) -> None:
        """Forget a session and its chunks. Idempotent."""

    def own(self, session_id: str) -> AbstractContextManager[None]:
        """Own a session while the context lasts. Raises SessionBusy, naming the owner, if another process does."""

    @property
    def damaged(self) -> int:
        """Rows found damaged, and left out, since the journal was opened."""

    def close(self) -> None:
        """Idempotent."""

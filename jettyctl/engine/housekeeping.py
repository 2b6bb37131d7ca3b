"""Sessions beside uploads: giving one up, taking one over from another machine, and cleaning up after crashes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from os import path as ospath
from typing import Any, Literal

from jettyctl.core.model import Upload
from jettyctl.core.session import ChunkRecord, Session, SessionStatus, SourceRecord
from jettyctl.errors import JettyError, NoSuchBucket, SessionBusy, UsageError
from jettyctl.files.source import Source
from jettyctl.journal.base import Journal
from jettyctl.storage.base import Store

Kind = Literal["unfinished upload", "orphan", "record"]


@dataclass(frozen=True, slots=True)
class Garbage:
    """One thing that was removed, or would be. `orphan`: an unfinished upload that no session knows."""

    kind: Kind
    session_id: str
    url: str
    error: JettyError | None = None

    def to_json(self) -> dict[str, object]:
        """For the JSON output."""
        return {"kind": self.kind, "session_id": self.session_id, "url": self.url, "error": self.error and self.error.message}


def abort_session(journal: Journal, store: Store, session: Session, now: float) -> None:
    """Remove a session's parts from the store, then note that it is given up. Raises SessionBusy and what stores raise."""
    with journal.own(session.session_id):
        if session.upload_id is not None:
            store.abort(Upload(session.target.key, session.upload_id, session.started_at))
        journal.save(session.with_status(SessionStatus.FAILED, now, error_message="aborted by the user"))


def adopt_session(journal: Journal, data: Any, source: str | None, now: float) -> Session:  # noqa: ANN401 - not trusted
    """Save an exported session as ours, for the same bytes at `source`. Raises UsageError for what is not a session.

    The file's identity here is another one, so nothing of the chunks counts before it was compared with the bytes.
    """
    try:
        session = Session.from_json(data["session"])
        chunks = [ChunkRecord.from_json(int(index), record) for index, record in data["chunks"].items()]
        session_id = str(uuid.UUID(session.session_id))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise UsageError("this is not an exported session", hint="Give a file that `sessions export` wrote.") from None
    if session.target.scheme != "s3" or not session.upload_id or not session.unfinished:
        raise UsageError("only unfinished uploads to S3 can move to another machine", hint="Run the upload here instead.")
    path = ospath.abspath(source or session.source.path)
    with Source.open(path) as opened:
        if opened.size != session.size:
            raise UsageError(f"{path} has {opened.size} bytes, the session's file {session.size}", hint="Name it with --source.")
        record = SourceRecord(path, opened.identity)
    ours = replace(session, session_id=session_id, source=record, imported=True, last_updated=now)
    journal.save(ours)
    journal.save_chunks(session_id, [c for c in chunks if 0 <= c.index < ours.layout.count])
    return ours


def collect_garbage(journal: Journal, store_of: Callable[[Session], Store], before: float, *, dry_run: bool) -> Iterator[Garbage]:
    """Remove what was last used before `before` (seconds since the epoch); each thing is told as it goes.

    A session's record is kept until its upload is gone from the store: it is all that leads there.
    """
    sessions = journal.sessions()
    known = {session.upload_id for session in sessions if session.upload_id}
    old = [session for session in sessions if session.last_updated < before]
    for session in old:
        yield from _orphans(session, store_of, known, before, dry_run=dry_run)
        if session.unfinished and session.upload_id:
            yield from _removed("unfinished upload", session, dry_run, partial(_abort_old, journal, store_of, session, before))
    for session in journal.sessions():
        if session.last_updated < before and not (session.unfinished and session.upload_id):
            yield from _removed("record", session, dry_run, partial(journal.delete, session.session_id))


def _orphans(
    session: Session, store_of: Callable[[Session], Store], known: set[str], before: float, *, dry_run: bool
) -> Iterator[Garbage]:
    """Unfinished uploads of a key whose session was killed before it learnt the upload's id."""
    if session.upload_id is not None:
        return
    try:
        uploads = store_of(session).list_uploads(session.target.key)
    except NoSuchBucket:
        return
    except JettyError as error:
        yield Garbage("orphan", session.session_id, session.target.url, error)
        return
    for upload in uploads:
        if upload.upload_id not in known and upload.initiated < before:
            yield from _removed("orphan", session, dry_run, partial(store_of(session).abort, upload))


def _abort_old(journal: Journal, store_of: Callable[[Session], Store], session: Session, before: float) -> None:
    """Abort. Raises SessionBusy if the session was used since it was listed, too."""
    now = journal.get(session.session_id)
    if now is None or now.last_updated >= before:
        raise SessionBusy(f"session {session.session_id} was used meanwhile")
    abort_session(journal, store_of(session), session, session.last_updated)


def _removed(kind: Kind, session: Session, dry_run: bool, act: Callable[[], None]) -> Iterator[Garbage]:
    """Nothing is told of what somebody works on after all: it is left alone."""
    error: JettyError | None = None
    if not dry_run:
        try:
            act()
        except SessionBusy:
            return
        except JettyError as failure:
            error = failure
    yield Garbage(kind, session.session_id, session.target.url, error)

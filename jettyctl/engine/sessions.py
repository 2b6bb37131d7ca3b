"""Opening a session: the one to go on with, or a new one. All of this blocks, and runs while the session is owned.

Write order: the intent is in the journal before CreateMultipartUpload, the upload id after it. A crash in between
leaves an unfinished upload without a record; `sessions gc` finds it by its key.
"""

from __future__ import annotations

import os
import uuid
from contextlib import ExitStack
from dataclasses import fields, replace
from typing import NamedTuple

from jettyctl.core.model import Digests, Identity, ObjectInfo, ObjectOptions, Upload
from jettyctl.core.plan import Plan, reconcile
from jettyctl.core.session import Session, SessionStatus, SourceRecord
from jettyctl.core.tiers import Strategy
from jettyctl.engine.complete import find_finished
from jettyctl.engine.shared import Job, Shared
from jettyctl.engine.whole import stamped
from jettyctl.errors import JettyError, UploadGone, WrongObject
from jettyctl.files.crc import combine
from jettyctl.files.source import STDIN_PATH, Source

LOOKS = (0.2, 0.5, 1.0, 2.0)  # seconds between looks for an object that should be there


class Opened(NamedTuple):
    """A session that is ready to send: its upload at the store, and what is left to do.

    `finished` is the object if the session turned out to be complete already. `said` is why an older session was left.
    """

    session: Session
    upload: Upload
    plan: Plan
    finished: ObjectInfo | None = None
    said: str = ""

    @property
    def reused(self) -> int:
        return sum(r.size for r in (*self.plan.done.values(), *self.plan.adopt.values()))


def candidates(shared: Shared, job: Job) -> list[Session]:
    """The unfinished sessions of this source and target, newest first."""
    found = shared.journal.find(source_path(job), job.target.place)
    return [session for session in found if session.unfinished]


def open_session(
    shared: Shared, job: Job, source: Source, strategy: Strategy, digests: Digests | None, owned: ExitStack
) -> Opened:
    """Go on with the newest unfinished session, or begin one. Ownership is entered into `owned`.

    Raises SessionBusy if another process works on it.
    """
    said = ""
    for session in candidates(shared, job):
        with ExitStack() as attempt:
            attempt.enter_context(shared.journal.own(session.session_id))
            why = _obstacle(job, source, session)
            try:
                opened = None if why else _go_on(shared, job, session)
            except WrongObject as error:
                opened, why = None, error.message
            if opened:
                owned.push(attempt.pop_all())
                owned.callback(job.leave, opened.upload.upload_id)
                return opened._replace(session=_as_wished_now(shared, job, opened.session))
            if session.upload_id:  # else nothing is lost that was worth a word
                said = said or why or "the unfinished upload is gone from the store"
            _leave(shared, job, session, why or said)
    return begin(shared, job, source.identity, strategy, digests, owned, said)


def begin(
    shared: Shared,
    job: Job,
    identity: Identity,
    strategy: Strategy,
    digests: Digests | None,
    owned: ExitStack,
    said: str = "",
) -> Opened:
    """A new session: intent, CreateMultipartUpload, upload id; in this order."""
    now = shared.now()
    session = Session(
        session_id=str(uuid.uuid4()),
        source=SourceRecord(source_path(job), identity),
        target=job.target,
        chunk_size=strategy.chunk_size,
        threads=strategy.threads,
        started_at=now,
        last_updated=now,
        file_hash=f"sha256:{digests.sha256}" if digests else "",
        options={**options_json(job.options), "connection": dict(job.connection), **_wished(job)},
    )
    owned.enter_context(shared.journal.own(session.session_id))
    shared.journal.save(session)
    options = stamped(job.options, session.session_id, digests.sha256 if digests else None)
    try:
        upload_id = job.store.create(job.target.key, options, session.size, strategy.chunk_size)
    except JettyError as error:
        if not error.retryable:  # the store refused: there is nothing of it there
            shared.journal.save(session.with_status(SessionStatus.FAILED, shared.now(), error_message=error.message))
        raise
    owned.callback(job.leave, upload_id)
    session = session.with_status(SessionStatus.IN_PROGRESS, shared.now(), upload_id=upload_id)
    shared.journal.save(session)
    upload = Upload(job.target.key, upload_id, now)
    return Opened(session, upload, reconcile(session.layout, {}, ()), said=said)


def options_json(options: ObjectOptions) -> dict[str, object]:
    """The options as a session keeps them."""
    return {item.name: getattr(options, item.name) for item in fields(options)} | {"metadata": dict(options.metadata)}


def _wished(job: Job) -> dict[str, object]:
    """What a session keeps of the wish for an object that exists. The default is left out: a version that does not know of
    this refuses to resume what it would replace, and resumes everything else.
    """
    return {} if job.wishes.if_exists == "overwrite" else {"if_exists": job.wishes.if_exists}


def _as_wished_now(shared: Shared, job: Job, session: Session) -> Session:
    """The session with the newest wish for an object that exists: `resume` goes by it."""
    options = {name: value for name, value in session.options.items() if name != "if_exists"} | _wished(job)
    if options != session.options:
        session = replace(session, options=options, last_updated=shared.now())
        shared.journal.save(session)
    return session


def source_path(job: Job) -> str:
    """The path that the journal knows a source by."""
    return STDIN_PATH if job.path == STDIN_PATH else os.path.abspath(job.path)


def _obstacle(job: Job, source: Source, session: Session) -> str:
    if job.wishes.restart:
        return "--restart was given"
    if session.source.identity != source.identity:
        return "the file has changed since"
    if session.upload_id is None:
        return "it was interrupted before the store knew of it"
    return ""


def _go_on(shared: Shared, job: Job, session: Session) -> Opened | None:
    """The session as the store sees it; None if the store does not know it any more. Raises WrongObject."""
    assert session.upload_id is not None
    upload = Upload(job.target.key, session.upload_id, session.started_at)
    nothing = reconcile(session.layout, {}, ())
    if session.status is SessionStatus.COMPLETING and (info := _finished(shared, job, session)):
        return Opened(session, upload, nothing, finished=info)
    try:
        stored = job.store.list_parts(upload)
    except UploadGone:
        info = _look_patiently(shared, job, session)
        return Opened(session, upload, nothing, finished=info) if info else None
    return Opened(session, upload, reconcile(session.layout, shared.journal.chunks(session.session_id), stored))


def _look_patiently(shared: Shared, job: Job, session: Session) -> ObjectInfo | None:
    """The finished object. A store that was asked to complete may show neither upload nor object for a moment."""
    for seconds in LOOKS if session.status is SessionStatus.COMPLETING else ():
        info = _finished(shared, job, session)
        if info or shared.stop.wait(seconds):
            return info
    return _finished(shared, job, session)


def _finished(shared: Shared, job: Job, session: Session) -> ObjectInfo | None:
    """The object that an earlier run completed, as far as its receipts prove it. Raises WrongObject."""
    chunks, whole = shared.journal.chunks(session.session_id), 0
    for chunk in session.layout:
        record = chunks.get(chunk.index)
        if record is None or record.crc64 is None:
            return find_finished(job, session, None)
        whole = combine(whole, record.crc64, chunk.length)
    return find_finished(job, session, whole)


def _leave(shared: Shared, job: Job, session: Session, why: str) -> None:
    """Give a session up: its parts are of no use any more. That the store forgets them is tried, not required."""
    if session.upload_id is not None:
        try:
            job.store.abort(Upload(job.target.key, session.upload_id, session.started_at))
        except JettyError:
            return  # it stays unfinished in the journal, so that `sessions gc` finds it
    shared.journal.save(session.with_status(SessionStatus.FAILED, shared.now(), error_message=f"left: {why}"))

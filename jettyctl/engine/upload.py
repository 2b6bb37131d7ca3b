"""One file's journey: open, decide, send in one request or in parts, tell."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from jettyctl.core.events import FileDone, Planned
from jettyctl.core.model import Layout, ObjectInfo
from jettyctl.core.names import check_key
from jettyctl.core.session import Session
from jettyctl.core.tiers import Strategy, is_near, strategy
from jettyctl.engine.feed import Feed, lead
from jettyctl.engine.look import Verdict, look
from jettyctl.engine.sessions import candidates
from jettyctl.engine.shared import Job, Shared
from jettyctl.engine.whole import send_whole
from jettyctl.files.hashing import Leader
from jettyctl.files.source import Source

if TYPE_CHECKING:
    from jettyctl.engine.ahead import Ahead


class Prepared(NamedTuple):
    """An open file that is too large for one request, and what was decided about it. `feed` hashes it already, and `ahead`
    is its session.
    """

    source: Source
    strategy: Strategy
    verdict: Verdict
    feed: Feed[Leader] | None = None
    ahead: Ahead | None = None


def prepare(shared: Shared, job: Job) -> FileDone | Planned | Prepared:
    """Open and decide; a file that is one chunk is sent at once. Blocks, on a carrier thread. Raises JettyError.

    Planned comes back for a dry run. The caller closes the source of Prepared.
    """
    began = time.monotonic()
    shared.meter.begin_file()
    source = Source.open(job.path, follow=job.follow)
    keep = False
    try:
        check_key(job.target.key, job.store.limits.max_key_bytes)
        cut = _cut(job, source)
        multipart = source.size > cut.chunk_size
        shared.meter.add_total(source.size)
        waiting = _waiting(shared, job, source) if multipart else []
        begins = not (waiting or job.wishes.dry_run)
        ahead = _ahead(shared, job, source, cut) if multipart and begins else None
        verdict = _looked(shared, job, source, multipart, waiting, ahead)
        if job.dedup and verdict.action == "upload" and begins:
            from jettyctl.engine.dedup import clone_known  # most stores have nobody to ask

            cloned = clone_known(shared, job, source)
            if cloned:
                shared.meter.add_reused(source.size)
                return _cloned(job, source, cloned, time.monotonic() - began)
        if multipart and not ahead:
            edges = job.edges is not None and job.edges.expects(source.size)
            cut = _cut(job, source, near=not edges and is_near(job.store.round_trip()))
        planned = _planned(job, source, cut, verdict, waiting)
        if job.wishes.dry_run:
            return planned
        shared.told.append(planned)
        if verdict.action != "upload":
            shared.meter.add_reused(source.size)
            return _untouched(job, source, verdict, time.monotonic() - began)
        keep = multipart
        if not multipart:
            return _sent_whole(shared, job, source, verdict, began)
        known = verdict.digests or waiting or job.edges  # then it need not be hashed, or is not sent in this order
        if ahead:
            return Prepared(source, cut, verdict, ahead.feed, ahead)
        hashes_now = not known and shared.idle.acquire(blocking=False)
        return Prepared(source, cut, verdict, lead(shared, source, Layout(source.size, cut.chunk_size)) if hashes_now else None)
    finally:
        if not keep:
            source.close()


async def finish(shared: Shared, job: Job, prepared: Prepared) -> FileDone:
    """Send what `prepare` left open, in parts, and close it. Raises JettyError."""
    from jettyctl.engine.multipart import send_parts  # a run that sends no parts starts sooner without it

    began = time.monotonic()
    try:
        arrived = await send_parts(shared, job, prepared)
    finally:
        if prepared.feed:
            await prepared.feed.close()
        prepared.source.close()
    return FileDone(
        source=job.path,
        url=job.target.url,
        status=arrived.status,
        size=prepared.source.size,
        bytes_sent=arrived.bytes_sent,
        bytes_reused=arrived.bytes_reused,
        sha256=arrived.sha256,
        etag=arrived.info.etag,
        session_id=arrived.session_id,
        chunks=arrived.chunks,
        chunks_reused=arrived.chunks_reused,
        seconds=time.monotonic() - began,
        edges=arrived.edges,
    )


def _ahead(shared: Shared, job: Job, source: Source, cut: Strategy) -> Ahead | None:
    """Expect an upload where nothing is known of the target, and begin it if it need not wait for the look at it."""
    if shared.cache.stored(job.target.place) is not None:
        return None
    from jettyctl.engine.ahead import begin_ahead  # most runs start sooner without it

    ahead = begin_ahead(shared, job, source, cut)
    if ahead and shared.cache.hashes(os.path.abspath(job.path), source.identity) is None:
        ahead.feed = lead(shared, source, Layout(source.size, cut.chunk_size), ahead.wait)
    return ahead


def _looked(
    shared: Shared, job: Job, source: Source, multipart: bool, waiting: list[Session], ahead: Ahead | None
) -> Verdict:
    """`look`, and the end of what was begun ahead if it was in vain."""
    try:
        verdict = look(shared, job, source, multipart=multipart, waiting={session.session_id for session in waiting})
    except BaseException:
        if ahead:
            ahead.leave()
        raise
    if ahead and verdict.action != "upload":
        ahead.withdraw()
    elif ahead and verdict.digests:
        ahead.abandon_feed()
    return verdict


def _cut(job: Job, source: Source, *, near: bool = False) -> Strategy:
    return strategy(source.size, job.store.limits, job.wishes.chunk_size, job.wishes.threads, near=near)


def _sent_whole(shared: Shared, job: Job, source: Source, verdict: Verdict, began: float) -> FileDone:
    info, digests, session_id = send_whole(shared, job, source, verdict)
    return FileDone(
        source=job.path,
        url=job.target.url,
        status="uploaded",
        size=source.size,
        bytes_sent=source.size,
        bytes_reused=0,
        sha256=digests.sha256,
        etag=info.etag,
        session_id=session_id,
        chunks=1,
        chunks_reused=0,
        seconds=time.monotonic() - began,
    )


def _untouched(job: Job, source: Source, verdict: Verdict, seconds: float) -> FileDone:
    assert verdict.action != "upload"
    return FileDone(
        source=job.path,
        url=job.target.url,
        status="skipped" if verdict.action == "skip" else "unchanged",
        size=source.size,
        bytes_sent=0,
        bytes_reused=source.size if verdict.action == "unchanged" else 0,
        sha256=verdict.digests.sha256 if verdict.digests else None,
        etag=verdict.info.etag if verdict.info else "",
        session_id=None,
        chunks=0,
        chunks_reused=0,
        seconds=seconds,
    )


def _cloned(job: Job, source: Source, info: ObjectInfo, seconds: float) -> FileDone:
    return FileDone(
        source=job.path,
        url=job.target.url,
        status="cloned",
        size=source.size,
        bytes_sent=0,
        bytes_reused=source.size,
        sha256=info.sha256,
        etag=info.etag,
        session_id=None,
        chunks=0,
        chunks_reused=0,
        seconds=seconds,
    )


def _waiting(shared: Shared, job: Job, source: Source) -> list[Session]:
    """The unfinished sessions that can go on: the source is the same. None counts if the user wants to start over."""
    if job.wishes.restart:
        return []
    return [session for session in candidates(shared, job) if session.source.identity == source.identity]


def _planned(job: Job, source: Source, cut: Strategy, verdict: Verdict, waiting: list[Session]) -> Planned:
    chunks = Layout(source.size, cut.chunk_size).count
    resumes = bool(waiting) and verdict.action == "upload"
    action = "resume" if resumes else verdict.action
    return Planned(
        source=job.path,
        url=job.target.url,
        size=source.size,
        chunk_size=waiting[0].chunk_size if resumes else cut.chunk_size,
        chunks=waiting[0].layout.count if resumes else chunks,
        threads=cut.threads,
        multipart=chunks > 1,
        checksum=job.store.checksum,
        action=action,
        bytes_reused=waiting[0].bytes_uploaded if resumes else 0,
    )

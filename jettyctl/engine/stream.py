"""Standard input: sent in parts while it is read. It cannot be read again, so a failure leaves nothing behind."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace

from jettyctl.core.events import FileDone, SessionStarted
from jettyctl.core.model import MIB, Chunk, Identity, Layout, ObjectInfo
from jettyctl.core.names import check_key, printable
from jettyctl.core.plan import check_cover
from jettyctl.core.session import SessionStatus
from jettyctl.core.tiers import strategy
from jettyctl.engine.complete import complete_and_verify
from jettyctl.engine.feed import Feed, Ready
from jettyctl.engine.recorder import Recorder
from jettyctl.engine.sessions import Opened, begin
from jettyctl.engine.shared import Job, Shared
from jettyctl.engine.transfer import Transfer
from jettyctl.engine.whole import stamped
from jettyctl.errors import AlreadyExists, Interrupted, JettyError, UsageError
from jettyctl.files.body import FileBody
from jettyctl.files.hashing import OnChunk
from jettyctl.files.source import STDIN_PATH
from jettyctl.files.spool import Spool

_NOT_KNOWN = Identity(0, 0, 0, 0, 0)
A_MOMENT = 0.01  # seconds that a Ctrl-C has to arrive which ended the stream: it reaches whoever writes it, too
STREAM_CHUNK = 32 * MIB  # the length is not known: 10,000 parts of this hold 312 GiB


async def send_stream(shared: Shared, job: Job, *, fd: int = 0) -> FileDone:
    """Send what comes from `fd` to its end. Raises JettyError; the upload is aborted then."""
    shared.meter.begin_file()
    if job.wishes.dry_run:
        raise UsageError("standard input has no plan: its length is not known", hint="Leave --dry-run out.")
    check_key(job.target.key, job.store.limits.max_key_bytes)
    if job.wishes.if_exists != "overwrite":
        there = await shared.help(job.store.head, job.target.key)
        if there and job.wishes.if_exists == "fail":
            raise AlreadyExists(f"{printable(job.target.url)} exists already", hint="Leave --if-exists out to replace it.")
        if there:
            return _skipped(job, there)
    return await _StreamUpload(shared, job, fd).run()


class _StreamUpload:
    """One stream from its first byte to its record. Belongs to the event loop."""

    def __init__(self, shared: Shared, job: Job, fd: int) -> None:
        self._shared = shared
        self._job = job
        self._began = time.monotonic()
        asked = job.wishes.chunk_size
        limits = job.store.limits
        size = asked if isinstance(asked, int) else STREAM_CHUNK
        self._cut = strategy(0, limits, size, job.wishes.threads)

        def make_spool(on_chunk: OnChunk) -> Spool:
            return Spool(fd, self._cut.chunk_size, limits.max_parts, on_chunk, shared.spool_dir, shared.stop.requested)

        self._feed = Feed(shared, make_spool)
        self._spool = self._feed.leader

    async def run(self) -> FileDone:
        try:
            chunks = self._feed.chunks()
            first = await anext(chunks)
            if first.chunk.length < self._cut.chunk_size:
                return await self._whole(first.chunk)
            with ExitStack() as owned:
                opened = await self._shared.help(begin, self._shared, self._job, _NOT_KNOWN, self._cut, None, owned)
                return await self._parts(opened, self._counted(first, chunks))
        finally:
            await self._feed.close()
            self._spool.close()

    async def _whole(self, first: Chunk) -> FileDone:
        digests = await self._feed.digests()
        await asyncio.sleep(A_MOMENT)
        if self._shared.stop.requested():
            raise Interrupted("stopped on request")
        given = {"sha256": bytes.fromhex(digests.sha256)}
        sent, stopped = self._shared.meter.add_sent, self._shared.stop.forced
        body = FileBody(self._spool, 0, first.length, digests.crc64, on_bytes=sent, stopped=stopped, digests=given)
        session_id = str(uuid.uuid4())
        options = stamped(self._job.options, session_id, digests.sha256)
        absent = self._job.wishes.if_exists == "fail"
        self._shared.meter.add_total(first.length)
        async with self._shared.slots.one():
            info = await self._shared.carry(self._job.store.put, self._job.target.key, body, options, if_absent=absent)
        self._shared.meter.add_done(first.length)
        return self._done(info, digests.sha256, session_id, first.length, 1)

    async def _parts(self, opened: Opened, chunks: AsyncIterator[Ready]) -> FileDone:
        shared, session = self._shared, opened.session
        shared.emit(SessionStarted(self._job.path, self._job.target.url, session.session_id, 0, 0))
        recorder = Recorder(shared, session.session_id)
        spool, session_id = self._spool, session.session_id
        transfer = Transfer(shared, self._job, spool, session_id, opened.upload, recorder, spool.allow, spool.stop)
        try:
            await transfer.run(chunks)
            digests = await self._feed.digests()
            size = sum(receipt.size for receipt in transfer.receipts.values())
            receipts = check_cover(Layout(size, self._cut.chunk_size), transfer.receipts.values())
            await recorder.flush()
            source = session.source._replace(identity=_NOT_KNOWN._replace(size=size))
            session = replace(session, source=source, file_hash=f"sha256:{digests.sha256}", chunks_completed=len(receipts))
            session = session.with_status(SessionStatus.COMPLETING, shared.now(), bytes_uploaded=size)
            await shared.help(shared.journal.save, session)
            info = await shared.help(complete_and_verify, self._job, session, opened.upload, receipts, digests)
        except JettyError:
            await self._give_up(opened)
            raise
        await shared.help(
            shared.journal.save, session.with_status(SessionStatus.COMPLETED, shared.now(), completed_at=shared.now())
        )
        return self._done(info, digests.sha256, session.session_id, size, len(receipts))

    async def _counted(self, first: Ready, rest: AsyncIterator[Ready]) -> AsyncIterator[Ready]:
        """All chunks. How long the stream is shows as it is read."""
        self._shared.meter.add_total(first.chunk.length)
        yield first
        async for ready in rest:
            self._shared.meter.add_total(ready.chunk.length)
            yield ready

    async def _give_up(self, opened: Opened) -> None:
        """The bytes are gone, so the parts are of no use. What cannot be aborted now is left for `sessions gc`."""
        failed = opened.session.with_status(SessionStatus.FAILED, self._shared.now(), error_message="standard input ended early")
        try:
            await self._shared.help(self._job.store.abort, opened.upload)
            await self._shared.help(self._shared.journal.save, failed)
        except JettyError:
            return

    def _done(self, info: ObjectInfo, sha256: str, session_id: str, size: int, chunks: int) -> FileDone:
        return FileDone(
            source=STDIN_PATH,
            url=self._job.target.url,
            status="uploaded",
            size=size,
            bytes_sent=size,
            bytes_reused=0,
            sha256=sha256,
            etag=info.etag,
            session_id=session_id,
            chunks=chunks,
            chunks_reused=0,
            seconds=time.monotonic() - self._began,
        )


def _skipped(job: Job, there: ObjectInfo) -> FileDone:
    """Nothing was read: the object is there."""
    return FileDone(STDIN_PATH, job.target.url, "skipped", there.size, 0, 0, None, there.etag, None, 0, 0, 0.0)

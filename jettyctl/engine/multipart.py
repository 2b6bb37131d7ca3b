"""A file in many parts: open a session, send what is left, complete, verify, record.

The state "completing" is in the journal before Complete is asked for: a run that is killed in between finds either the
upload or the finished object.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from jettyctl.core.events import Note, SessionStarted, Status
from jettyctl.core.model import Chunk, Digests, Layout, ObjectInfo, Receipt, Stored
from jettyctl.core.plan import check_cover
from jettyctl.core.session import SessionStatus
from jettyctl.engine.complete import complete_and_verify
from jettyctl.engine.feed import Feed, Ready, lead
from jettyctl.engine.recorder import Recorder
from jettyctl.engine.sessions import Opened, open_session
from jettyctl.engine.shared import Job, Shared
from jettyctl.engine.transfer import Transfer, crc_of_range
from jettyctl.errors import Interrupted, JettyError, SourceChanged, UploadGone, WrongObject
from jettyctl.files.body import FileBody
from jettyctl.files.crc import combine
from jettyctl.files.hashing import Leader, hash_file
from jettyctl.files.source import Source

if TYPE_CHECKING:
    from jettyctl.engine.upload import Prepared

JUST_BEGUN = 0.02  # seconds after which the first request of an upload is on its way, and connections for its parts can be opened

_MD5 = re.compile(r"[0-9a-f]{32}")


class Arrived(NamedTuple):
    """What came of a multipart upload."""

    status: Status
    info: ObjectInfo
    sha256: str
    session_id: str
    bytes_sent: int
    bytes_reused: int
    chunks: int
    chunks_reused: int
    edges: Mapping[str, int]


async def send_parts(shared: Shared, job: Job, prepared: Prepared) -> Arrived:
    """The whole way of one file.

    A store that loses the upload on the way (aborted by others, expired, broken) gets it once more from the start.
    Raises JettyError. The caller closes what was prepared.
    """
    try:
        return await _send_once(shared, job, prepared)
    except UploadGone as error:
        shared.emit(Note("warning", f"starting over with {job.path}: {error.message}"))
        shared.routes.drop_edges(job.store)  # one of them may be why
        return await _send_once(shared, job, prepared._replace(feed=None, ahead=None))


async def _send_once(shared: Shared, job: Job, prepared: Prepared) -> Arrived:
    source, known, ahead = prepared.source, prepared.verdict.digests, prepared.ahead
    with ahead.owned if ahead else ExitStack() as owned:
        opened = await _opened(shared, job, prepared, owned)
        if opened.said:
            shared.emit(Note("warning", f"starting over with {job.path}: {opened.said}"))
        if job.edges and not opened.finished and await shared.help(job.edges.expects, source.size):
            shared.routes.open_edges(job.store, job.edges, source.size)
        shared.emit(SessionStarted(job.path, job.target.url, opened.session.session_id, source.size, opened.reused))
        return await _MultipartUpload(shared, job, source, opened, known, prepared.strategy.threads).run(prepared.feed)


async def _opened(shared: Shared, job: Job, prepared: Prepared, owned: ExitStack) -> Opened:
    """The session, and connections for its parts, opened meanwhile."""
    source, strategy, known, ahead = prepared.source, prepared.strategy, prepared.verdict.digests, prepared.ahead
    session = ahead.opened() if ahead else shared.help(open_session, shared, job, source, strategy, known, owned)
    opening = asyncio.ensure_future(session)
    await asyncio.wait([opening], timeout=JUST_BEGUN)
    if not opening.done():
        requests = min(shared.slots.pacer.limit, Layout(source.size, strategy.chunk_size).count)
        await shared.help(job.store.expect, job.target.key, requests)
    return await opening


class _MultipartUpload:
    """One session from its plan to its record. Belongs to the event loop."""

    def __init__(self, shared: Shared, job: Job, source: Source, opened: Opened, known: Digests | None, most: int) -> None:
        self._shared = shared
        self._job = job
        self._source = source
        self._session = opened.session
        self._layout = opened.session.layout
        self._opened = opened
        self._known = known
        self._recorder = Recorder(shared, opened.session.session_id)
        self._feed: Feed[Leader] | None = None
        self._reused: list[Receipt] = []
        session_id = opened.session.session_id
        self._transfer = Transfer(
            shared, job, source, session_id, opened.upload, self._recorder, self._allow, self._stop_feed, most=most
        )

    async def run(self, early: Feed[Leader] | None) -> Arrived:
        if self._opened.finished:
            return await self._found_finished(self._opened.finished)
        if self._known is None:
            self._feed = await self._fed(early)
        try:
            await self._send()
            digests = await self._digests()
            receipts = check_cover(self._layout, self._transfer.receipts.values())
            await self._check_source(digests)
            await self._recorder.flush()
            info = await self._complete(receipts, digests)
        except (UploadGone, SourceChanged) as error:
            await self._forget(error.message)
            raise
        except WrongObject as error:  # it was made of the upload, which is no more
            await self._save(SessionStatus.FAILED, error_message=error.message)
            raise
        except JettyError as error:
            await self._pause(error)
            raise
        finally:
            if self._feed:
                await self._feed.close()
                self._shared.meter.add_led(self._feed.leader.reading, self._feed.leader.hashing)
        return await self._record(info, digests)

    async def _fed(self, early: Feed[Leader] | None) -> Feed[Leader]:
        """The feed that runs already, if it fits the session."""
        if early and early.leader.layout == self._layout:
            return early
        if early:
            await early.close()
        return lead(self._shared, self._source, self._layout)

    async def _send(self) -> None:
        plan = self._opened.plan
        claimed = {**plan.done, **plan.adopt} if self._session.imported else plan.adopt
        for index in plan.done.keys() - claimed.keys():
            self._reuse(self._layout.chunk(index), plan.done[index])
        adopted = await asyncio.gather(*(self._adopt(*one) for one in claimed.items()), return_exceptions=True)
        for error in filter(None, adopted):  # raised when all are back: they read the source
            raise error
        left = [chunk for chunk in self._layout if chunk.index not in self._transfer.receipts]
        fresh = self._feed is not None and not self._transfer.receipts
        total = sum(chunk.length for chunk in left)
        await self._transfer.run(self._feed.chunks() if self._feed and fresh else _each(left), total)
        await self._settle()

    async def _settle(self) -> None:
        """An edge's word is not enough: the store's list must have each part, as it was sent, else others send it again.

        That goes for all parts once edges had any: one could have overwritten a part that another route carried.
        """
        transfer = self._transfer
        while transfer.tried_by and (claimed := [transfer.receipts[index] for index in transfer.carried_by]):
            stored = {part.number: part for part in await self._shared.help(self._job.store.list_parts, self._opened.upload)}
            missing = [receipt for receipt in claimed if not _is_there(receipt, stored.get(receipt.number))]
            if not missing:
                return
            for receipt in missing:
                for edge in transfer.tried_by.get(receipt.number - 1, ()):
                    transfer.drop(edge, f"part {receipt.number} is not at the store as it was sent")
                transfer.forget(self._layout.chunk(receipt.number - 1))
            await transfer.run(_again(self._layout, missing))

    def _reuse(self, chunk: Chunk, receipt: Receipt) -> None:
        self._reused.append(receipt)
        self._transfer.acknowledge(chunk, receipt, reused=True)

    async def _adopt(self, index: int, part: Receipt) -> None:
        """A part that this machine has no record of counts if nothing that is said of it contradicts the source."""
        chunk = self._layout.chunk(index)
        receipt = await self._shared.help(self._compare, chunk, part)
        if receipt:
            self._recorder.completed(receipt)
            self._reuse(chunk, receipt)

    def _compare(self, chunk: Chunk, part: Receipt) -> Receipt | None:
        """The receipt of a part that fits. An ETag that may be an MD5 must be the right one: the part may have been sent before
        it was known what the store checks. A part of another machine's session must prove it: an MD5 that fits, or a CRC
        where the store checked it. What that machine recorded is a claim, which can only speak against it.
        """
        crc = crc_of_range(self._source, chunk, self._shared.stop.requested)
        if part.crc64 not in (None, crc):
            return None
        checksum, imported = self._job.store.checksum, self._session.imported
        proven = checksum == "crc64nvme" and part.crc64 is not None
        told = checksum not in ("crc64nvme", "none") and _MD5.fullmatch(part.etag)
        if (imported and not proven) or told:
            md5 = FileBody(self._source, chunk.offset, chunk.length, crc).digest("md5")
            if part.etag != md5.hex():
                return None
        return Receipt(part.number, part.size, part.etag, crc)

    async def _digests(self) -> Digests:
        """The whole file's checksums; what was sent, now or by an earlier run, must be what was hashed."""
        whole = 0
        ordered = check_cover(self._layout, self._transfer.receipts.values())
        for receipt in ordered:
            assert receipt.crc64 is not None
            whole = combine(whole, receipt.crc64, receipt.size)
        digests = self._known or await self._hashed()
        if whole != digests.crc64:
            raise self._source.changed("changed")
        return digests

    async def _hashed(self) -> Digests:
        assert self._feed is not None
        return await self._feed.digests()

    async def _check_source(self, digests: Digests) -> None:
        """A source that was touched is read once more: its bytes decide, not its time stamps."""
        now = await self._shared.help(self._source.current_identity)
        if now == self._source.identity:
            return
        if now.size != self._source.size:
            raise self._source.changed("changed its size")
        again = await self._shared.help(hash_file, self._source, stopped=self._shared.stop.requested)
        if again.sha256 != digests.sha256 or await self._shared.help(self._source.current_identity) != now:
            raise self._source.changed("changed")
        self._shared.emit(Note("warning", f"{self._job.path} was touched or renamed while it was sent; its bytes are the same"))

    async def _complete(self, receipts: tuple[Receipt, ...], digests: Digests) -> ObjectInfo:
        if self._shared.stop.requested():
            raise Interrupted("stopped on request")
        await self._save(SessionStatus.COMPLETING, file_hash=f"sha256:{digests.sha256}")
        return await self._shared.help(complete_and_verify, self._job, self._session, self._opened.upload, receipts, digests)

    async def _record(self, info: ObjectInfo, digests: Digests) -> Arrived:
        session_id = self._session.session_id
        await self._save(SessionStatus.COMPLETED, completed_at=self._shared.now())
        if self._source.current_identity() == self._source.identity and self._feed:
            self._shared.cache.remember(os.path.abspath(self._job.path), self._source.identity, digests, self._feed.began)
        stored = Stored(self._source.size, info.etag, digests.sha256, session_id)
        self._shared.cache.remember_stored(self._job.target.place, stored)
        return Arrived(
            status="resumed" if self._reused else "uploaded",
            info=info,
            sha256=digests.sha256,
            session_id=session_id,
            bytes_sent=self._transfer.bytes_sent,
            bytes_reused=sum(receipt.size for receipt in self._reused),
            chunks=self._layout.count,
            chunks_reused=len(self._reused),
            edges=dict(Counter(self._transfer.carried_by.values())),
        )

    async def _found_finished(self, info: ObjectInfo) -> Arrived:
        """An earlier run completed the object, and was killed before it could say so."""
        self._shared.meter.add_reused(self._source.size)
        await self._save(SessionStatus.COMPLETED, completed_at=self._shared.now())
        sha256 = self._session.file_hash.removeprefix("sha256:")
        self._shared.cache.remember_stored(self._job.target.place, Stored(info.size, info.etag, sha256, self._session.session_id))
        count = self._layout.count
        return Arrived("resumed", info, sha256, self._session.session_id, 0, info.size, count, count, {})

    async def _pause(self, error: JettyError) -> None:
        """Keep what is known for a resume; that this may fail as well must not hide the error."""
        try:
            await self._recorder.flush()
            if self._session.status is SessionStatus.IN_PROGRESS:
                await self._save(SessionStatus.PAUSED, error_message=error.message)
        except JettyError as second:
            self._shared.emit(Note("warning", second.message))

    async def _forget(self, why: str) -> None:
        """Nothing may be resumed from the parts: the store drops them, and the session ends. If the store does not listen, the
        session stays unfinished, so that the next run, or `sessions gc`, removes them.
        """
        self._shared.meter.add_done(-sum(receipt.size for receipt in self._transfer.receipts.values()))
        try:
            await self._shared.help(self._job.store.abort, self._opened.upload)
        except JettyError as error:
            self._shared.emit(Note("warning", f"the unfinished upload could not be aborted: {error.message}"))
            return
        await self._save(SessionStatus.FAILED, error_message=why)

    async def _save(self, status: SessionStatus, **changes: object) -> None:
        receipts = self._transfer.receipts.values()
        by = {lane for lane in self._transfer.carried_by.values() if lane}
        edges = tuple(sorted(by | set(self._session.edges_used)))
        progress: dict[str, object] = {
            "edges_used": edges,
            "chunks_completed": len(receipts),
            "bytes_uploaded": sum(receipt.size for receipt in receipts),
        }
        self._session = self._session.with_status(status, self._shared.now(), **progress, **changes)
        await self._shared.help(self._shared.journal.save, self._session)

    def _allow(self, low_water: int) -> None:
        if self._feed:
            self._feed.leader.allow(low_water)

    def _stop_feed(self) -> None:
        if self._feed:
            self._feed.leader.stop()


def _is_there(receipt: Receipt, part: Receipt | None) -> bool:
    return part is not None and (part.size, part.etag) == (receipt.size, receipt.etag)


async def _again(layout: Layout, receipts: list[Receipt]) -> AsyncIterator[Ready]:
    """Chunks that were hashed, and have to be sent once more."""
    for receipt in receipts:
        yield Ready(layout.chunk(receipt.number - 1), receipt.crc64)


async def _each(chunks: list[Chunk]) -> AsyncIterator[Ready]:
    """Chunks that no leader passes first: their senders compute the CRC."""
    for chunk in chunks:
        yield Ready(chunk, None)

"""The chunks of one session on their way: each in its slot, carried by a thread, its receipt recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from jettyctl.core.events import ChunkDone
from jettyctl.core.model import Chunk, Receipt, Upload
from jettyctl.engine.feed import Ready
from jettyctl.engine.recorder import Recorder
from jettyctl.engine.shared import Job, Shared
from jettyctl.errors import Interrupted, JettyError
from jettyctl.files.body import FileBody, Readable
from jettyctl.files.crc import crc64

_LOOK = 4 << 20  # bytes read at a time where a sender computes a CRC itself


class Transfer:
    """Sends chunks until the feed ends. After a failure nothing new begins, and what runs is waited for.

    `on_low_water(offset)` hears how far from the start everything is acknowledged.
    """

    def __init__(
        self,
        shared: Shared,
        job: Job,
        source: Readable,
        session_id: str,
        upload: Upload,
        recorder: Recorder,
        on_low_water: Callable[[int], None],
    ) -> None:
        self._shared = shared
        self._job = job
        self._source = source
        self._session_id = session_id
        self._upload = upload
        self._recorder = recorder
        self._on_low_water = on_low_water
        self._failure: BaseException | None = None
        self._acknowledged: dict[int, Chunk] = {}
        self._low = 0
        self.receipts: dict[int, Receipt] = {}
        self.bytes_sent = 0

    def acknowledge(self, chunk: Chunk, receipt: Receipt) -> None:
        """A chunk is at the store, now or from before."""
        self.receipts[chunk.index] = receipt
        self._acknowledged[chunk.index] = chunk
        self._shared.meter.add_done(chunk.length)
        while (lowest := self._acknowledged.pop(self._low, None)) is not None:
            self._low += 1
            self._on_low_water(lowest.offset + lowest.length)

    async def run(self, feed: AsyncIterator[Ready]) -> None:
        """Send everything that the feed yields. Raises the first failure; all threads are back when it does."""
        running: set[asyncio.Task[None]] = set()
        try:
            async for chunk, crc in feed:
                await self._shared.slots.acquire()
                if self._must_not_go_on():
                    self._shared.slots.release()
                    break
                task = asyncio.get_running_loop().create_task(self._send(chunk, crc))
                running.add(task)
                task.add_done_callback(running.discard)
        except BaseException as error:  # noqa: BLE001 - raised below, when all threads are back
            self._fail(error)
        if running:
            await asyncio.wait(running)
        if self._failure:
            raise self._failure
        if self._shared.stop.requested():
            raise Interrupted("stopped on request")

    def _must_not_go_on(self) -> bool:
        if not self._failure:
            try:
                self._recorder.check()
            except JettyError as error:
                self._fail(error)
        return self._failure is not None or self._shared.stop.requested()

    async def _send(self, chunk: Chunk, crc: int | None) -> None:
        try:
            receipt = await self._shared.carry(self._carry, chunk, crc)
        except BaseException as error:  # noqa: BLE001 - raised by `run`, when all threads are back
            self._fail(error)
            return
        finally:
            self._shared.slots.release()
        self.bytes_sent += chunk.length
        self._recorder.completed(receipt)
        self.acknowledge(chunk, receipt)
        self._shared.emit(ChunkDone(self._job.path, self._session_id, chunk.index, chunk.length))

    def _carry(self, chunk: Chunk, crc: int | None) -> Receipt:
        known = crc if crc is not None else crc_of_range(self._source, chunk)
        body = FileBody(
            self._source, chunk.offset, chunk.length, known, on_bytes=self._shared.meter.add_sent, stopped=self._halted
        )
        return self._job.store.put_part(self._upload, chunk.number, body)

    def _halted(self) -> bool:
        return self._failure is not None or self._shared.stop.forced()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None or (isinstance(self._failure, Interrupted) and not isinstance(error, Interrupted)):
            self._failure = error


def crc_of_range(source: Readable, chunk: Chunk) -> int:
    """The CRC64 of a chunk, read now."""
    crc, position, end = 0, chunk.offset, chunk.offset + chunk.length
    while position < end:
        data = source.read(position, min(_LOOK, end - position))
        crc, position = crc64(data, crc), position + len(data)
    return crc

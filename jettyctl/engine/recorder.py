"""Chunk receipts on their way into the journal: gathered while one transaction runs, written together in the next.

Senders do not wait for it. What a crash loses is learnt again from the store's list of parts.
"""

from __future__ import annotations

import asyncio
import contextlib

from jettyctl.core.model import Receipt
from jettyctl.core.session import ChunkRecord, ChunkStatus
from jettyctl.engine.shared import Shared
from jettyctl.errors import JournalError


class Recorder:
    """Writes the chunk records of one session. Belongs to the event loop."""

    def __init__(self, shared: Shared, session_id: str) -> None:
        self._shared = shared
        self._session_id = session_id
        self._pending: list[ChunkRecord] = []
        self._writing: asyncio.Task[None] | None = None
        self._error: JournalError | None = None

    def completed(self, receipt: Receipt, edge_id: str = "") -> None:
        """A part has its receipt."""
        self._pending.append(
            ChunkRecord(
                index=receipt.number - 1,
                status=ChunkStatus.COMPLETED,
                timestamp=self._shared.now(),
                edge_id=edge_id,
                bytes_uploaded=receipt.size,
                etag=receipt.etag,
                crc64=receipt.crc64,
            )
        )
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    def check(self) -> None:
        """Raises JournalError if a write failed: nothing more may begin that could not be resumed."""
        if self._error:
            raise self._error

    async def flush(self) -> None:
        """Wait until all records are durable. Raises JournalError."""
        if self._writing:
            await self._writing
        self.check()

    async def _write(self) -> None:
        while self._pending and not self._error:
            batch, self._pending = self._pending, []
            try:
                with contextlib.suppress(JournalError):
                    await self._shared.help(self._shared.journal.save_chunks, self._session_id, batch)
                    continue
                await self._shared.help(self._shared.journal.save_chunks, self._session_id, batch)  # once more
            except JournalError as error:
                self._error = error

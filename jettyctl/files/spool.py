"""A stream as a source: standard input, kept on disk only as long as a chunk of it may have to be sent again.

The leader reads the stream into the slots of a ring in an unnamed temporary file. A slot is used again once all bytes
before and in it are acknowledged, so a stream of any length needs `slots * chunk_size` bytes of disk and next to no
memory.
"""

from __future__ import annotations

import hashlib
import os
import select
import tempfile
import threading
from collections.abc import Callable

from jettyctl.core.model import Chunk, Digests
from jettyctl.errors import Interrupted, SourceError, UsageError
from jettyctl.files.crc import combine, crc64
from jettyctl.files.hashing import OnChunk

SLOTS = 20  # chunks on disk at most
_BLOCK = 1 << 20
_LOOK_UP = 0.2  # seconds after which a reader of a silent stream looks whether it is to stop


class Spool:
    """Leader and readable source in one: `run` fills the ring, `read` serves the chunks that are in it."""

    def __init__(
        self,
        fd: int,
        chunk_size: int,
        max_chunks: int,
        on_chunk: OnChunk,
        directory: str,
        halted: Callable[[], bool] = lambda: False,
    ) -> None:
        """`halted` is asked while the stream is silent: nobody may be there to call `stop`."""
        self._fd = fd
        self._halted = halted
        self._chunk_size = chunk_size
        self._max_chunks = max_chunks
        self._on_chunk = on_chunk
        self._low_water = 0
        self._stopped = False
        self._moved = threading.Condition()
        self._ring = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - lives as long as this object; `close` ends it

    def run(self) -> Digests:
        """Read the stream to its end; `on_chunk(chunk, crc64)` after each full chunk and the last."""
        sha256, whole, offset, index = hashlib.sha256(), 0, 0, 0
        while True:
            if index == self._max_chunks and self._next(1):
                raise UsageError(
                    f"standard input is longer than {self._max_chunks} chunks of {self._chunk_size} bytes",
                    hint="Give a larger --chunk-size.",
                )
            self._wait_for(index)
            length, crc = self._fill(index, sha256.update)
            if length or index == 0:
                whole = combine(whole, crc, length) if length else whole
                self._on_chunk(Chunk(index, offset, length), crc)
            offset, index = offset + length, index + 1
            if length < self._chunk_size:
                return Digests(sha256.hexdigest(), whole)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes of a chunk that is not acknowledged yet."""
        index, within = divmod(offset, self._chunk_size)
        try:
            data = os.pread(self._ring.fileno(), length, (index % SLOTS) * self._chunk_size + within)
        except OSError as error:
            raise SourceError(f"cannot read standard input back from disk: {error.strerror}") from None
        if len(data) != length:
            raise self.changed("became shorter")
        return data

    def changed(self, how: str) -> SourceError:
        """The error for bytes that came back from the ring other than they went in."""
        return SourceError(f"the temporary file of standard input {how}", hint="Check the disk.")

    def allow(self, low_water: int) -> None:
        """All bytes before `low_water` are acknowledged."""
        with self._moved:
            self._low_water = max(self._low_water, low_water)
            self._moved.notify()

    def stop(self) -> None:
        """End `run` soon, with Interrupted."""
        with self._moved:
            self._stopped = True
            self._moved.notify()

    def close(self) -> None:
        self._ring.close()

    def _wait_for(self, index: int) -> None:
        """Until the slot's last chunk is acknowledged."""
        oldest = (index - SLOTS + 1) * self._chunk_size
        with self._moved:
            self._moved.wait_for(lambda: self._stopped or self._low_water >= oldest)

    def _fill(self, index: int, update: Callable[[bytes], None]) -> tuple[int, int]:
        position, length, crc = (index % SLOTS) * self._chunk_size, 0, 0
        while length < self._chunk_size and (data := self._next(min(_BLOCK, self._chunk_size - length))):
            update(data)
            crc = crc64(data, crc)
            self._write(data, position + length)
            length += len(data)
        return length, crc

    def _next(self, most: int) -> bytes:
        """Some bytes, as soon as there are any; none at the end."""
        while not (self._stopped or self._halted()):
            if select.select([self._fd], [], [], _LOOK_UP)[0]:
                try:
                    return os.read(self._fd, most)
                except OSError as error:
                    raise SourceError(f"cannot read standard input: {error.strerror}") from None
        raise Interrupted("stopped on request")

    def _write(self, data: bytes, position: int) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._ring.fileno(), view, position)
                view, position = view[written:], position + written
        except OSError as error:
            hint = "Make room, or set JETTY_DATA_DIR to a larger disk."
            raise SourceError(f"cannot keep standard input on disk: {error.strerror}", hint=hint) from None

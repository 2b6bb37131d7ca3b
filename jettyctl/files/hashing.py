"""The leader: one thread that reads the source once, in order, ahead of the senders.

It feeds SHA-256 (the identity) and a CRC64NVME for each chunk. A chunk is sent once the leader has passed it, so the
sender's read comes from the page cache and its checksum is known before the request starts. The lead is bounded, so
that the pages are still there.

Where the senders follow closely, the leader lends them the very bytes that it hashed, and nobody reads them again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence

from jettyctl.core.model import MIB, Chunk, Digests, Layout
from jettyctl.errors import Interrupted
from jettyctl.files.crc import combine, crc64
from jettyctl.files.source import Source

OnChunk = Callable[[Chunk, int, Sequence[bytes]], None]  # a chunk, its CRC64, and its bytes where they are lent

LEAD = 512 * MIB  # bytes that the leader may be ahead of the oldest chunk not yet acknowledged
LEND = 32 * MIB  # bytes that are lent at a time, at most: a chunk further than this from the oldest one is read again
BLOCK = MIB // 2  # bytes read and hashed at a time: hashing leaves the interpreter to others, and they are still in a cache
WHOLE = 1 * MIB  # bytes of a file that is hashed at once

# Freeing one block this large raises glibc's mmap threshold: later blocks are reused, not mapped anew and zeroed by the kernel.
_REUSED = 31 * MIB


class Leader:
    """Hashes one source. `run` belongs to one thread; `allow` and `stop` may be called from any.

    `lend` bounds the bytes that `on_chunk` gets with its chunks: whoever takes them lets go of them before he allows more.
    `halted` is asked with each block, for when there is nobody to call `stop`. `reading` and `hashing` are the seconds that
    went into each so far.
    """

    def __init__(
        self,
        source: Source,
        layout: Layout,
        on_chunk: OnChunk,
        *,
        lead: int = LEAD,
        lend: int = 0,
        halted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._source = source
        self._halted = halted
        self.layout = layout
        self._on_chunk = on_chunk
        self._lead = max(lead, layout.chunk_size)
        self._lend = lend
        self._low_water = 0
        self._stopped = False
        self._moved = threading.Condition()
        self.reading = 0.0
        self.hashing = 0.0

    def run(self) -> Digests:
        """Read everything; `on_chunk(chunk, crc64, blocks)` after each chunk, in order; no blocks: they are not lent.

        Raises like `Source.read`, or Interrupted.
        """
        if self._lend:
            try:
                bytes(_REUSED)
            except MemoryError:  # where there is this little of it, the file is read twice
                self._lend = 0
        sha256 = hashlib.sha256()
        whole = 0
        buffer = memoryview(bytearray(min(BLOCK, max(1, self.layout.chunk_size))))
        for chunk in self.layout:
            self._wait_for(chunk)
            lends = self._lend and self._reaches(chunk) <= self._lend
            lent: list[bytes] | None = [] if lends else None
            crc = self._hash_chunk(chunk, sha256.update, buffer, lent)
            whole = combine(whole, crc, chunk.length) if chunk.length else whole
            self._on_chunk(chunk, crc, lent or ())
        return Digests(sha256.hexdigest(), whole)

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

    def _wait_for(self, chunk: Chunk) -> None:
        with self._moved:
            self._moved.wait_for(lambda: self._stopped or self._reaches(chunk) <= self._lead)

    def _reaches(self, chunk: Chunk) -> int:
        """Bytes from the oldest one that is not acknowledged to the end of the chunk."""
        return chunk.offset + chunk.length - self._low_water

    def _hash_chunk(
        self, chunk: Chunk, update: Callable[[bytes | memoryview], None], buffer: memoryview, lent: list[bytes] | None
    ) -> int:
        crc, position, end = 0, chunk.offset, chunk.offset + chunk.length
        while position < end:
            if self._stopped or self._halted():
                raise Interrupted("stopped on request")
            length = min(len(buffer), end - position)
            began = time.perf_counter()
            block = self._read(position, buffer[:length], lent)
            read = time.perf_counter()
            update(block)
            crc = crc64(block, crc)
            self.reading += read - began
            self.hashing += time.perf_counter() - read
            position += length
        return crc

    def _read(self, position: int, view: memoryview, lent: list[bytes] | None) -> bytes | memoryview:
        """What fills `view`: in it, or in bytes of its own that cannot change while they are lent."""
        if lent is None:
            self._source.read_into(view, position)
            return view
        lent.append(self._source.read(position, len(view)))
        return lent[-1]


def hash_file(
    source: Source,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
    keep: list[bytes] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Digests:
    """SHA-256 and CRC64NVME of a whole source, in this thread. `keep` gets the bytes of one that is hashed at once.

    Raises like `Source.read`, or Interrupted once `stopped`.
    """
    if source.size > WHOLE:
        layout = Layout(source.size, 64 * MIB)
        return Leader(source, layout, lambda chunk, *_: on_bytes(chunk.length), lead=1 << 62, halted=stopped).run()
    data = source.read(0, source.size)
    on_bytes(source.size)
    if keep is not None:
        keep.append(data)
    return Digests(hashlib.sha256(data).hexdigest(), crc64(data))

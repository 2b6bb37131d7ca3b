"""The leader: one thread that reads the source once, in order, ahead of the senders.

It feeds SHA-256 (the identity) and a CRC64NVME for each chunk. A chunk is sent once the leader has passed it, so the
sender's read comes from the page cache and its checksum is known before the request starts. The lead is bounded, so
that the pages are still there.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

from jettyctl.core.model import MIB, Chunk, Digests, Layout
from jettyctl.errors import Interrupted
from jettyctl.files.crc import combine, crc64
from jettyctl.files.source import Source

OnChunk = Callable[[Chunk, int], None]  # a chunk, and its CRC64

LEAD = 512 * MIB  # bytes that the leader may be ahead of the oldest chunk not yet acknowledged
BLOCK = MIB // 2  # bytes read and hashed at a time: hashing leaves the interpreter to others, and they are still in a cache
WHOLE = 1 * MIB  # bytes of a file that is hashed at once


class Leader:
    """Hashes one source. `run` belongs to one thread; `allow` and `stop` may be called from any.

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
        halted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._source = source
        self._halted = halted
        self.layout = layout
        self._on_chunk = on_chunk
        self._lead = max(lead, layout.chunk_size)
        self._low_water = 0
        self._stopped = False
        self._moved = threading.Condition()
        self.reading = 0.0
        self.hashing = 0.0

    def run(self) -> Digests:
        """Read everything; `on_chunk(chunk, crc64)` after each chunk, in order. Raises like `Source.read`, or Interrupted."""
        sha256 = hashlib.sha256()
        whole = 0
        buffer = memoryview(bytearray(min(BLOCK, max(1, self.layout.chunk_size))))
        for chunk in self.layout:
            self._wait_for(chunk)
            crc = self._hash_chunk(chunk, sha256.update, buffer)
            whole = combine(whole, crc, chunk.length) if chunk.length else whole
            self._on_chunk(chunk, crc)
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
        end = chunk.offset + chunk.length
        with self._moved:
            self._moved.wait_for(lambda: self._stopped or end - self._low_water <= self._lead)

    def _hash_chunk(self, chunk: Chunk, update: Callable[[memoryview], None], buffer: memoryview) -> int:
        crc, position, end = 0, chunk.offset, chunk.offset + chunk.length
        while position < end:
            if self._stopped or self._halted():
                raise Interrupted("stopped on request")
            block = buffer[: end - position]
            began = time.perf_counter()
            self._source.read_into(block, position)
            read = time.perf_counter()
            update(block)
            crc = crc64(block, crc)
            self.reading += read - began
            self.hashing += time.perf_counter() - read
            position += len(block)
        return crc


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
        return Leader(source, layout, lambda chunk, _: on_bytes(chunk.length), lead=1 << 62, halted=stopped).run()
    data = source.read(0, source.size)
    on_bytes(source.size)
    if keep is not None:
        keep.append(data)
    return Digests(hashlib.sha256(data).hexdigest(), crc64(data))

"""A stream on its way through the spool: cut into chunks, kept until it is acknowledged, and never longer than it may be."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jettyctl.core.model import Chunk, Digests
from jettyctl.errors import Interrupted, SourceError, UsageError
from jettyctl.files.body import FileBody
from jettyctl.files.crc import crc64
from jettyctl.files.spool import SLOTS, Spool
from tests.support.bodies import noise
from tests.support.threads import running, settle


class Piped:
    """A spool at the end of a real pipe. `acknowledge` plays the sender: reads each chunk back, then releases it."""

    def __init__(self, directory: Path, chunk_size: int, most: int = 10_000) -> None:
        self.read_end, self.write_end = os.pipe()
        self.chunks: list[tuple[Chunk, int]] = []
        self.directory = directory
        self.spool = Spool(self.read_end, chunk_size, most, lambda *item: self.chunks.append(item), str(directory))

    def feed(self, data: bytes) -> None:
        with os.fdopen(self.write_end, "wb") as sink:
            sink.write(data)

    def close(self) -> None:
        self.spool.close()
        os.close(self.read_end)


@pytest.fixture
def piped(tmp_path: Path) -> Iterator[Callable[..., Piped]]:
    made: list[Piped] = []

    def make(chunk_size: int, most: int = 10_000) -> Piped:
        made.append(Piped(tmp_path, chunk_size, most))
        return made[-1]

    yield make
    for pipe in made:
        pipe.close()


@pytest.mark.parametrize(("size", "sizes"), [(0, [0]), (1, [1]), (99, [99]), (100, [100]), (101, [100, 1]), (300, [100] * 3)])
def test_spool(piped: Callable[..., Piped], size: int, sizes: list[int]) -> None:
    """A stream is cut into chunks, an empty one into one of no bytes, and each can be read back as it was."""
    pipe, data = piped(100), noise(size)
    pipe.feed(data)
    assert pipe.spool.run() == Digests(hashlib.sha256(data).hexdigest(), crc64(data))
    assert [chunk.length for chunk, _ in pipe.chunks] == sizes
    for chunk, crc in pipe.chunks:
        assert pipe.spool.read(chunk.offset, chunk.length) == data[chunk.offset : chunk.offset + chunk.length]
        assert crc == crc64(data[chunk.offset : chunk.offset + chunk.length])
    assert list(pipe.directory.iterdir()) == []  # the ring has no name: nothing is left of it


def test_a_long_stream_with_slow_acknowledgements(piped: Callable[..., Piped]) -> None:
    """A stream of any length fits a ring of a few slots: no chunk is overwritten before it is acknowledged."""
    chunk_size, count = 1000, 5 * SLOTS
    pipe, data = piped(chunk_size), noise(chunk_size * count + 1)
    feeder = threading.Thread(target=pipe.feed, args=(data,))
    feeder.start()

    def told(index: int) -> Callable[[], bool]:
        return lambda: len(pipe.chunks) > index

    with running(pipe.spool.run) as outcome:
        for index in range(count + 1):
            settle(told(index))
            assert len(pipe.chunks) <= index + SLOTS
            chunk, crc = pipe.chunks[index]
            body = FileBody(pipe.spool, chunk.offset, chunk.length, crc)
            assert b"".join(body.slices()) == data[chunk.offset : chunk.offset + chunk.length]
            if index % 3 == 0:
                time.sleep(0.002)
            pipe.spool.allow(chunk.offset + chunk.length)
    feeder.join()
    assert outcome == [Digests(hashlib.sha256(data).hexdigest(), crc64(data))]


def test_a_stream_in_crumbs(piped: Callable[..., Piped]) -> None:
    """Short reads of a slow pipe make the same chunks as long ones."""
    pipe = piped(10)

    def crumbs() -> None:
        with os.fdopen(pipe.write_end, "wb", buffering=0) as sink:
            for n in range(25):
                sink.write(b"%c" % n)
                time.sleep(0.002)

    feeder = threading.Thread(target=crumbs)
    feeder.start()
    pipe.spool.run()
    feeder.join()
    assert [chunk.length for chunk, _ in pipe.chunks] == [10, 10, 5]


def test_a_full_ring_waits(piped: Callable[..., Piped]) -> None:
    """Without acknowledgements the ring fills, and reading stops there; a stop request ends the wait."""
    pipe = piped(10)
    pipe.feed(noise(10 * SLOTS + 50))
    with running(pipe.spool.run) as outcome:
        settle(lambda: len(pipe.chunks) == SLOTS)
        time.sleep(0.03)
        assert len(pipe.chunks) == SLOTS
        pipe.spool.stop()
    assert isinstance(outcome[0], Interrupted)


def test_stop_ends_a_silent_stream(piped: Callable[..., Piped]) -> None:
    """A reader of a pipe that sends nothing ends soon when it is stopped."""
    pipe = piped(10)
    with running(pipe.spool.run) as outcome:
        time.sleep(0.05)
        began = time.monotonic()
        pipe.spool.stop()
    assert time.monotonic() - began < 1
    assert isinstance(outcome[0], Interrupted)
    os.close(pipe.write_end)


def test_the_longest_stream(piped: Callable[..., Piped]) -> None:
    """A stream of exactly as many chunks as the store takes is whole; one byte more is refused with advice."""
    fits, too_long = piped(10, 3), piped(10, 3)
    fits.feed(noise(30))
    assert fits.spool.run().crc64 == crc64(noise(30))
    assert len(fits.chunks) == 3
    too_long.feed(noise(31))
    with pytest.raises(UsageError) as raised:
        too_long.spool.run()
    assert "--chunk-size" in raised.value.hint


def test_reading_what_is_not_in_the_ring(piped: Callable[..., Piped]) -> None:
    """Bytes that were never spooled are an error, not an endless wait."""
    pipe = piped(10)
    pipe.feed(b"12345")
    pipe.spool.run()
    with pytest.raises(SourceError):
        pipe.spool.read(0, 10)


def test_no_room_for_the_ring(tmp_path: Path) -> None:
    """A disk that is full while a stream is kept says so, and what to do."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    pipe = Piped(disk, 1 << 20)
    feeder = threading.Thread(target=pipe.feed, args=(noise(60_000) + noise(60_000),))
    feeder.start()
    try:
        with pytest.raises(SourceError) as raised:
            pipe.spool.run()
        assert "room" in raised.value.hint
    finally:
        while os.read(pipe.read_end, 1 << 16):
            pass
        feeder.join()
        pipe.close()
        subprocess.run(["umount", disk], check=True)

"""From the file to the socket: sources that are no files, bodies that must not be wrong, and the threads that read ahead."""

from __future__ import annotations

import hashlib
import os
import pty
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jettyctl.core.model import Chunk, Digests, Layout
from jettyctl.errors import Interrupted, JettyError, SourceChanged, SourceError, UsageError
from jettyctl.files.body import SLICE, FileBody
from jettyctl.files.crc import combine, crc64, from_base64, to_base64
from jettyctl.files.hashing import Leader, hash_file
from jettyctl.files.source import Source
from jettyctl.files.spool import SLOTS, Spool
from tests.support.bodies import Bytes, body_of, changed_body, noise
from tests.support.running import ROOT

SIZES = [0, 1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE + 5]


@pytest.fixture
def file_of(tmp_path: Path) -> Iterator[Callable[[bytes], Source]]:
    """`file_of(data)` is an open source with these bytes."""
    sources: list[Source] = []

    def make(data: bytes) -> Source:
        path = tmp_path / f"source-{len(sources)}"
        path.write_bytes(data)
        sources.append(Source.open(str(path)))
        return sources[-1]

    yield make
    for source in sources:
        source.close()


# Bodies


@pytest.mark.parametrize("size", SIZES)
def test_a_body_can_be_read_again(file_of: Callable[[bytes], Source], size: int) -> None:
    """Every call of `slices` yields the same bytes from the start, in small slices, and every byte is counted."""
    data, counted = noise(size + 20), []
    body = FileBody(file_of(data), 10, size, crc64(data[10 : 10 + size]), on_bytes=counted.append)
    for _ in range(2):
        slices = list(body.slices())
        assert b"".join(slices) == data[10 : 10 + size]
        assert all(0 < len(piece) <= SLICE for piece in slices)
    assert sum(counted) == 2 * size


@pytest.mark.parametrize("size", [size for size in SIZES if size])
def test_a_wrong_body_is_never_whole(size: int) -> None:
    """If one byte differs from what was hashed, the last slice is not yielded."""
    hashed = noise(size)
    for position in {0, size // 2, size - 1}:
        found = bytearray(hashed)
        found[position] ^= 0x10
        assert sent_before_the_change(changed_body(hashed, bytes(found))) == (size - 1) // SLICE * SLICE < size


def test_a_body_that_is_in_memory() -> None:
    """Bytes that are kept are sent instead of read, at every attempt, and compared with what was hashed all the same."""
    data = noise(SLICE + 3)
    body = FileBody(Bytes(b""), 7, len(data), crc64(data), kept=[data[:SLICE], data[SLICE:]])
    assert list(body.slices()) == list(body.slices()) == [data[:SLICE], data[SLICE:]]
    assert body.digest("md5") == hashlib.md5(data).digest()
    wrong = FileBody(Bytes(b""), 7, len(data), crc64(data), kept=[data[:SLICE], b"???"])
    assert sent_before_the_change(wrong) == SLICE


def test_a_file_that_changes(file_of: Callable[[bytes], Source]) -> None:
    """A file that is cut or written to after it was hashed raises SourceChanged, before its last slice."""
    for change in (lambda file: file.truncate(SLICE), lambda file: file.write(b"other")):
        data = noise(2 * SLICE + 1)
        source = file_of(data)
        body = FileBody(source, 0, len(data), crc64(data))
        assert b"".join(body.slices()) == data
        with open(source.path, "r+b") as file:
            change(file)
        assert sent_before_the_change(body) < len(data)


def sent_before_the_change(body: FileBody) -> int:
    """How many bytes a body yields before it raises SourceChanged."""
    sent: list[int] = []
    with pytest.raises(SourceChanged) as raised:
        sent.extend(map(len, body.slices()))
    assert type(raised.value) is SourceChanged
    return sum(sent)


def test_digests() -> None:
    """Digests are those of the bytes; those that were given are not computed again."""
    data = noise(SLICE + 3)
    body = body_of(data)
    assert body.digest("md5") == body.digest("md5") == hashlib.md5(data).digest()
    assert body.digest("sha256") == hashlib.sha256(data).digest()
    given_ = FileBody(Bytes(b""), 0, 9, 0, digests={"sha256": b"given"})
    assert given_.digest("sha256") == b"given"


def test_a_stopped_body() -> None:
    """A stop request ends a body between two slices."""
    stopped = threading.Event()
    data = noise(3 * SLICE)
    slices = FileBody(Bytes(data), 0, len(data), crc64(data), stopped=stopped.is_set).slices()
    assert next(slices) == data[:SLICE]
    stopped.set()
    with pytest.raises(Interrupted):
        next(slices)


# Checksums


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_crc_of_two_halves(first: bytes, second: bytes) -> None:
    """The CRC of a whole follows from those of its parts, in one go or joined."""
    whole = crc64(first + second)
    assert crc64(second, crc64(first)) == whole
    assert combine(crc64(first), crc64(second), len(second)) == whole
    assert from_base64(to_base64(whole)) == whole


def test_crc_is_crc64nvme() -> None:
    """The CRC is the one that S3 names CRC64NVME: its published check value comes out."""
    assert crc64(b"123456789") == 0xAE8B14860A799888


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "AAAAAAAAAAA=-3", "é"])
def test_no_crc(text: str) -> None:
    """What is not a full CRC64 (composite ones end in -N) is none."""
    assert from_base64(text) is None


# The leader


@pytest.mark.parametrize(("size", "chunk"), [(0, 5), (1, 5), (5, 5), (6, 5), (3_000_001, 1_000_000), (2_500_000, 2_500_000)])
def test_leader(file_of: Callable[[bytes], Source], size: int, chunk: int) -> None:
    """Every chunk is told once, in order, with its CRC; the digests are those of the whole."""
    data, told = noise(size), []
    source = file_of(data)
    leader = Leader(source, Layout(size, chunk), lambda *item: told.append(item), lead=1 << 40)
    assert leader.run() == Digests(hashlib.sha256(data).hexdigest(), crc64(data))
    assert told == [(c, crc64(data[c.offset : c.offset + c.length]), ()) for c in Layout(size, chunk)]
    assert hash_file(source) == Digests(hashlib.sha256(data).hexdigest(), crc64(data))


def test_the_lead_is_bounded(file_of: Callable[[bytes], Source]) -> None:
    """The leader is never more than its lead ahead of what is acknowledged, and goes on as soon as it may."""
    size, chunk, lead = 1000, 100, 250
    data, told, low = noise(size), [], 0
    leader = Leader(file_of(data), Layout(size, chunk), lambda c, *_: told.append(c.offset + c.length), lead=lead)
    with running(leader.run) as outcome:
        while low < size:
            settle(lambda low=low: len(told) == min(10, (low + lead) // chunk))
            time.sleep(0.01)
            assert told[-1] <= low + lead
            low += chunk
            leader.allow(low)
    assert outcome == [Digests(hashlib.sha256(data).hexdigest(), crc64(data))]


def test_what_is_lent(file_of: Callable[[bytes], Source]) -> None:
    """Chunks near the oldest one come with their bytes, which stay as they are; the others come without."""
    data, told = noise(1000), []
    source = file_of(data)
    leader = Leader(source, Layout(1000, 100), lambda c, _, lent: told.append((c, b"".join(lent))), lead=500, lend=250)
    with running(leader.run):
        settle(lambda: len(told) == 5)
        leader.allow(400)
        settle(lambda: len(told) == 9)
        leader.allow(1000)
    lent = {c.index: bytes_ for c, bytes_ in told if bytes_}
    assert lent == {index: data[index * 100 : index * 100 + 100] for index in (0, 1, 5, 9)}


def test_a_chunk_larger_than_what_may_be_lent(file_of: Callable[[bytes], Source]) -> None:
    """A large chunk size takes no more memory."""
    told: list[object] = []
    Leader(file_of(noise(100)), Layout(100, 60), lambda *item: told.append(item[2]), lead=1 << 40, lend=59).run()
    assert told == [(), ()]


def test_a_chunk_larger_than_the_lead(file_of: Callable[[bytes], Source]) -> None:
    """One chunk at least may always be read: a large chunk size is no deadlock."""
    data, told = noise(100), []
    leader = Leader(file_of(data), Layout(100, 60), lambda c, *_: told.append(c.index), lead=10)
    with running(leader.run):
        settle(lambda: told == [0])
        leader.allow(60)
    assert told == [0, 1]


def test_stop_ends_a_waiting_leader(file_of: Callable[[bytes], Source]) -> None:
    """A leader that waits for acknowledgements ends with Interrupted when it is stopped."""
    leader = Leader(file_of(noise(100)), Layout(100, 10), lambda *_: None, lead=10)
    with running(leader.run) as outcome:
        time.sleep(0.05)
        leader.stop()
    assert isinstance(outcome[0], Interrupted)


def test_a_file_that_shrinks_under_the_leader(file_of: Callable[[bytes], Source]) -> None:
    """A file that becomes shorter while it is hashed is a changed source."""
    source = file_of(noise(100))
    os.truncate(source.path, 50)
    with pytest.raises(SourceChanged, match="shorter"):
        Leader(source, Layout(100, 10), lambda *_: None, lead=100).run()


class running:  # noqa: N801 - reads as a statement
    """Run a call in a thread; the list that `as` names holds its result or error after the block."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._outcome: list[object] = []
        self._thread = threading.Thread(target=self._run, args=(call,))

    def _run(self, call: Callable[[], object]) -> None:
        try:
            self._outcome.append(call())
        except JettyError as error:
            self._outcome.append(error)

    def __enter__(self) -> list[object]:
        self._thread.start()
        return self._outcome

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


def settle(condition: Callable[[], bool]) -> None:
    """Wait until something is so, for a few seconds at most."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# The spool


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
    with running(pipe.spool.run) as outcome:
        for index in range(count + 1):
            settle(lambda index=index: len(pipe.chunks) > index)
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


# Sources


def fifo(directory: Path) -> str:
    os.mkfifo(directory / "special")
    return str(directory / "special")


def unix_socket(directory: Path) -> str:
    path = str(directory / "special")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
    return path


def link_to_fifo(directory: Path) -> str:
    (directory / "link").symlink_to(fifo(directory))
    return str(directory / "link")


def loop(directory: Path) -> str:
    (directory / "loop").symlink_to(directory / "loop")
    return str(directory / "loop")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "a named pipe"),
        (unix_socket, "a socket"),
        (link_to_fifo, "a named pipe"),
        (str, "a directory"),
        (lambda _: "/dev/null", "a device"),
        (lambda _: "/dev/zero", "a device"),
        (lambda _: "/dev/tty", ""),
        (lambda directory: f"{directory}/missing", "does not exist"),
        (lambda directory: f"{directory}/missing/below", "does not exist"),
        (lambda _: "", "does not exist"),
        (lambda _: "nul\0byte", "not a file name"),
        (lambda _: "surrogate\ud800", "not a file name"),
        (loop, "symbolic link"),
        (lambda directory: f"{directory}/{'n' * 300}", "cannot be opened"),
    ],
)
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], str], said: str) -> None:
    """What is not a readable regular file is refused with its kind, at once: opening never blocks."""
    path = make(tmp_path)
    began, before = time.monotonic(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(SourceError) as raised:
        Source.open(path)
    assert said in raised.value.message
    assert time.monotonic() - began < 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_terminal_is_no_file() -> None:
    """A terminal is refused like any device, and does not become ours."""
    leader, follower = pty.openpty()
    try:
        with pytest.raises(SourceError, match="a device"):
            Source.open(os.ttyname(follower))
    finally:
        os.close(leader)
        os.close(follower)


def test_an_unreadable_file() -> None:
    """A file that may not be read is refused with the reason."""
    code = (
        "import os, sys\n"
        "from jettyctl.errors import SourceError\n"
        "from jettyctl.files.source import Source\n"
        "os.geteuid() == 0 and os.setuid(65534)\n"  # root may read everything
        "try:\n    Source.open(sys.argv[1])\n"
        "except SourceError as error:\n    print(error.message.rpartition(': ')[2], '|', error.hint)\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = os.path.join(directory, "secret")
        with open(path, "w", encoding="ascii") as file:
            file.write("x")
        os.chmod(path, 0)
        said = subprocess.run(
            [sys.executable, "-c", code, path], env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True
        )
    assert said.stdout.startswith("permission denied |"), said.stderr
    assert len(said.stdout.split("|")[1]) > 10


def test_a_source_is_what_was_opened(tmp_path: Path) -> None:
    """After a rename over its name, a source still reads the file that was opened, and reports its identity."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"first")
    other.write_bytes(b"other bytes")
    with Source.open(str(path)) as source:
        os.rename(other, path)
        assert source.read(0, source.size) == b"first"
        assert source.identity.size == 5
        os.utime(path)
        assert source.current_identity().ino == source.identity.ino


def test_reading_past_the_end(file_of: Callable[[bytes], Source]) -> None:
    """Bytes that are not there (any more) are a changed source, by either way of reading."""
    source = file_of(b"12345")
    assert source.read(2, 3) == b"345"
    with pytest.raises(SourceChanged):
        source.read(2, 4)
    with pytest.raises(SourceChanged):
        source.read_into(memoryview(bytearray(4)), 2)


def test_a_sparse_file(tmp_path: Path) -> None:
    """Holes read as zeros and hash like them."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(3_000_000)
        file.seek(2_000_000)
        file.write(b"x")
    with Source.open(str(path)) as source:
        assert hash_file(source).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

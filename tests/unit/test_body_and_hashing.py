"""From the file to the socket: bodies that must not be wrong, checksums, and the thread that reads ahead."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jettyctl.core.model import Digests, Layout
from jettyctl.errors import Interrupted, SourceChanged
from jettyctl.files.body import SLICE, FileBody
from jettyctl.files.crc import combine, crc64, from_base64, to_base64
from jettyctl.files.hashing import Leader, hash_file
from jettyctl.files.source import Source
from tests.support.bodies import Bytes, body_of, changed_body, noise
from tests.support.threads import running, settle

SIZES = [0, 1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE + 5]


# Bodies


@pytest.mark.parametrize("size", SIZES)
def test_a_body_can_be_read_again(file_of: Callable[[bytes], Source], size: int) -> None:
    """Every call of `slices` yields the same bytes from the start, in small slices, and every byte is counted."""
    data = noise(size + 20)
    counted: list[int] = []
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
    body = FileBody(Bytes(b""), 7, len(data), crc64(data), kept=data)
    assert list(body.slices()) == list(body.slices()) == [data[:SLICE], data[SLICE:]]
    assert body.digest("md5") == hashlib.md5(data).digest()
    wrong = FileBody(Bytes(b""), 7, len(data), crc64(data), kept=data[:SLICE] + b"???")
    assert sent_before_the_change(wrong) == SLICE


def test_a_file_that_changes(file_of: Callable[[bytes], Source]) -> None:
    """A file that is cut or written to after it was hashed raises SourceChanged, before its last slice."""
    changes: list[Callable[[BinaryIO], int]] = [lambda file: file.truncate(SLICE), lambda file: file.write(b"other")]
    for change in changes:
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
    assert told == [(c, crc64(data[c.offset : c.offset + c.length])) for c in Layout(size, chunk)]
    assert hash_file(source) == Digests(hashlib.sha256(data).hexdigest(), crc64(data))


def test_hashing_stops(tmp_path: Path) -> None:
    """A large file that nobody waits for any more is not read to its end."""
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    with Source.open(str(tmp_path / "sparse")) as source, pytest.raises(Interrupted):
        hash_file(source, stopped=lambda: True)


def test_the_lead_is_bounded(file_of: Callable[[bytes], Source]) -> None:
    """The leader is never more than its lead ahead of what is acknowledged, and goes on as soon as it may."""
    size, chunk, lead = 1000, 100, 250
    data, told, low = noise(size), [], 0
    leader = Leader(file_of(data), Layout(size, chunk), lambda c, *_: told.append(c.offset + c.length), lead=lead)

    def as_far_as(low: int) -> Callable[[], bool]:
        return lambda: len(told) == min(10, (low + lead) // chunk)

    with running(leader.run) as outcome:
        while low < size:
            settle(as_far_as(low))
            time.sleep(0.01)
            assert told[-1] <= low + lead
            low += chunk
            leader.allow(low)
    assert outcome == [Digests(hashlib.sha256(data).hexdigest(), crc64(data))]


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

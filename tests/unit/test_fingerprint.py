"""Fingerprints of files at hand, and all that is known of an object from reading it once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from jettyctl.core.model import MIB, Digests
from jettyctl.core.possession import answer_of
from jettyctl.core.sampling import SAMPLE, sample_ranges
from jettyctl.errors import IntegrityError, Interrupted, SourceChanged
from jettyctl.files.crc import crc64
from jettyctl.files.fingerprint import BLOCK, blake3_of, sample_of
from jettyctl.files.object_digest import ObjectDigest
from jettyctl.files.source import Source
from tests.support.bodies import noise
from tests.support.running import ROOT

SEEDS = [b"first", b"second"]
DATA = noise(2 * BLOCK + 5)
SIZES = [0, 1, 3 * SAMPLE - 1, 3 * SAMPLE, 3 * SAMPLE + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 5]


# Samples


@given(st.one_of(st.integers(0, 4 * SAMPLE), st.integers(0, 1 << 45)))
def test_sample_ranges(size: int) -> None:
    """Samples begin with the first byte and end with the last, never overlap, and take small files whole."""
    found = sample_ranges(size)
    assert found[0].offset == 0
    assert found[-1].offset + found[-1].length == size
    assert all(first.offset + first.length <= second.offset for first, second in pairwise(found))
    assert sum(length for _, length in found) == min(size, 3 * SAMPLE)


@pytest.mark.parametrize("size", SIZES)
def test_a_sample_sees_size_and_bytes(file_of: Callable[[bytes], Source], size: int) -> None:
    """A sample is BLAKE3 of the size and of the bytes sampled: it changes with each of them, and with no other byte."""
    data = DATA[:size]
    sampled = b"".join(data[offset : offset + length] for offset, length in sample_ranges(size))
    expected = "blake3:" + blake3(size.to_bytes(8, "big") + sampled).hexdigest()
    assert sample_of(file_of(data)) == expected
    assert sample_of(file_of(data + b"\0")) != expected
    for place in {0, size // 2, size - 1} if size else set():
        assert sample_of(file_of(flipped(data, place))) != expected
    if size > 3 * SAMPLE + 1:
        assert sample_of(file_of(flipped(data, SAMPLE))) == expected


def flipped(data: bytes, place: int) -> bytes:
    """`data` with another byte at `place`."""
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


# BLAKE3 of files


@pytest.mark.parametrize("size", SIZES)
def test_blake3_of_a_file(file_of: Callable[[bytes], Source], size: int) -> None:
    """The hash is that of the bytes, and every byte is counted once."""
    counted: list[int] = []
    assert blake3_of(file_of(DATA[:size]), on_bytes=counted.append) == blake3(DATA[:size]).hexdigest()
    assert sum(counted) == size


def test_the_published_hash_of_nothing(file_of: Callable[[bytes], Source]) -> None:
    """An empty file has the hash that BLAKE3's authors published."""
    assert blake3_of(file_of(b"")) == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_hashing_stops(file_of: Callable[[bytes], Source]) -> None:
    """A stop request ends hashing before the next block, and the thread that reads ahead with it."""
    stop, counted = threading.Event(), []

    def count(length: int) -> None:
        counted.append(length)
        stop.set()

    before = set(threading.enumerate())
    with pytest.raises(Interrupted):
        blake3_of(file_of(DATA), on_bytes=count, stopped=stop.is_set)
    assert counted == [BLOCK]
    assert set(threading.enumerate()) <= before


def test_a_file_that_shrinks_is_no_crash(file_of: Callable[[bytes], Source]) -> None:
    """A file that becomes shorter while it is hashed raises SourceChanged: the process lives."""
    source = file_of(DATA)

    def cut(_: int) -> None:
        Path(source.path).write_bytes(b"short")

    with pytest.raises(SourceChanged):
        blake3_of(source, on_bytes=cut)


def test_nothing_is_loaded_before_it_is_used() -> None:
    """The modules alone do not load BLAKE3: start-up does not pay for it."""
    code = "import jettyctl.files.fingerprint, sys; print('blake3' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "False"


# Objects


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [100_003, MIB])
def test_an_object_is_read_once(file_of: Callable[[bytes], Source], size: int, piece: int) -> None:
    """One pass, in pieces hashed by one thread or by two, gives what files at hand give, from a buffer used again and again."""
    data, buffer = DATA[:size], memoryview(bytearray(piece))
    with ObjectDigest(size, SEEDS) as digest:
        for offset in range(0, size, piece):
            part = data[offset : offset + piece]
            buffer[: len(part)] = part
            digest.update(buffer[: len(part)])
        content = digest.content()
    source = file_of(data)
    assert content.digests == Digests(hashlib.sha256(data).hexdigest(), crc64(data), blake3_of(source))
    assert content.sample == sample_of(source)
    assert content.answers == {seed: answer_of(seed, size, source.read) for seed in SEEDS}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 6 * SAMPLE), st.lists(st.integers(0, 6 * SAMPLE), max_size=20))
def test_the_sample_of_an_object(size: int, cuts: list[int]) -> None:
    """However an object's bytes are cut, its sample is the same."""
    data = DATA[:size]
    with ObjectDigest(size) as digest:
        for begin, end in pairwise([0, *sorted(cut for cut in cuts if cut <= size), size]):
            digest.update(data[begin:end])
        found = digest.content().sample
    sampled = b"".join(data[offset : offset + length] for offset, length in sample_ranges(size))
    assert found == "blake3:" + blake3(size.to_bytes(8, "big") + sampled).hexdigest()


@pytest.mark.parametrize("size", [999, 1001])
def test_an_object_of_another_size(size: int) -> None:
    """An object that is shorter or longer than expected has no digests at all."""
    with ObjectDigest(1000, SEEDS) as digest:
        digest.update(DATA[:size])
        with pytest.raises(IntegrityError, match=f"has {size} bytes where 1000"):
            digest.content()

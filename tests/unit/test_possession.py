"""Proofs of possession: one pass answers what random access answers, and nobody passes who lacks a hundredth."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jettyctl.core.model import MIB, Range
from jettyctl.core.possession import RANGE_LENGTH, RANGES, Answers, answer_of, proof, proven, ranges
from tests.support.bodies import noise

WHOLE = RANGES * RANGE_LENGTH  # the largest size that is asked for whole
SIZES = [0, 1, 2, RANGE_LENGTH - 1, RANGE_LENGTH, RANGE_LENGTH + 1, WHOLE - 1, WHOLE, WHOLE + 1, WHOLE + RANGE_LENGTH, MIB + 3]
DATA = noise(MIB + 3)
SEEDS = [bytes([number]) * 32 for number in range(3)]


def reader(data: bytes) -> Callable[[int, int], bytes]:
    """Random access to `data`."""
    return lambda offset, length: data[offset : offset + length]


def streamed(seeds: Sequence[bytes], data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The answers from one pass over `data`, cut at these offsets."""
    answers = Answers(seeds, len(data))
    for begin, end in pairwise([0, *sorted(cuts), len(data)]):
        answers.update(memoryview(data)[begin:end])
    return [answers.digest(seed) for seed in seeds]


class Facts(TypedDict):
    """What a proof is bound to."""

    nonce: str
    user_id: str
    size: int
    blake3: str
    seed: bytes


FACTS: Facts = {"nonce": "n-1", "user_id": "u-1", "size": MIB, "blake3": "ab" * 32, "seed": SEEDS[0]}

# Ranges


@given(st.binary(max_size=40), st.one_of(st.sampled_from(SIZES), st.integers(0, 2 * WHOLE), st.integers(0, 1 << 45)))
def test_ranges_lie_within_the_file(seed: bytes, size: int) -> None:
    """Ranges are in order and within the file; a small file is asked for whole; a seed always names the same ones."""
    found = ranges(seed, size)
    assert found == ranges(seed, size)
    assert list(found) == sorted(found)
    assert all(offset >= 0 and offset + length <= size for offset, length in found)
    assert found == (Range(0, size),) if size <= WHOLE else [length for _, length in found] == [RANGE_LENGTH] * RANGES


def test_ranges_of_seeds_and_sizes_differ() -> None:
    """Neither another seed nor another size names the same ranges."""
    assert len({ranges(seed, size) for seed in SEEDS for size in (WHOLE + 1, WHOLE + 2, MIB, 1 << 40)}) == 12


def test_ranges_reach_every_place() -> None:
    """Offsets come up about equally often, from the first to the last."""
    size, seeds = RANGE_LENGTH * 2_000, 300
    places = size - RANGE_LENGTH + 1
    counts = Counter(offset * 10 // places for number in range(seeds) for offset, _ in ranges(b"%d" % number, size))
    assert sorted(counts) == list(range(10))
    assert all(abs(count - seeds * RANGES / 10) < seeds * RANGES / 10 * 0.03 for count in counts.values())
    smallest = [offset for number in range(seeds) for offset, _ in ranges(b"%d" % number, WHOLE + 1)]
    assert min(smallest) < 10
    assert max(smallest) > WHOLE + 1 - RANGE_LENGTH - 10


# Answers


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [RANGE_LENGTH - 1, RANGE_LENGTH, RANGE_LENGTH + 1, MIB])
def test_one_pass_answers_as_random_access_does(size: int, piece: int) -> None:
    """Pieces shorter than a range, as long, and longer: the answers are those of whoever has the whole file at hand."""
    data = DATA[:size]
    expected = [answer_of(seed, size, reader(data)) for seed in SEEDS]
    assert streamed(SEEDS, data, range(piece, size, piece)) == expected
    assert len(set(expected)) == len(SEEDS)


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(st.sampled_from(SIZES), st.integers(0, len(DATA))),
    st.lists(st.one_of(st.integers(0, len(DATA)), st.integers(0, 3 * RANGE_LENGTH)), max_size=60),
)
def test_answers_do_not_depend_on_the_pieces(size: int, cuts: list[int]) -> None:
    """However the bytes are cut, empty pieces among them, the answers are the same."""
    data = DATA[:size]
    expected = [answer_of(seed, size, reader(data)) for seed in SEEDS]
    assert streamed(SEEDS, data, [cut for cut in cuts if cut <= size]) == expected


@pytest.mark.parametrize("size", [300, WHOLE, WHOLE + 1])
def test_single_bytes(size: int) -> None:
    """Bytes that come one by one give the same answers."""
    data = DATA[:size]
    assert streamed(SEEDS, data, range(1, size)) == [answer_of(seed, size, reader(data)) for seed in SEEDS]


@pytest.mark.parametrize("size", [1, WHOLE, WHOLE + 1, MIB])
def test_answers_to_a_part_or_to_too_much(size: int) -> None:
    """There is no answer before the last byte, nor after more bytes than there were to be."""
    answers = Answers(SEEDS, size)
    answers.update(DATA[: size - 1])
    with pytest.raises(ValueError, match="bytes of"):
        answers.digest(SEEDS[0])
    answers.update(DATA[:2])
    answers.update(DATA[:2])
    with pytest.raises(ValueError, match="bytes of"):
        answers.digest(SEEDS[0])


def test_little_is_kept() -> None:
    """Between two pieces no more than one range of the file is in memory."""
    answers = Answers(SEEDS, len(DATA))
    for offset in range(0, len(DATA), 1000):
        answers.update(DATA[offset : offset + 1000])
        assert len(answers._kept) < RANGE_LENGTH


def test_an_answer_is_no_common_hash() -> None:
    """Of a small file every byte is asked for, and still no answer is its SHA-256, or that of another challenge."""
    data = DATA[:1000]
    found = {answer_of(seed, size, reader(data)) for seed in SEEDS for size in (999, 1000)}
    assert len(found) == 6
    assert hashlib.sha256(data).digest() not in found


# Attackers


def missing(size: int) -> dict[str, list[Range]]:
    """One hundredth of the bytes, as somebody might lack them."""
    hundredth, pick = -(-size // 100), random.Random(7)
    return {
        "end": [Range(size - hundredth, hundredth)],
        "start": [Range(0, hundredth)],
        "both ends": [Range(0, hundredth // 2), Range(size - hundredth // 2, hundredth // 2)],
        "middle": [Range(size // 2, hundredth)],
        "eight pieces": [Range(place * size // 8, hundredth // 8) for place in range(8)],
        "single bytes": [Range(place, 1) for place in pick.sample(range(size), hundredth)],
    }


def without(data: bytes, holes: Sequence[Range]) -> bytes:
    """`data` with zeros where there are holes."""
    found = bytearray(data)
    for offset, length in holes:
        found[offset : offset + length] = bytes(length)
    return bytes(found)


@pytest.mark.parametrize("size", [WHOLE + 1, MIB])
@pytest.mark.parametrize("place", missing(MIB))
def test_nobody_passes_who_lacks_a_hundredth(size: int, place: str) -> None:
    """Who lacks 1 % of the bytes, wherever they are, has all that a challenge asks for in fewer than 1 of 100 tries."""
    known = without(b"\1" * size, missing(size)[place])
    passed = sum(
        all(known.find(0, offset, offset + length) < 0 for offset, length in ranges(b"attack %d" % number, size))
        for number in range(1_000)
    )
    assert passed < 10


def test_proofs_from_an_incomplete_file() -> None:
    """With 99 % of a file, fewer than 1 of 100 proofs are accepted; with the whole file, each is."""
    data = DATA[: WHOLE + 1]
    seeds = [b"proof %d" % number for number in range(300)]
    answers = Answers(seeds, len(data))
    answers.update(data)

    def accepted(of: bytes, seed: bytes) -> bool:
        facts: Facts = {**FACTS, "size": len(data), "seed": seed}
        return proven(proof(answer_of(seed, len(data), reader(of)), **facts), answers.digest(seed), **facts)

    assert sum(accepted(without(data, missing(len(data))["end"]), seed) for seed in seeds) < 3
    assert all(accepted(data, seed) for seed in seeds[:50])


def test_hashes_alone_prove_nothing() -> None:
    """Who knows only the size and the hashes of a small file, which is asked for whole, has no proof for it."""
    data = DATA[:1000]
    facts: Facts = {**FACTS, "size": len(data)}
    answer = answer_of(SEEDS[0], len(data), reader(data))
    for guess in (b"", hashlib.sha256(data).digest(), hashlib.blake2b(data).digest(), hashlib.sha256(bytes(8) + data).digest()):
        assert not proven(proof(guess, **facts), answer, **facts)


# Proofs


def test_a_proof_is_good_for_one_thing_only() -> None:
    """A proof for another answer, nonce, user, size, hash or seed is refused."""
    answer = hashlib.sha256(b"answer").digest()
    sent = proof(answer, **FACTS)
    assert proven(sent, answer, **FACTS)
    assert not proven(sent, hashlib.sha256(b"another").digest(), **FACTS)
    others: list[Facts] = [
        {**FACTS, "nonce": "n-2"},
        {**FACTS, "user_id": "u-2"},
        {**FACTS, "size": MIB + 1},
        {**FACTS, "blake3": "ba" * 32},
        {**FACTS, "seed": SEEDS[1]},
    ]
    for other in others:
        assert not proven(sent, answer, **other)


TEXTS = st.text(st.characters(categories=("L", "N", "P", "Cs", "Cc")), max_size=6)
FACTS_OF_ANY_KIND = st.fixed_dictionaries(
    {"nonce": TEXTS, "user_id": TEXTS, "size": st.integers(0, 200), "blake3": TEXTS, "seed": st.binary(max_size=6)}
)


@given(FACTS_OF_ANY_KIND, FACTS_OF_ANY_KIND)
def test_different_facts_never_look_alike(first: Facts, second: Facts) -> None:
    """Two proofs under one answer are equal only for equal facts."""
    assert (proof(b"answer", **first) == proof(b"answer", **second)) == (first == second)


@given(st.text("a1\0", max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_the_border_between_two_facts(text: str, first: int, second: int) -> None:
    """Characters that move from one fact to its neighbour make another proof."""
    facts: list[Facts] = [{**FACTS, "nonce": text[:at], "user_id": text[at:]} for at in (first, second)]
    cut = [proof(b"answer", **one) for one in facts]
    assert (cut[0] == cut[1]) == (text[:first] == text[:second])


@pytest.mark.parametrize("sent", ["", "0", "é" * 64, "\ud800", "x" * 10_000, "0" * 64])
def test_what_is_no_proof(sent: str) -> None:
    """Whatever a client sends in place of a proof is refused, without an error."""
    assert not proven(sent, b"answer", **FACTS)


def test_a_proof_is_what_it_was() -> None:
    """Client and server may be of different versions: the answer to a challenge and the proof never change."""
    answer = answer_of(SEEDS[1], MIB, lambda offset, length: offset.to_bytes(length, "big"))
    assert answer.hex() == "f09fd182a5fda49eecb3d9142d818248bdc7630461f7d422b8ef621ee3e400c4"
    assert proof(answer, **FACTS) == "3cb46992bb8c918fefa470e66db99a7f5d7da32d909062d77ace14d2855fb216"

"""The size table at its edges, and what must hold for every size on every endpoint."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jettyctl.core.model import GIB, MIB, TIB, Layout, Limits
from jettyctl.core.tiers import MORE, Strategy, strategy, tier_of
from jettyctl.errors import UsageError

AWS = Limits()
SIZES = st.one_of(st.integers(0, 200 * MIB), st.integers(0, 20 * GIB), st.integers(0, 40 * TIB))


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    """Endpoints as they might be: few parts, odd minimum sizes, small maximum sizes."""
    max_parts = draw(st.integers(1, 10_000))
    min_part = draw(st.integers(1, 64 * MIB))
    max_part = draw(st.integers(64, 5 * 1024)) * MIB
    return Limits(max_parts, min_part, max_part, max_parts * max_part)


def table(size: int) -> tuple[int, int]:
    """The contract, written a second time."""
    if size < 100 * MIB:
        return 10 * MIB, 16
    return (50 * MIB, 24) if size < 10 * GIB else (100 * MIB, 32)


@pytest.mark.parametrize(
    ("size", "chunk_size", "threads"),
    [
        (0, 10 * MIB, 16),
        (1, 10 * MIB, 16),
        (100 * MIB - 1, 10 * MIB, 16),
        (100 * MIB, 50 * MIB, 24),
        (100 * MIB + 1, 50 * MIB, 24),
        (10 * GIB - 1, 50 * MIB, 24),
        (10 * GIB, 100 * MIB, 32),
        (10 * GIB + 1, 100 * MIB, 32),
    ],
)
def test_tier_at_its_edges(size: int, chunk_size: int, threads: int) -> None:
    """Each row of the table begins at its boundary, not one byte before."""
    assert strategy(size, AWS, "tier") == Strategy(chunk_size, threads)


@given(st.integers(0, 10_000 * 100 * MIB))
def test_tier_is_the_table(size: int) -> None:
    """Wherever 10,000 parts suffice, `tier` is exactly the table."""
    assert strategy(size, AWS, "tier") == Strategy(*table(size))
    assert (tier_of(size).chunk_size, tier_of(size).threads) == table(size)


@pytest.mark.parametrize(("above", "chunk_size"), [(-1, 100 * MIB), (0, 100 * MIB), (1, 101 * MIB)])
def test_chunk_grows_at_the_limit_on_parts(above: int, chunk_size: int) -> None:
    """One byte more than 10,000 chunks hold makes the chunk one MiB larger."""
    size = 10_000 * 100 * MIB + above
    assert strategy(size, AWS, "tier").chunk_size == chunk_size
    assert strategy(size, AWS).chunk_size == chunk_size


@pytest.mark.parametrize("above", [-1, 0, 1])
def test_largest_object(above: int) -> None:
    """The endpoint's largest object is taken, one byte more is refused with a hint."""
    size = AWS.max_object + above
    if above <= 0:
        assert strategy(size, AWS).chunk_size == AWS.max_part
        return
    with pytest.raises(UsageError) as caught:
        strategy(size, AWS)
    assert caught.value.hint


@given(SIZES, limits(), st.sampled_from(["auto", "tier"]), st.none() | st.integers(1, 128))
def test_chunks_cover_every_file(size: int, endpoint: Limits, mode: str, threads: int | None) -> None:
    """Chunks cover [0, size) without gap or overlap, and each is one that the endpoint takes."""
    assume(size <= endpoint.max_object)
    cut = strategy(size, endpoint, "tier" if mode == "tier" else "auto", threads)
    layout = Layout(size, cut.chunk_size)
    assert layout.count <= endpoint.max_parts
    assert endpoint.min_part <= cut.chunk_size <= endpoint.max_part
    assert cut.chunk_size % MIB == 0
    assert cut.threads == (threads or table(size)[1] * (1 if mode == "tier" else MORE))
    first, last = layout.chunk(0), layout.chunk(layout.count - 1)
    assert (first.offset, last.offset + last.length) == (0, size)
    assert layout.count == 1 or (0 < last.length <= cut.chunk_size and first.length == cut.chunk_size)


@given(st.integers(0, 5_000), st.integers(1, 600))
def test_layout_is_a_partition(size: int, chunk_size: int) -> None:
    """Each chunk begins where the one before ended, and all but the last are equal."""
    chunks = list(Layout(size, chunk_size))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.number for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert all(before.offset + before.length == after.offset for before, after in pairwise(chunks))
    assert all(chunk.length == chunk_size for chunk in chunks[:-1])
    assert sum(chunk.length for chunk in chunks) == size


@pytest.mark.parametrize("index", [-1, 3])
def test_layout_refuses_other_indices(index: int) -> None:
    """A chunk outside the layout is an IndexError, not a made-up range."""
    with pytest.raises(IndexError):
        Layout(25, 10).chunk(index)


@given(SIZES)
def test_auto_never_passes_the_table(size: int) -> None:
    """`auto` takes the table as a ceiling, but for the limit on parts."""
    assert strategy(size, AWS).chunk_size <= max(table(size)[0], -(-size // AWS.max_parts) + MIB)


@pytest.mark.parametrize(
    ("size", "chunk_size"),
    [(64 * MIB, 5 * MIB), (100 * MIB, 5 * MIB), (768 * MIB, 5 * MIB), (GIB, 5 * MIB), (2 * GIB, 9 * MIB), (8 * GIB, 35 * MIB)],
)
def test_auto_gives_every_thread_work(size: int, chunk_size: int) -> None:
    """The chunk shrinks until all threads have work, and ten rounds of it where the smallest part lets it."""
    assert strategy(size, AWS).chunk_size == chunk_size


NEAR = [(64 * MIB, 5 * MIB), (300 * MIB, 15 * MIB), (GIB, 50 * MIB), (8 * GIB, 50 * MIB)]


@pytest.mark.parametrize(("size", "chunk_size"), NEAR)
def test_auto_makes_fewer_chunks_for_a_near_store(size: int, chunk_size: int) -> None:
    """Where round trips cost nothing, what a chunk costs counts."""
    assert strategy(size, AWS, near=True).chunk_size == chunk_size
    assert strategy(size, AWS, 7 * MIB, near=True).chunk_size == 7 * MIB


@pytest.mark.parametrize("asked", [5 * MIB, 5 * MIB + 1, 5 * GIB - 1, 5 * GIB])
def test_asked_chunk_size_is_kept(asked: int) -> None:
    """A chunk size inside the endpoint's limits is taken as it is, whole MiB or not."""
    assert strategy(GIB, AWS, asked).chunk_size == asked


@pytest.mark.parametrize("asked", [0, 1, 5 * MIB - 1, 5 * GIB + 1])
def test_asked_chunk_size_outside_the_limits(asked: int) -> None:
    """A chunk size outside the endpoint's limits is refused before anything is sent."""
    with pytest.raises(UsageError) as caught:
        strategy(GIB, AWS, asked)
    assert "--chunk-size" in caught.value.hint


def test_asked_chunk_size_grows_for_the_limit_on_parts() -> None:
    """A chunk size that would make too many parts grows instead of failing after hours."""
    assert strategy(100 * GIB, AWS, 5 * MIB).chunk_size == 11 * MIB


def test_no_cut_fits() -> None:
    """An endpoint whose parts cannot hold the file is refused, whatever it says of its largest object."""
    with pytest.raises(UsageError):
        strategy(GIB, Limits(max_parts=10, max_part=16 * MIB))


def test_small_largest_part_is_respected() -> None:
    """Where the table's chunk is larger than the endpoint takes, the chunk shrinks to what it takes."""
    endpoint = Limits(max_parts=10_000, max_part=8 * MIB)
    assert strategy(20 * GIB, endpoint).chunk_size == 8 * MIB
    assert strategy(20 * GIB, endpoint, "tier").chunk_size == 8 * MIB

"""What is left to do: every row of the truth table, and that nothing is lost or counted twice."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jettyctl.core.model import Layout, Receipt
from jettyctl.core.plan import check_cover, reconcile
from jettyctl.core.session import ChunkRecord, ChunkStatus
from jettyctl.errors import IntegrityError

LAYOUT = Layout(25, 10)  # 10, 10, 5
PART = Receipt(1, 10, "etag")


def record(index: int, status: ChunkStatus = ChunkStatus.COMPLETED, etag: str = "etag", crc64: int | None = 7) -> ChunkRecord:
    """A journal row, completed unless told otherwise."""
    return ChunkRecord(index, status, 0.0, etag=etag, crc64=crc64)


@pytest.mark.parametrize(
    ("known", "part", "outcome"),
    [
        (None, None, "todo"),
        (None, PART, "adopt"),
        (record(0), None, "todo"),
        (record(0), PART, "done"),
        (record(0, etag="other"), PART, "todo"),
        (record(0, crc64=None), PART, "adopt"),
        (record(0, ChunkStatus.PENDING), PART, "adopt"),
        (record(0, ChunkStatus.UPLOADING), PART, "adopt"),
        (record(0, ChunkStatus.FAILED), PART, "adopt"),
        (record(0, ChunkStatus.UPLOADING), None, "todo"),
        (record(0), Receipt(1, 9, "etag"), "todo"),
        (record(0), Receipt(1, 11, "etag"), "todo"),
        (None, Receipt(1, 9, "etag"), "todo"),
    ],
)
def test_truth_table(known: ChunkRecord | None, part: Receipt | None, outcome: str) -> None:
    """Journal and store together decide where the first chunk goes; the others are still to do."""
    plan = reconcile(LAYOUT, {0: known} if known else {}, [part] if part else [])
    assert (0 in plan.done, 0 in plan.adopt, 0 in plan.todo) == (outcome == "done", outcome == "adopt", outcome == "todo")
    assert plan.todo[-2:] == (1, 2)


def test_done_carries_the_checksum_of_the_journal() -> None:
    """A part that both know keeps the CRC of the bytes sent; the store's list has none."""
    assert reconcile(LAYOUT, {0: record(0, crc64=99)}, [PART]).done == {0: Receipt(1, 10, "etag", 99)}


@pytest.mark.parametrize(("size", "outcome"), [(4, False), (5, True), (6, False), (10, False)])
def test_last_part_has_its_own_length(size: int, outcome: bool) -> None:
    """The last part counts only at the length that is left for it."""
    assert (2 in reconcile(LAYOUT, {}, [Receipt(3, size, "etag")]).adopt) is outcome


@pytest.mark.parametrize("number", [-1, 0, 4, 10_001])
def test_foreign_part_numbers_are_ignored(number: int) -> None:
    """Parts outside the layout belong to another cut and are not touched."""
    plan = reconcile(LAYOUT, {}, [Receipt(number, 10, "etag")])
    assert (plan.done, plan.adopt, plan.todo) == ({}, {}, (0, 1, 2))


RECORDS = st.dictionaries(
    st.integers(-1, 8),
    st.builds(
        record,
        st.just(0),
        st.sampled_from(ChunkStatus),
        st.sampled_from(["a", "b"]),
        st.sampled_from([None, 0, 7]),
    ),
)
PARTS = st.lists(st.builds(Receipt, st.integers(-1, 9), st.sampled_from([0, 3, 7, 10]), st.sampled_from(["a", "b"])))


@given(st.integers(0, 65), RECORDS, PARTS)
def test_plan_is_a_partition(size: int, journal: Mapping[int, ChunkRecord], stored: list[Receipt]) -> None:
    """Whatever journal and store say, each chunk is in exactly one of done, adopt and todo, and todo is in order."""
    layout = Layout(size, 10)
    plan = reconcile(layout, journal, stored)
    assert sorted([*plan.done, *plan.adopt, *plan.todo]) == list(range(layout.count))
    assert list(plan.todo) == sorted(plan.todo)
    for index, receipt in [*plan.done.items(), *plan.adopt.items()]:
        assert (receipt.number, receipt.size) == (index + 1, layout.chunk(index).length)
    for index, receipt in plan.done.items():
        assert (journal[index].etag, journal[index].crc64) == (receipt.etag, receipt.crc64)


@given(st.integers(0, 95), st.randoms(use_true_random=False))
def test_cover_accepts_every_order(size: int, random: object) -> None:
    """Receipts come back in any order; they are put in order if they cover the file."""
    layout = Layout(size, 10)
    receipts = [Receipt(chunk.number, chunk.length, "etag") for chunk in layout]
    shuffled = sorted(receipts, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert check_cover(layout, shuffled) == tuple(receipts)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [(1, 10), (2, 10)],
        [(1, 10), (3, 5)],
        [(2, 10), (3, 5)],
        [(1, 10), (2, 10), (3, 4)],
        [(1, 10), (2, 9), (3, 5)],
        [(1, 10), (2, 10), (2, 10), (3, 5)],
        [(1, 10), (2, 10), (3, 5), (3, 5)],
        [(1, 10), (2, 10), (3, 5), (4, 0)],
        [(0, 10), (1, 10), (2, 5)],
        [(1, 10), (2, 10), (3, 10)],
    ],
)
def test_cover_refuses(parts: list[tuple[int, int]]) -> None:
    """Gaps, short or long parts, duplicates and surplus are refused before the store is asked to complete."""
    with pytest.raises(IntegrityError):
        check_cover(LAYOUT, [Receipt(number, size, "etag") for number, size in parts])

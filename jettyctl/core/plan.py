"""What is left to do: the one decision behind a first upload and every resume.

The store's list of parts is the truth, the journal is a hint. A first upload is a resume with nothing done yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from jettyctl.core.model import Layout, Receipt
from jettyctl.core.session import ChunkRecord, ChunkStatus
from jettyctl.errors import IntegrityError


class Plan(NamedTuple):
    """What a session still needs.

    `done`: receipts that journal and store agree on, by chunk index. `adopt`: parts that the store has and the journal
    does not know (a crash between the reply and its record): to be checked against the source before they count.
    `todo`: chunk indices to send, in order.
    """

    done: Mapping[int, Receipt]
    adopt: Mapping[int, Receipt]
    todo: tuple[int, ...]


def reconcile(layout: Layout, journal: Mapping[int, ChunkRecord], stored: Iterable[Receipt]) -> Plan:
    """Compare the journal with the store's parts.

    A stored part of the wrong length, of a number outside the layout, or whose ETag is not the one in the journal, is
    sent again: the same part number replaces it.
    """
    done: dict[int, Receipt] = {}
    adopt: dict[int, Receipt] = {}
    for part in stored:
        index = part.number - 1
        if not 0 <= index < layout.count or part.size != layout.chunk(index).length:
            continue
        record = journal.get(index)
        if record is None or record.status is not ChunkStatus.COMPLETED or record.crc64 is None:
            adopt[index] = part
        elif record.etag == part.etag:
            done[index] = Receipt(part.number, part.size, part.etag, record.crc64)
    todo = tuple(index for index in range(layout.count) if index not in done and index not in adopt)
    return Plan(done, adopt, todo)


def check_cover(layout: Layout, receipts: Iterable[Receipt]) -> tuple[Receipt, ...]:
    """The receipts in order, if they cover [0, size) exactly. Raises IntegrityError otherwise.

    Stores complete a short list of parts without complaint: this is the check that they do not make.
    """
    ordered = tuple(sorted(receipts, key=lambda receipt: receipt.number))
    expected = [(chunk.number, chunk.length) for chunk in layout]
    if [(receipt.number, receipt.size) for receipt in ordered] != expected:
        raise IntegrityError(f"the parts do not cover the file: {len(ordered)} receipts for {layout.count} chunks")
    return ordered

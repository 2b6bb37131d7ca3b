"""What a power cut can leave of a journal: its writes and syncs as strace saw them, and the files that a disk may hold then.

A disk keeps what was synced. Of the writes after that it keeps any prefix, the last of them perhaps torn between two sectors,
or a later one without an earlier one; of each file by itself.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

SECTOR = 512  # bytes that a disk writes as one
CALLS = "pwrite64,fdatasync,fsync,ftruncate,write"
NAMES = ("journal.sqlite", "journal.sqlite-journal")
_LINE = re.compile(r'^\d+ +(\w+)\(\d+<([^>]*)>(?:, (?:"([^"]*)"(?:, \d+)?))?(?:, (\d+))?\) += \d+$')


class Loss(StrEnum):
    """What the disk does to the writes that were not synced."""

    SUFFIX = "a suffix lost"
    TORN = "the last one torn"
    ORDER = "two reordered"


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `data` is written at `at`, or the file is cut there if there are none. A sync has neither."""

    name: str
    file: str
    data: bytes | None
    at: int | None


def read(lines: Iterable[str]) -> list[Call]:
    """The stream of a writer's only thread."""
    calls = []
    for line in lines:
        if (found := _LINE.match(line)) is None:
            raise ValueError(f"not understood: {line[:200]}")
        name, path, data, at = found.groups()
        file = os.path.basename(_bytes(path)).decode()
        calls.append(Call(name, file, None if data is None else _bytes(data), None if at is None else int(at)))
    return calls


def _bytes(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def words(calls: Sequence[Call]) -> list[str]:
    """What the writer has said by then."""
    return b"".join(call.data or b"" for call in calls if call.file == "said").decode().split()


def image(calls: Sequence[Call], loss: Loss, draw: random.Random) -> dict[str, bytes]:
    """The files after a power cut that follows these calls."""
    return {name: _replayed(_kept([call for call in calls if call.file == name], loss, draw)) for name in NAMES}


def _kept(calls: list[Call], loss: Loss, draw: random.Random) -> list[Call]:
    synced = max((number for number, call in enumerate(calls, 1) if call.name in ("fdatasync", "fsync")), default=0)
    durable, loose = calls[:synced], calls[synced:]
    loose = loose[: draw.randint(0, len(loose))]
    if loss is Loss.TORN and loose and loose[-1].data and len(loose[-1].data) > SECTOR:
        whole = loose[-1].data
        loose[-1] = replace(loose[-1], data=whole[: SECTOR * draw.randrange(1, -(-len(whole) // SECTOR))])
    if loss is Loss.ORDER and len(loose) > 1:
        del loose[draw.randrange(len(loose) - 1)]
    return durable + loose


def _replayed(calls: Iterable[Call]) -> bytes:
    content = bytearray()
    for call in calls:
        if call.at is None:
            continue
        if call.data is None:
            del content[call.at :]
            continue
        content.extend(bytes(max(0, call.at - len(content))))
        content[call.at : call.at + len(call.data)] = call.data
    return bytes(content)

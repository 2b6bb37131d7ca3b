"""CRC64NVME: what S3 itself checks for a whole multipart object. The C runtime computes it at memory speed.

It is imported at first use, since that takes 40 ms (it gathers entropy): a run that finds everything unchanged never waits.
"""

from __future__ import annotations

import base64
import functools
from typing import Any


@functools.cache
def _checksums() -> Any:  # noqa: ANN401 - the runtime has no types
    from awscrt import checksums

    return checksums


def crc64(data: bytes | memoryview, previous: int = 0) -> int:
    """The CRC of `data`, continuing from `previous`; an unsigned 64-bit integer."""
    value: int = _checksums().crc64nvme(data, previous)
    return value


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC of two byte strings joined, from the CRC of each and the length of the second."""
    value: int = _checksums().combine_crc64nvme(first, second, second_length)
    return value


def to_base64(value: int) -> str:
    """The form of `x-amz-checksum-crc64nvme`."""
    return base64.b64encode(value.to_bytes(8, "big")).decode()


def from_base64(text: str) -> int | None:
    """The CRC in a header or a listing; None for what is not a full CRC64 (composite checksums end in `-N`)."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 8 else None

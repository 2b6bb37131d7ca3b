"""Whether an object is the file already: by what its store says of it, and by what is remembered."""

from __future__ import annotations

import pytest

from jettyctl.core.model import Digests, ObjectInfo, Stored
from jettyctl.core.unchanged import unchanged

OURS = Digests("aa" * 32, 7)
THEIRS = Digests("bb" * 32, 8)
STORED = Stored(3, "etag", OURS.sha256, "session")


@pytest.mark.parametrize(
    ("sha256", "crc64", "same"),
    [
        (OURS.sha256, None, True),
        (None, OURS.crc64, True),
        (OURS.sha256, OURS.crc64, True),
        (OURS.sha256, THEIRS.crc64, False),
        (THEIRS.sha256, OURS.crc64, False),
        (None, THEIRS.crc64, False),
        (None, None, True),
    ],
)
def test_all_that_is_said_of_an_object_must_fit(sha256: str | None, crc64: int | None, same: bool) -> None:
    """One checksum that fits does not outweigh another one that does not; what is remembered counts where there is none."""
    assert unchanged(ObjectInfo(3, "etag", crc64, sha256), OURS, STORED) == same

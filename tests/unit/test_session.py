"""Sessions and chunk records as JSON: nothing is lost on the way, and hostile JSON is refused in a known manner."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jettyctl.core.model import Identity, Target
from jettyctl.core.session import UNFINISHED, ChunkRecord, ChunkStatus, Session, SessionStatus, SourceRecord

WHOLE = st.integers(0, (1 << 64) - 1)
TIMES = st.floats(0, 1e11)
PATHS = st.binary(max_size=30).map(os.fsdecode)
TEXT = st.text(max_size=20)
PLAIN = st.none() | st.booleans() | WHOLE | TEXT

SESSIONS = st.builds(
    Session,
    session_id=TEXT,
    source=st.builds(SourceRecord, PATHS, st.builds(Identity, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE)),
    target=st.builds(Target, TEXT, PATHS, TEXT, TEXT),
    chunk_size=st.integers(1, 5 << 30),
    threads=st.integers(1, 256),
    started_at=TIMES,
    last_updated=TIMES,
    upload_id=st.none() | TEXT,
    status=st.sampled_from(SessionStatus),
    user_id=TEXT,
    file_id=TEXT,
    file_hash=TEXT,
    edges_used=st.lists(TEXT, max_size=3).map(tuple),
    chunks_completed=WHOLE,
    bytes_uploaded=WHOLE,
    completed_at=st.none() | TIMES,
    error_message=TEXT,
    imported=st.booleans(),
    options=st.dictionaries(TEXT, PLAIN, max_size=3),
)
CHUNKS = st.builds(
    ChunkRecord,
    index=st.integers(0, 9_999),
    status=st.sampled_from(ChunkStatus),
    timestamp=TIMES,
    edge_id=TEXT,
    bytes_uploaded=WHOLE,
    etag=TEXT,
    crc64=st.none() | WHOLE,
    error_message=TEXT,
)
JSON = st.recursive(
    PLAIN | st.floats() | st.integers(-(10**400), 10**400) | st.sampled_from(["in_progress", "completed", "crc64nvme:", "nan"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
EXAMPLE = Session("id", SourceRecord("/a/b", Identity(1, 2, 25, 4, 5)), Target("s3", "https://e", "b", "k"), 10, 16, 1.0, 2.0)


def through_text(data: dict[str, Any]) -> dict[str, Any]:
    """As a journal or a server would hand it back."""
    back: dict[str, Any] = json.loads(json.dumps(data))
    return back


@given(SESSIONS)
def test_session_round_trip(session: Session) -> None:
    """A session comes back from JSON as it was, undecodable path bytes included."""
    assert Session.from_json(through_text(session.to_json())) == session


@given(CHUNKS)
def test_chunk_round_trip(record: ChunkRecord) -> None:
    """A chunk record comes back from JSON as it was, its checksum at full width."""
    assert ChunkRecord.from_json(record.index, through_text(record.to_json())) == record


def places(data: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all fields, nested ones too, and of the whole."""
    inner = [found for key, value in data.items() for found in places(value, (*path, key))] if isinstance(data, dict) else []
    return [path, *inner]


def altered(data: dict[str, Any], path: tuple[str, ...], value: object) -> Any:  # noqa: ANN401 - that is the point
    """The same data with one field replaced; with an empty path, all of it."""
    return value if not path else {**data, path[0]: altered(data[path[0]], path[1:], value)}


def without(data: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The same data with one field gone."""
    if len(path) > 1:
        return {**data, path[0]: without(data[path[0]], path[1:])}
    return {key: value for key, value in data.items() if key != path[0]}


@given(st.sampled_from(places(EXAMPLE.to_json())), JSON)
def test_hostile_session(path: tuple[str, ...], value: object) -> None:
    """Anything in any field either reads as a session that can be used, or is a KeyError, TypeError or ValueError."""
    with suppress(KeyError, TypeError, ValueError):
        session = Session.from_json(altered(EXAMPLE.to_json(), path, value))
        assert json.dumps(session.to_json())


@given(st.sampled_from(places(ChunkRecord(0, ChunkStatus.PENDING, 1.0).to_json())), JSON)
def test_hostile_chunk(path: tuple[str, ...], value: object) -> None:
    """The same for chunk records; a checksum that is read fits its 64 bits."""
    with suppress(KeyError, TypeError, ValueError):
        record = ChunkRecord.from_json(0, altered(ChunkRecord(0, ChunkStatus.PENDING, 1.0).to_json(), path, value))
        assert json.dumps(record.to_json())
        assert record.crc64 is None or 0 <= record.crc64 < 1 << 64


@pytest.mark.parametrize("path", places(EXAMPLE.to_json())[1:])
def test_missing_field(path: tuple[str, ...]) -> None:
    """A missing field is a KeyError, or stands for its default."""
    with suppress(KeyError):
        assert Session.from_json(without(EXAMPLE.to_json(), path)) == EXAMPLE


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("startedAt",), float("nan")),
        (("startedAt",), float("inf")),
        (("lastUpdated",), 10**400),
        (("lastUpdated",), True),
        (("completedAt",), "nan"),
        (("chunkSize",), 0),
        (("chunkSize",), 1.5),
        (("source", "size"), -1),
        (("source", "size"), True),
        (("status",), "done"),
        (("target",), None),
        (("edgesUsed",), [1]),
    ],
)
def test_refused(path: tuple[str, ...], value: object) -> None:
    """Values that would break later, far from their cause, are refused on reading."""
    with pytest.raises((TypeError, ValueError)):
        Session.from_json(altered(EXAMPLE.to_json(), path, value))


@pytest.mark.parametrize("digest", ["", "-1", "1", "0x00000000000001", "f" * 17, "-00000000000000f", "F" * 16, "\u0660" * 16])
def test_refused_checksum(digest: str) -> None:
    """A checksum is sixteen hex digits, in the one way that we write them."""
    with pytest.raises(ValueError, match="CRC-64"):
        ChunkRecord.from_json(0, {"status": "completed", "timestamp": 1.0, "chunkHash": f"crc64nvme:{digest}"})


def test_unknown_checksum_is_no_checksum() -> None:
    """Another client's algorithm is not ours to compare: the part is checked against the source instead."""
    assert ChunkRecord.from_json(0, {"status": "completed", "timestamp": 1.0, "chunkHash": "md5:00"}).crc64 is None


def test_session_facts() -> None:
    """Size and layout come from the source; completing still counts as unfinished."""
    assert (EXAMPLE.size, EXAMPLE.layout.count) == (25, 3)
    assert {status for status in SessionStatus if EXAMPLE.with_status(status, 3.0).unfinished} == UNFINISHED
    done = EXAMPLE.with_status(SessionStatus.COMPLETED, 3.0, completed_at=3.0)
    assert (done.last_updated, done.completed_at, done.session_id) == (3.0, 3.0, "id")

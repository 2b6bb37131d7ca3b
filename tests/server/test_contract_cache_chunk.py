"""/api/jetty/cache-chunk: every field and status of the contract."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

PATH = "/api/jetty/cache-chunk"


def chunk(**fields: object) -> dict[str, Any]:
    """The body for a chunk of a new session."""
    return {"sessionId": str(uuid.uuid4()), "chunkIndex": 0, "status": "completed", **fields}


def test_a_chunk_is_kept(client: httpx.Client) -> None:
    """What was sent of a chunk is what is read of it."""
    sent = chunk(chunkIndex=3, chunkHash="sha256:ab", edgeId="fra-1", bytesUploaded=5 << 20, errorMessage="none, really")
    reply = client.post(PATH, json=sent)
    assert reply.status_code == 200
    body = reply.json()
    assert sorted(body) == ["chunk", "message", "success"]
    assert body["success"] is True
    assert body["chunk"] == {"sessionId": sent["sessionId"], "chunkIndex": 3, "status": "completed"}
    read = client.get(PATH, params={"sessionId": sent["sessionId"]})
    assert read.status_code == 200
    assert sorted(read.json()) == ["chunks", "total"]
    assert read.json()["total"] == 1
    (kept,) = read.json()["chunks"]
    moment = datetime.fromisoformat(kept.pop("timestamp"))
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    assert kept == {
        "chunkIndex": 3,
        "chunkHash": "sha256:ab",
        "edgeId": "fra-1",
        "status": "completed",
        "bytesUploaded": 5 << 20,
        "errorMessage": "none, really",
    }


def test_optional_fields(client: httpx.Client) -> None:
    """A chunk without its optional fields is kept with empty ones."""
    sent = chunk(status="pending", chunkHash=None)
    assert client.post(PATH, json=sent).status_code == 200
    (kept,) = client.get(PATH, params={"sessionId": sent["sessionId"]}).json()["chunks"]
    assert (kept["chunkHash"], kept["edgeId"], kept["bytesUploaded"], kept["errorMessage"]) == ("", "", 0, "")


def test_twice_counts_once(client: httpx.Client) -> None:
    """The same chunk sent twice is one chunk, with its last state."""
    sent = chunk(status="uploading")
    for status in ("uploading", "failed", "completed", "completed"):
        assert client.post(PATH, json={**sent, "status": status}).status_code == 200
    read = client.get(PATH, params={"sessionId": sent["sessionId"]}).json()
    assert (read["total"], read["chunks"][0]["status"]) == (1, "completed")


def test_index_order(client: httpx.Client) -> None:
    """Chunks are listed by index, whatever the order in which they came."""
    sent = chunk()
    for index in (10, 2, 0, 33, 1):
        client.post(PATH, json={**sent, "chunkIndex": index}).raise_for_status()
    read = client.get(PATH, params={"sessionId": sent["sessionId"]}).json()
    assert [one["chunkIndex"] for one in read["chunks"]] == [0, 1, 2, 10, 33]
    assert read["total"] == 5


def test_no_chunks(client: httpx.Client) -> None:
    """A session that nobody knows has none, and a message says so."""
    read = client.get(PATH, params={"sessionId": str(uuid.uuid4())})
    assert read.status_code == 200
    assert (read.json()["chunks"], read.json()["total"], bool(read.json()["message"])) == ([], 0, True)


def test_another_users_session(client: httpx.Client, other: httpx.Client) -> None:
    """To another user a session looks like none, and takes no chunk."""
    sent = chunk()
    client.post(PATH, json=sent).raise_for_status()
    theirs = other.get(PATH, params={"sessionId": sent["sessionId"]})
    nobodys = other.get(PATH, params={"sessionId": str(uuid.uuid4())})
    assert (theirs.status_code, theirs.content) == (nobodys.status_code, nobodys.content)
    assert other.post(PATH, json={**sent, "chunkIndex": 1}).status_code == 404
    assert client.get(PATH, params={"sessionId": sent["sessionId"]}).json()["total"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"sessionId": ""},
        {"sessionId": "x" * 65},
        {"sessionId": 5},
        {"sessionId": "a\nb"},
        {"chunkIndex": -1},
        {"chunkIndex": "0"},
        {"chunkIndex": 0.0},
        {"chunkIndex": True},
        {"chunkIndex": 2**31},
        {"status": "done"},
        {"status": None},
        {"bytesUploaded": -1},
        {"bytesUploaded": 2**63},
        {"chunkHash": "x" * 257},
        {"edgeId": "x" * 64},
        {"errorMessage": "x" * 8193},
        {"errorMessage": "a\0b"},
    ],
)
def test_invalid_fields(client: httpx.Client, change: dict[str, object]) -> None:
    """A field of a wrong type or range is refused with its name."""
    reply = client.post(PATH, json=chunk(**change))
    assert (reply.status_code, sorted(reply.json())) == (400, ["details", "error"])
    assert next(iter(change)) in reply.json()["details"]


@pytest.mark.parametrize("missing", ["sessionId", "chunkIndex", "status"])
def test_missing_fields(client: httpx.Client, missing: str) -> None:
    """Each required field is asked for by name."""
    body = chunk()
    del body[missing]
    reply = client.post(PATH, json=body)
    assert (reply.status_code, missing in reply.json()["details"]) == (400, True)


@pytest.mark.parametrize("query", ["", "?sessionId=", f"?sessionId={'x' * 65}", "?sessionId=%00", "?sessionId=%ff%fe"])
def test_invalid_session_to_read(client: httpx.Client, query: str) -> None:
    """A session id that cannot be one is refused; bytes that are no UTF-8 are just another id."""
    assert client.get(PATH + query).status_code == (200 if "%ff" in query else 400)

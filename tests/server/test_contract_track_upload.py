"""POST /api/jetty/track-upload: every field and status of the contract."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

PATH = "/api/jetty/track-upload"
DUPLICATE = "/api/jetty/check-duplicate"


def start(**fields: object) -> dict[str, Any]:
    """The body for the start of an upload."""
    file_hash = f"sha256:{uuid.uuid4().hex * 2}"
    return {"action": "start", "userId": "usr_1", "fileName": "a.bin", "fileHash": file_hash, "fileSize": 250 << 20, **fields}


def started(client: httpx.Client, **fields: object) -> dict[str, Any]:
    """The session of a new upload."""
    reply = client.post(PATH, json=start(**fields))
    assert reply.status_code == 200, reply.text
    session: dict[str, Any] = reply.json()["session"]
    return session


def test_start(client: httpx.Client) -> None:
    """A start makes a session, cut by the size table where the client says nothing else."""
    reply = client.post(PATH, json=start())
    assert reply.status_code == 200
    body = reply.json()
    assert sorted(body) == ["message", "session", "success"]
    assert body["success"] is True
    assert sorted(body["session"]) == ["chunksTotal", "estimatedTime", "fileId", "sessionId"]
    assert body["session"]["chunksTotal"] == 5  # chunks of 50 MiB
    assert body["session"]["estimatedTime"] > 0
    assert uuid.UUID(body["session"]["sessionId"])


def test_start_with_everything(client: httpx.Client) -> None:
    """Every optional field is taken; what the client decided is kept."""
    session = started(
        client,
        fileId="file-7",
        chunkSize=10 << 20,
        threads=8,
        edgesUsed=["fra-1", "lon-1"],
        chunksTotal=25,
        estimatedCost=0.02,
        uploadVia="desktop",
        jettySpeedEnabled=False,
    )
    assert (session["fileId"], session["chunksTotal"]) == ("file-7", 25)


@pytest.mark.parametrize(("size", "chunk_size", "total"), [(0, None, 1), (1, None, 1), (25, 10, 3), (30, 10, 3)])
def test_chunks_total(client: httpx.Client, size: int, chunk_size: int | None, total: int) -> None:
    """Chunks are counted by their size; an empty file has one."""
    assert started(client, fileSize=size, chunkSize=chunk_size)["chunksTotal"] == total


def test_progress(client: httpx.Client) -> None:
    """Progress is answered as it was told."""
    session_id = started(client)["sessionId"]
    reply = client.post(
        PATH, json={"action": "progress", "sessionId": session_id, "chunksCompleted": 2, "bytesUploaded": 100 << 20}
    )
    assert reply.status_code == 200
    body = reply.json()
    assert sorted(body) == ["message", "progress", "success"]
    assert (body["success"], body["progress"]) == (True, {"chunksCompleted": 2, "bytesUploaded": 100 << 20})


def test_complete(client: httpx.Client) -> None:
    """A completed upload is known as a duplicate from then on; told twice it counts once."""
    begun = start(fileName="movie.mp4")
    session = client.post(PATH, json=begun).json()["session"]
    for _ in range(2):
        reply = client.post(PATH, json={"action": "complete", "sessionId": session["sessionId"], "actualCost": 0.03})
        assert reply.status_code == 200
        body = reply.json()
        assert sorted(body) == ["message", "sessionId", "success"]
        assert (body["success"], body["sessionId"]) == (True, session["sessionId"])
    known = client.post(DUPLICATE, json={"fileHash": begun["fileHash"], "userId": "usr_1"}).json()
    assert (known["isDuplicate"], known["file"]["fileName"], known["file"]["uploadCount"]) == (True, "movie.mp4", 1)


def test_fail(client: httpx.Client) -> None:
    """A failure is kept with its message, and makes no duplicate."""
    begun = start()
    session_id = client.post(PATH, json=begun).json()["session"]["sessionId"]
    told = {"action": "fail", "sessionId": session_id, "chunksCompleted": 1, "bytesUploaded": 5, "errorMessage": "no disk"}
    reply = client.post(PATH, json=told)
    assert reply.status_code == 200
    body = reply.json()
    assert sorted(body) == ["errorMessage", "message", "sessionId", "success"]
    assert (body["success"], body["sessionId"], body["errorMessage"]) == (True, session_id, "no disk")
    assert client.post(DUPLICATE, json={"fileHash": begun["fileHash"], "userId": "usr_1"}).json()["isDuplicate"] is False


@pytest.mark.parametrize(
    "body",
    [
        {"action": "progress", "chunksCompleted": 1, "bytesUploaded": 1},
        {"action": "complete"},
        {"action": "fail", "errorMessage": "no"},
    ],
)
def test_sessions_that_are_not_the_users(client: httpx.Client, other: httpx.Client, body: dict[str, object]) -> None:
    """Another user's session and one that is not there are answered alike."""
    theirs = other.post(PATH, json={**body, "sessionId": started(client)["sessionId"]})
    nobodys = other.post(PATH, json={**body, "sessionId": str(uuid.uuid4())})
    assert (theirs.status_code, theirs.content) == (404, nobodys.content)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "action"),
        ({"action": "begin"}, "action"),
        ({"action": 5}, "action"),
        ({"action": "progress", "sessionId": "x"}, "chunksCompleted"),
        ({"action": "progress", "sessionId": "x", "chunksCompleted": 1, "bytesUploaded": "1"}, "bytesUploaded"),
        ({"action": "complete"}, "sessionId"),
        ({"action": "complete", "sessionId": "x", "actualCost": -1}, "actualCost"),
        ({"action": "fail", "sessionId": "x", "errorMessage": 5}, "errorMessage"),
    ],
)
def test_invalid_bodies(client: httpx.Client, body: dict[str, object], named: str) -> None:
    """What is missing or wrong is named."""
    reply = client.post(PATH, json=body)
    assert (reply.status_code, sorted(reply.json())) == (400, ["details", "error"])
    assert named in reply.json()["details"]


@pytest.mark.parametrize(
    "change",
    [
        {"userId": None},
        {"fileName": ""},
        {"fileHash": ""},
        {"fileSize": -1},
        {"fileId": ""},
        {"chunkSize": 0},
        {"threads": 0},
        {"threads": "4"},
        {"edgesUsed": "fra-1"},
        {"edgesUsed": [1]},
        {"edgesUsed": ["x"] * 65},
        {"chunksTotal": 0},
        {"estimatedCost": "much"},
        {"uploadVia": "fax"},
        {"jettySpeedEnabled": "yes"},
    ],
)
def test_invalid_starts(client: httpx.Client, change: dict[str, object]) -> None:
    """A field of a start that is wrong is refused with its name."""
    reply = client.post(PATH, json=start(**change))
    assert (reply.status_code, next(iter(change)) in reply.json()["details"]) == (400, True)

"""POST /api/jetty/check-duplicate: every field and status of the contract."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.support.plane import claim

PATH = "/api/jetty/check-duplicate"


def new_hash() -> str:
    """A hash that nobody sent yet."""
    return f"sha256:{uuid.uuid4().hex * 2}"


def test_content_that_nobody_sent(client: httpx.Client) -> None:
    """An unknown hash is no duplicate, and nothing is said of files or savings."""
    reply = client.post(PATH, json={"fileHash": new_hash(), "userId": "usr_1"})
    assert reply.status_code == 200
    body = reply.json()
    assert sorted(body) == ["isDuplicate", "message"]
    assert body["isDuplicate"] is False
    assert body["message"]


def test_content_that_the_user_sent(client: httpx.Client) -> None:
    """The answer describes the user's own file, and what not sending it again saves."""
    file_hash = new_hash()
    file_id = claim(client, "usr_1", file_hash, "report.pdf", 1 << 30)
    reply = client.post(PATH, json={"fileHash": file_hash, "userId": "usr_1", "fileName": "again.pdf", "fileSize": 1 << 30})
    assert reply.status_code == 200
    body = reply.json()
    assert sorted(body) == ["file", "isDuplicate", "message", "savings"]
    assert body["isDuplicate"] is True
    first = datetime.fromisoformat(body["file"].pop("firstUploadedAt"))
    assert abs(datetime.now(UTC) - first) < timedelta(minutes=1)
    assert isinstance(body["file"].pop("url"), str)
    assert body["file"] == {
        "fileId": file_id,
        "fileName": "report.pdf",
        "fileSize": 1 << 30,
        "mimeType": "application/pdf",
        "uploadCount": 1,
    }
    assert body["savings"] == {"bytes": 1 << 30, "cost": pytest.approx(0.10)}


def test_content_of_another_user(client: httpx.Client, other: httpx.Client) -> None:
    """What another user sent is no duplicate here: the answer is that for content that nobody sent."""
    file_hash = new_hash()
    claim(other, "usr_2", file_hash, "secret.pdf", 1 << 20)
    known = client.post(PATH, json={"fileHash": file_hash, "userId": "usr_1"})
    unknown = client.post(PATH, json={"fileHash": new_hash(), "userId": "usr_1"})
    assert known.content == unknown.content


def test_a_hash_of_another_kind(client: httpx.Client) -> None:
    """A hash that is not SHA-256 is an identity like any other."""
    file_hash = f"sha256:made-up-{uuid.uuid4().hex}"
    claim(client, "usr_1", file_hash, "old.bin", 1000)
    assert client.post(PATH, json={"fileHash": file_hash, "userId": "usr_1"}).json()["isDuplicate"] is True


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fileHash": None}, "fileHash"),
        ({"fileHash": ""}, "fileHash"),
        ({"fileHash": "x" * 257}, "fileHash"),
        ({"fileHash": "a\nb"}, "fileHash"),
        ({"fileHash": 7}, "fileHash"),
        ({"userId": 7}, "userId"),
        ({"userId": ""}, "userId"),
        ({"fileName": ""}, "fileName"),
        ({"fileName": "a\0b"}, "fileName"),
        ({"fileName": "x" * 1025}, "fileName"),
        ({"fileSize": "5"}, "fileSize"),
        ({"fileSize": -1}, "fileSize"),
        ({"fileSize": 2**63}, "fileSize"),
        ({"fileSize": 1.5}, "fileSize"),
        ({"fileSize": True}, "fileSize"),
    ],
)
def test_invalid_fields(client: httpx.Client, change: dict[str, object], named: str) -> None:
    """A field of a wrong type or range is refused with its name."""
    reply = client.post(PATH, json={"fileHash": "sha256:x", "userId": "usr_1", **change})
    assert reply.status_code == 400
    assert sorted(reply.json()) == ["details", "error"]
    assert named in reply.json()["details"]


@pytest.mark.parametrize("missing", ["fileHash", "userId"])
def test_missing_fields(client: httpx.Client, missing: str) -> None:
    """Both required fields are asked for by name."""
    body = {"fileHash": "sha256:x", "userId": "usr_1"}
    del body[missing]
    reply = client.post(PATH, json=body)
    assert (reply.status_code, missing in reply.json()["details"]) == (400, True)


def test_null_is_left_out(client: httpx.Client) -> None:
    """An optional field that is null counts as missing, and one that nobody knows is ignored."""
    body = {"fileHash": new_hash(), "userId": "usr_1", "fileName": None, "fileSize": None, "colour": {"red": [1]}}
    assert client.post(PATH, json=body).status_code == 200

"""Keys, scopes, for whom they may act, and what the log says of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from jettyctl.server.control import keys
from tests.support.plane import PlaneProcess, claim, lines_of, new_key, with_database

CHECK = "/api/jetty/check-duplicate"
SERVICE = "/api/jetty/service"
CHUNK = "/api/jetty/cache-chunk"


def body(user: str = "usr_1") -> dict[str, str]:
    """A question that every good key may ask for its user."""
    return {"fileHash": f"sha256:{uuid.uuid4().hex * 2}", "userId": user}


def revoked_key(url: str) -> str:
    key_id, key = new_key(url)
    with_database(url, lambda database: keys.revoke(database, key_id))
    return key


def test_one_answer_for_every_bad_key(plane: PlaneProcess) -> None:
    """Unknown, revoked, expired, malformed and missing keys get the same status, headers and bytes."""
    url = plane.settings.database_url
    headers: list[dict[str, str]] = [
        {},
        {"Authorization": f"Bearer jty_{'A' * 43}"},
        {"Authorization": f"Bearer {revoked_key(url)}"},
        {"Authorization": f"Bearer {new_key(url, expires_at=datetime.now(UTC) - timedelta(seconds=1))[1]}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer x y z"},
        {"Authorization": f"Bearer {'x' * 5000}"},
        {"Authorization": "Basic dXNyOnB3"},
        {"Authorization": new_key(url)[1]},
    ]
    with plane.client() as client:
        replies = [client.post(CHECK, json=body(), headers=given) for given in headers]
        replies.append(client.post(CHECK, content=b"{broken", headers={"Content-Type": "application/json"}))
    changing = {"x-request-id", "date"}
    seen = {
        (reply.status_code, reply.content, *sorted((n, v) for n, v in reply.headers.items() if n not in changing))
        for reply in replies
    }
    assert len(seen) == 1
    assert replies[0].status_code == 401
    assert replies[0].headers["www-authenticate"] == "Bearer"
    assert sorted(replies[0].json()) == ["details", "error"]


def test_a_revoked_key_is_refused_within_a_second(plane: PlaneProcess) -> None:
    """A key that is in use ends within one second of its revocation."""
    url = plane.settings.database_url
    key_id, key = new_key(url)
    with plane.client(key) as client:
        assert client.post(CHECK, json=body()).status_code == 200
        with_database(url, lambda database: keys.revoke(database, key_id))
        until = time.monotonic() + 1.0
        while (status := client.post(CHECK, json=body()).status_code) == 200 and time.monotonic() < until:
            time.sleep(0.02)
        assert status == 401


def test_body_of_another_user(plane: PlaneProcess, client: httpx.Client) -> None:
    """A key without the admin scope speaks for its own user only, on every endpoint that names one."""
    start = {"action": "start", "fileName": "a", "fileSize": 1}
    size = {"fileSize": 1}
    asked: dict[str, Mapping[str, object]] = {"/api/jetty/optimal-edges": size, CHECK: {}, "/api/jetty/track-upload": start}
    for path, fields in asked.items():
        reply = client.post(path, json={**body("usr_2"), **fields})
        assert (path, reply.status_code, reply.json()["error"]) == (path, 403, "forbidden")


def test_an_admin_acts_for_its_tenant(plane: PlaneProcess, admin: httpx.Client, client: httpx.Client) -> None:
    """An admin may do for a user of its tenant what the user may, and what it did is the user's."""
    asked = body()
    file_id = claim(admin, "usr_1", asked["fileHash"], "a.txt", 5)
    assert client.post(CHECK, json=asked).json()["file"]["fileId"] == file_id
    assert admin.post(CHECK, json=asked).json()["file"]["fileId"] == file_id
    assert admin.post(CHECK, json={**asked, "userId": "usr_admin"}).json()["isDuplicate"] is False


def test_an_admin_may_act_for_a_user_without_keys(admin: httpx.Client) -> None:
    """A back end with one key may act for users who have none."""
    assert admin.post(CHECK, json=body("usr_of_the_web_shop")).status_code == 200


def test_an_admin_does_not_act_for_another_tenant(plane: PlaneProcess, admin: httpx.Client) -> None:
    """A user whose keys are of another tenant is out of an admin's reach."""
    new_key(plane.settings.database_url, user="usr_far", tenant="globex")
    assert admin.post(CHECK, json=body("usr_far")).status_code == 403


def test_an_admin_sees_the_sessions_of_its_users(admin: httpx.Client, client: httpx.Client) -> None:
    """Chunks of an upload that an admin began for a user are reported by either."""
    begun = {**body(), "action": "start", "fileName": "a", "fileSize": 1}
    session_id = admin.post("/api/jetty/track-upload", json=begun).json()["session"]["sessionId"]
    for index, who in enumerate((admin, client)):
        sent = {"sessionId": session_id, "chunkIndex": index, "status": "completed"}
        assert who.post(CHUNK, json=sent).status_code == 200
    assert [who.get(CHUNK, params={"sessionId": session_id}).json()["total"] for who in (admin, client)] == [2, 2]


def test_scopes(plane: PlaneProcess) -> None:
    """A key that may only read does not write, one that may only write does not read."""
    url = plane.settings.database_url
    chunk = {"sessionId": str(uuid.uuid4()), "chunkIndex": 0, "status": "pending"}
    with plane.client(new_key(url, scopes=("read",))[1]) as reader:
        assert reader.post(CHECK, json=body()).status_code == 200
        assert reader.post(CHUNK, json=chunk).status_code == 403
    with plane.client(new_key(url, scopes=("write",))[1]) as writer:
        assert writer.post(CHECK, json=body()).status_code == 403
        assert writer.post(CHUNK, json=chunk).status_code == 200


def test_service_says_who_the_key_is(plane: PlaneProcess, client: httpx.Client) -> None:
    """A client learns its user, tenant and scopes, and what the store can do."""
    reply = client.get(SERVICE)
    assert reply.status_code == 200
    told = reply.json()
    assert (told["userId"], told["tenantId"], told["scopes"]) == ("usr_1", "acme", ["read", "write"])
    assert sorted(told) == ["dedup", "leaseSeconds", "scopes", "store", "tenantId", "userId", "version"]
    assert sorted(told["store"]) == ["checksum", "kind", "limits"]
    assert sorted(told["store"]["limits"]) == ["maxKeyBytes", "maxObject", "maxPart", "maxParts", "minPart"]
    assert told["dedup"] == {"scope": "tenant", "smallest": 4 << 20}


def test_the_log_has_no_secrets(plane: PlaneProcess) -> None:
    """A request's line names its route, status and user; no key, query, body or address of a page is in the log."""
    _, key = new_key(plane.settings.database_url, user="usr_logged")
    secret = uuid.uuid4().hex
    with plane.client(key) as client:
        sent = client.post(CHECK, json={"fileHash": f"sha256:{secret}", "userId": "usr_logged", "fileName": f"{secret}.doc"})
        client.get(CHUNK, params={"sessionId": secret})
        client.get(f"/api/jetty/{secret}")
        client.post(CHECK, json={"fileHash": 7, "userId": secret})
        client.post(CHECK, content=f"{{{secret}", headers={"Content-Type": "application/json", "X-Secret": secret})
    log = plane.log
    assert key not in log
    assert secret not in log
    line = next(one for one in lines_of(log) if one.get("requestId") == sent.headers["x-request-id"])
    assert sorted(line) == ["bytes", "level", "method", "ms", "requestId", "route", "status", "ts", "userId"]
    assert (line["route"], line["method"], line["status"], line["userId"]) == (CHECK, "POST", 200, "usr_logged")
    assert line["bytes"] == len(sent.content)


@pytest.mark.parametrize("path", ["/health", "/metrics", "/openapi.json"])
def test_paths_without_a_key(plane: PlaneProcess, path: str) -> None:
    """What monitors and tools read needs no key, and names no user."""
    with plane.client() as client:
        reply = client.get(path)
    assert reply.status_code == 200
    assert "usr_1" not in reply.text


def test_metrics(plane: PlaneProcess, client: httpx.Client) -> None:
    """Requests are counted by route template and status, chunks and bytes by what clients reported."""
    session = str(uuid.uuid4())
    sent = {"sessionId": session, "chunkIndex": 0, "status": "completed", "bytesUploaded": 1000}
    client.post(CHUNK, json=sent).raise_for_status()
    client.get(f"/api/jetty/{session}")
    text = client.get("/metrics").text
    assert f'jetty_requests_total{{method="POST",route="{CHUNK}",status="200"}}' in text
    assert f'jetty_request_seconds_bucket{{le="0.01",method="POST",route="{CHUNK}"}}' in text
    assert 'jetty_chunks_total{status="completed"}' in text
    assert "jetty_chunk_bytes_total" in text
    assert session not in text

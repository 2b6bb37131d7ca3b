"""Uploads through the service: what is signed, what is kept, and what is refused."""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import delete

from jettyctl.server.control.tables import session_states
from tests.server.hosts import Host, change, hosted, own_backend
from tests.support.servers import MotoServer, RcloneServer, Server
from tests.support.uploading import API, MIB, Sender, crc64, put, sha256


@pytest.fixture(scope="module", params=["local", "moto", pytest.param("rclone", marks=pytest.mark.slow)])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A service over each kind of store."""
    server: Server | None = None if request.param == "local" else request.getfixturevalue(request.param)
    directory = tmp_path_factory.mktemp("host")
    with own_backend(request, directory) as backend, hosted(backend, directory, server) as host:
        yield host


@pytest.fixture
def client(host: Host) -> Iterator[httpx.Client]:
    with host.client() as client:
        yield client


def a_key() -> str:
    return f"dir/{uuid.uuid4().hex}.bin"


SIZES = [0, 11 * MIB, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 5 * MIB, 5 * MIB + 1))]


@pytest.mark.parametrize("size", SIZES)
def test_an_upload_is_byte_identical(host: Host, client: httpx.Client, size: int) -> None:
    """What was sent by signed requests is what lies in the store, and what the service describes."""
    sender = Sender(client, os.urandom(size), a_key())
    begun = sender.begin()
    assert (begun.status_code, begun.json()["chunksTotal"], begun.json()["fence"]) == (201, sender.count, 1)
    sender.send(*range(1, sender.count + 1))
    answer = sender.finalize().raise_for_status().json()
    assert host.stored(sender.key) == sender.content
    assert (answer["size"], answer["crc64"], answer["fileHash"]) == (size, crc64(sender.content), sha256(sender.content))
    assert (answer["sessionId"], answer["status"]) == (sender.session_id, "completed")
    described = client.get(f"{API}/object", params={"key": sender.key}).raise_for_status().json()
    assert (described["size"], described["etag"], described["fileId"]) == (size, answer["etag"], answer["fileId"])
    content = client.get(answer["url"], follow_redirects=False)
    assert content.status_code == (307 if content.has_redirect_location else 200)
    got = httpx.get(content.headers["location"], trust_env=False) if content.has_redirect_location else content
    assert got.content == sender.content


def test_begin_is_idempotent(client: httpx.Client) -> None:
    """The same holder's repeat changes nothing; another holder, another file and another user are refused."""
    sender = Sender(client, os.urandom(10), a_key())
    first = sender.begin()
    again = sender.begin()
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    held = sender.begin(holder="holder-2")
    assert (held.status_code, held.json()["error"], held.json()["host"]) == (409, "session held", "test")
    assert held.json()["expiresIn"] > 0
    assert sender.begin(fileSize=11).json()["error"] == "another upload"
    assert sender.begin(key=a_key()).json()["error"] == "another upload"


def test_foreign_sessions_are_not_there(host: Host, client: httpx.Client) -> None:
    """Every route answers another user, and another tenant's, as if there were no such session."""
    sender = Sender(client, os.urandom(10), a_key())
    sender.begin().raise_for_status()
    sender.send(1)
    for user, tenant in (("usr_2", "acme"), ("usr_1", "other")):
        with host.client(user, tenant) as other:
            thief = Sender(other, sender.content, sender.key, session_id=sender.session_id, fence=sender.fence)
            session = f"{API}/uploads/{sender.session_id}"
            replies = [
                thief.begin(),
                thief.parts(wanted=[1]),
                other.get(f"{session}/parts"),
                thief.finalize(),
                other.delete(session),
                other.post(f"{API}/sessions/{sender.session_id}/lease", json={"holder": "x", "takeOver": True}),
                other.get(f"{API}/sessions/{sender.session_id}"),
            ]
            assert [reply.status_code for reply in replies] == [404] * len(replies)
    assert sender.finalize().status_code == 200


def test_a_tracked_upload_stays_its_owners(host: Host, client: httpx.Client) -> None:
    """The record of an upload is nobody else's to replace, also when the session's own state was pruned long ago."""
    told = {"action": "start", "userId": "usr_1", "fileName": "a", "fileHash": "x", "fileSize": 10}
    session_id = client.post(f"{API}/track-upload", json=told).raise_for_status().json()["session"]["sessionId"]
    change(host, delete(session_states).where(session_states.c.session_id == session_id))
    for user, tenant in (("usr_2", "acme"), ("usr_1", "other")):
        with host.client(user, tenant) as other:
            assert Sender(other, os.urandom(10), a_key(), session_id=session_id).begin().status_code == 404
    assert client.get(f"{API}/sessions/{session_id}").json()["fileName"] == "a"
    assert Sender(client, os.urandom(10), a_key(), session_id=session_id).begin().status_code == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ".jetty/by-hash/x"},
        {"key": ".JETTY/x"},
        {"key": "a//b"},
        {"key": "/a"},
        {"key": "a/../b"},
        {"key": "a\0b"},
        {"key": "x" * 1025},
        {"key": ""},
        {"chunkSize": 0},
        {"chunkSize": MIB, "fileSize": 2 * MIB + 1},
        {"chunkSize": 6 << 30, "fileSize": 7 << 30},
        {"fileSize": -1},
        {"fileSize": "10"},
        {"fileSize": 2**63},
        {"sessionId": "x"},
        {"sessionId": str(uuid.uuid4()).upper()},
        {"holder": ""},
        {"metadata": {"jetty-session": "x"}},
        {"metadata": {"a\nb": "x"}},
        {"metadata": {"a": "x\r\ny"}},
        {"metadata": {"a": "x" * 2100}},
        {"contentType": "a\nb"},
        {"ifExists": "skip"},
        {"fileHash": "sha256:short"},
    ],
    ids="-".join,
)
def test_what_cannot_be_is_refused(client: httpx.Client, changes: dict[str, object]) -> None:
    """Fields outside of what they may hold are 400, and leave nothing."""
    sender = Sender(client, os.urandom(10), a_key())
    reply = sender.begin(**changes)
    assert reply.status_code == 400
    assert set(reply.json()) == {"error", "details"}
    assert sender.parts(fence=1).status_code in (400, 404)  # the latter where its id can be one


def test_metadata_and_type_reach_the_store(client: httpx.Client) -> None:
    """What the client says of the object is kept with it, the session beside it."""
    sender = Sender(client, os.urandom(10), a_key())
    sender.upload(metadata={"colour": "green"}, contentType="text/plain")
    described = client.get(f"{API}/object", params={"key": sender.key}).json()
    assert described["metadata"] == {"colour": "green", "jetty-session": sender.session_id}


def test_a_part_must_be_one_of_the_layout(client: httpx.Client) -> None:
    """Numbers and lengths that the layout does not have are neither signed nor kept."""
    sender = Sender(client, os.urandom(6 * MIB), a_key())
    sender.begin().raise_for_status()
    claim = sender.claim(2)
    for wrong in ({**claim, "number": 3}, {**claim, "number": 0}, {**claim, "length": 5 * MIB}, {**claim, "crc64": "x"}):
        assert sender.parts(wanted=[]).status_code == 200
        assert sender.client.post(
            f"{API}/uploads/{sender.session_id}/parts", json={"fence": 1, "wanted": [wrong]}
        ).status_code == 400  # fmt: skip
    kept = sender.parts(completed=[{"number": 2, "etag": "e", "crc64": claim["crc64"], "length": 1, "edgeId": ""}])
    assert kept.status_code == 400


def test_stored_parts_are_the_stores(client: httpx.Client) -> None:
    """The list of parts is what the store has, whether it was told of or not; an upload that is gone is 410."""
    sender = Sender(client, os.urandom(11 * MIB), a_key())
    sender.begin().raise_for_status()
    sender.send(1, 3)
    listed = client.get(f"{API}/uploads/{sender.session_id}/parts").raise_for_status().json()["parts"]
    assert [(part["number"], part["size"]) for part in listed] == [(1, 5 * MIB), (3, MIB)]
    assert {part["crc64"] for part in listed} <= {None, *(crc64(sender.chunk(number)) for number in (1, 3))}
    assert client.delete(f"{API}/uploads/{sender.session_id}").status_code == 200
    assert client.delete(f"{API}/uploads/{sender.session_id}").status_code == 200
    assert client.get(f"{API}/uploads/{sender.session_id}/parts").status_code == 410
    assert sender.begin().status_code == 410
    assert sender.parts(wanted=[2]).status_code in (409, 410)
    assert client.get(f"{API}/sessions/{sender.session_id}").json()["status"] == "failed"


def test_an_existing_object_can_be_kept(client: httpx.Client) -> None:
    """With ifExists=fail an upload to a key that is taken is refused before the first byte, and also at the end."""
    early, late = Sender(client, os.urandom(10), a_key()), Sender(client, os.urandom(11), "")
    late.key = early.key
    late.begin(ifExists="fail").raise_for_status()
    late.send(1)
    early.upload()
    refused = late.finalize()
    assert (refused.status_code, refused.json()["error"]) == (409, "exists")
    first = Sender(client, os.urandom(12), early.key).begin(ifExists="fail")
    assert (first.status_code, first.json()["error"]) == (409, "exists")


def test_nobody_replaces_another_users_object(host: Host, client: httpx.Client) -> None:
    """Users of a tenant share its names, but not their objects, which others do not even see."""
    sender = Sender(client, os.urandom(10), a_key())
    sender.upload()
    with host.client("usr_2") as other:
        assert Sender(other, os.urandom(5), sender.key).begin().json()["error"] == "key taken"
        assert other.get(f"{API}/object", params={"key": sender.key}).status_code == 404
        assert other.get(f"{API}/object/content", params={"key": sender.key}).status_code == 404
    assert host.stored(sender.key) == sender.content


def test_an_overwritten_key_drops_its_older_reference(host: Host, client: httpx.Client) -> None:
    """The object is the newer one, and no file stands for bytes that are not there any more."""
    older, newer = Sender(client, os.urandom(10), a_key()), Sender(client, os.urandom(11), "")
    newer.key = older.key
    before = older.upload()
    after = newer.upload()
    assert host.stored(older.key) == newer.content
    files = client.get(f"{API}/files", params={"limit": 1000}).raise_for_status().json()["files"]
    mine = [file["fileId"] for file in files if file["key"] == older.key]
    assert mine == [after["fileId"]]
    assert client.delete(f"{API}/files/{before['fileId']}").status_code == 404


def test_a_removed_file_takes_its_object_along(host: Host, client: httpx.Client) -> None:
    """When nobody refers to an object any more, the store does not hold it."""
    sender = Sender(client, os.urandom(10), a_key())
    answer = sender.upload()
    with host.client("usr_2") as other:
        assert other.delete(f"{API}/files/{answer['fileId']}").status_code == 404
    assert client.delete(f"{API}/files/{answer['fileId']}").status_code == 200
    eventually(lambda: not host.exists(sender.key))
    assert client.get(f"{API}/object", params={"key": sender.key}).status_code == 404
    again = Sender(client, sender.content, sender.key)
    again.upload()
    assert host.stored(sender.key) == again.content


LATER = ["method", "number", "session", "length", "checksum", "expiry"]
CHANGES = ["key", "body", *(pytest.param(change, marks=pytest.mark.slow) for change in LATER)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_signed_request_is_good_for_nothing_else(host: Host, client: httpx.Client, change: str) -> None:
    """Whatever is changed in a signed request, it is refused, and the part is not there."""
    if isinstance(host.store, MotoServer):
        pytest.skip("moto verifies no signature")
    sender, other = Sender(client, os.urandom(6 * MIB), a_key()), Sender(client, os.urandom(6 * MIB), a_key())
    for one in (sender, other):
        one.begin().raise_for_status()
    (part,), (foreign,) = sender.sign(1), other.sign(1)
    reply = changed(change, part, foreign, sender.chunk(1))
    assert reply.status_code in (400, 403, 404, 405, 411, 501), reply.text
    listed = client.get(f"{API}/uploads/{sender.session_id}/parts")
    if listed.status_code == 410:  # rclone ends an upload with the first part that is not what its digest says
        assert (change, isinstance(host.store, RcloneServer)) == ("body", True)
        return
    assert listed.json()["parts"] == []
    assert put(part, sender.chunk(1)).status_code == 200  # as it was, it is good


def changed(change: str, part: dict[str, object], foreign: dict[str, object], content: bytes) -> httpx.Response:
    """The part's request with one thing changed."""
    url, foreign_url = str(part["url"]), str(foreign["url"])
    if change == "method":
        return put(part, content, method="POST")
    if change == "length":
        return put(part, content[:-1], headers={"content-length": str(len(content) - 1)})
    if change == "body":
        return put(part, content[:-1] + bytes([content[-1] ^ 1]))
    if "/blobs/" in url:
        said, _, signature = url.rpartition(".")
        foreign_said, _, _ = foreign_url.rpartition(".")
        if change == "session":
            return put(part, content, url=f"{foreign_said}.{signature}")
        return put(part, content, url=f"{said}x.{signature}" if change == "key" else altered(url, change))
    if change == "checksum":
        return put(part, content, headers={"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="})
    pieces = httpx.URL(url)
    query = dict(pieces.params)
    if change == "key":
        return put(part, content, url=str(pieces.copy_with(path=pieces.path + "x")))
    replaced = {
        "number": {"partNumber": "2"},
        "session": {"uploadId": dict(httpx.URL(foreign_url).params)["uploadId"]},
        "expiry": {"X-Amz-Expires": "86400"},
    }[change]
    return put(part, content, url=str(pieces.copy_with(params={**query, **replaced})))


def altered(url: str, change: str) -> str:
    """A token that says something else under the old signature."""
    head, _, token = url.rpartition("/")
    said, _, signature = token.partition(".")
    fields = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
    place, value = {"number": (2, 2), "checksum": (4, "0" * 16), "expiry": (6, fields[6] + 9999)}[change]
    fields[place] = value
    text = base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).rstrip(b"=").decode()
    return f"{head}/{text}.{signature}"


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)

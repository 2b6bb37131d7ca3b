"""Clones: who has the content gets it without sending it; whoever only knows of it learns and gets nothing."""

from __future__ import annotations

import os
import secrets
import statistics
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, insert, select, update

from jettyctl.core.possession import answer_of, proof
from jettyctl.server.control.objects import key_name
from jettyctl.server.control.tables import duty_leases, possession_nonces, stored_objects, user_file_references
from jettyctl.storage.local import LocalStore
from tests.server.hosts import Host, change, hosted, own_backend, rows, wait_for
from tests.support.databases import Backend
from tests.support.plane import lines_of
from tests.support.servers import Server
from tests.support.uploading import API, MIB, Sender, blake3_of, sha256, verified

NO_CLONE = {"error": "no clone", "details": "Send the file."}


@pytest.fixture(scope="module", params=["local", *(pytest.param(name, marks=pytest.mark.slow) for name in ("moto", "rclone"))])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A service over each kind of store."""
    server: Server | None = None if request.param == "local" else request.getfixturevalue(request.param)
    directory = tmp_path_factory.mktemp("host")
    with own_backend(request, directory) as backend, hosted(backend, directory, server) as host:
        yield host


@pytest.fixture(scope="module")
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A service with the embedded store."""
    directory = tmp_path_factory.mktemp("local")
    with own_backend(request, directory) as backend, hosted(backend, directory) as host:
        yield host


def stored(host: Host, size: int = 5 * MIB, user: str = "usr_1", tenant: str = "acme") -> Sender:
    """A verified object of a user."""
    with host.client(user, tenant) as client:
        sender = Sender(client, os.urandom(size), f"{uuid.uuid4().hex}.bin")
        sender.upload()
        verified(client, sender.key)
    return sender


def challenge(client: httpx.Client, content: bytes) -> dict[str, Any]:
    """POST challenge."""
    asked = {"size": len(content), "blake3": blake3_of(content)}
    answer: dict[str, Any] = client.post(f"{API}/clones/challenge", json=asked).raise_for_status().json()
    return answer


def proof_of(content: bytes, asked: dict[str, Any], user: str = "usr_2", claimed: bytes | None = None) -> str:
    """What `content` proves; `claimed` is the content that it should be."""
    whole, seed = claimed or content, bytes.fromhex(asked["seed"])
    digest = answer_of(seed, len(whole), lambda offset, length: content[offset : offset + length].ljust(length, b"\0"))
    return proof(digest, nonce=asked["nonce"], user_id=user, size=len(whole), blake3=blake3_of(whole), seed=seed)


def clone(client: httpx.Client, asked: dict[str, Any], given: str, **changes: object) -> httpx.Response:
    """POST clones."""
    body = {"nonce": asked["nonce"], "proof": given, "key": f"{uuid.uuid4().hex}.bin", "fileName": "mine.bin", **changes}
    return client.post(f"{API}/clones", json=body)


def test_who_has_the_content_gets_it(host: Host) -> None:
    """Another user of the tenant proves the content, and has an object of their own that outlives the first."""
    first = stored(host)
    with host.client("usr_2") as client:
        asked = challenge(client, first.content)
        key = f"mine/{uuid.uuid4().hex}.bin"
        reply = clone(client, asked, proof_of(first.content, asked), key=key, metadata={"own": "1"})
        made = reply.raise_for_status().json()
        assert (made["size"], made["fileHash"], made["savedBytes"]) == (len(first.content), sha256(first.content), 5 * MIB)
        assert made["savedCost"] == pytest.approx(5 / 1024 * 0.1, rel=1e-3)
        assert host.stored(key) == first.content
        described = client.get(f"{API}/object", params={"key": key}).json()
        assert described["verified"] is True
        assert described["metadata"]["own"] == "1"
        assert described["metadata"].get("jetty-session") != first.session_id
        check = client.post(f"{API}/check-duplicate", json={"fileHash": made["fileHash"], "userId": "usr_2"}).json()
        assert (check["isDuplicate"], check["file"]["fileId"], check["file"]["fileName"]) == (True, made["fileId"], "mine.bin")
        remove(host, first)
        assert host.stored(key) == first.content
        again = challenge(client, first.content)
        assert clone(client, again, proof_of(first.content, again)).status_code == 200


def remove(host: Host, sender: Sender, user: str = "usr_1") -> None:
    """Delete a user's file, object and all."""
    with host.client(user) as client:
        file_id = client.get(f"{API}/object", params={"key": sender.key}).json()["fileId"]
        client.delete(f"{API}/files/{file_id}").raise_for_status()
    wait_for(lambda: not host.exists(sender.key))


def test_a_reference_without_a_key_shares_one_copy(host: Host) -> None:
    """Users who ask for no key share one object, which goes with the last of them."""
    first = stored(host)
    shared = f".jetty/by-hash/{sha256(first.content).removeprefix('sha256:')}"
    made = {}
    for user in ("usr_2", "usr_3"):
        with host.client(user) as client:
            asked = challenge(client, first.content)
            made[user] = clone(client, asked, proof_of(first.content, asked, user), key=None).raise_for_status().json()
            assert "fileId=" in made[user]["url"]
            content = client.get(made[user]["url"], follow_redirects=False)
            if content.has_redirect_location:
                content = httpx.get(content.headers["location"], trust_env=False)
            assert content.content == first.content
    assert host.stored(shared) == first.content
    with host.client("usr_3") as client:
        assert client.get(f"{API}/object", params={"fileId": made["usr_2"]["fileId"]}).status_code == 404
        client.delete(f"{API}/files/{made['usr_3']['fileId']}").raise_for_status()
    time.sleep(0.5)
    assert host.exists(shared)
    with host.client("usr_2") as client:
        client.delete(f"{API}/files/{made['usr_2']['fileId']}").raise_for_status()
    wait_for(lambda: not host.exists(shared))


def test_every_refusal_is_alike(local: Host) -> None:
    """The hash alone, 99 % of the bytes, unknown content, a replay, another's nonce, an old one, none: the same answer."""
    first = stored(local, 20 * MIB)
    content = first.content
    most = bytearray(content)
    most[10 * MIB : 10 * MIB + len(content) // 100] = bytes(len(content) // 100)
    replies = {}
    with local.client("usr_2") as client, local.client("usr_3") as other:
        asked = challenge(client, content)
        replies["hash alone"] = clone(client, asked, proof_of(b"", asked, claimed=content))
        asked = challenge(client, content)
        replies["99 %"] = clone(client, asked, proof_of(bytes(most), asked, claimed=content))
        replies["burned"] = clone(client, asked, proof_of(content, asked))
        unknown = os.urandom(5 * MIB)
        asked = challenge(client, unknown)
        replies["unknown"] = clone(client, asked, proof_of(unknown, asked))
        asked = challenge(client, content)
        replies["another's nonce"] = clone(other, asked, proof_of(content, asked, "usr_3"))
        replies["another's name"] = clone(other, asked, proof_of(content, asked, "usr_2"))
        assert clone(client, asked, proof_of(content, asked)).status_code == 200  # and was not spent by that
        replies["replay"] = clone(client, asked, proof_of(content, asked))
        asked = challenge(client, content)
        change(local, update(possession_nonces).where(possession_nonces.c.nonce == asked["nonce"]).values(expires_at=long_ago()))
        replies["expired"] = clone(client, asked, proof_of(content, asked))
        replies["made up"] = clone(client, {"nonce": secrets.token_hex(32)}, "0" * 64)
        asked = challenge(client, content)
        replies["no proof"] = clone(client, asked, "x")
    seen = {(reply.status_code, reply.content, frozenset(reply.headers) - {"ratelimit"}) for reply in replies.values()}
    assert len(seen) == 1, replies
    assert next(iter(replies.values())).json() == NO_CLONE
    logged = [line for line in lines_of(local.plane.log) if line.get("event") == "clone refused"]
    assert {line["reason"] for line in logged} >= {"failed proof", "no such nonce", "expired", "unknown content"}
    assert len(logged) >= len(replies)
    assert not any(secret in local.plane.log for secret in (blake3_of(content), sha256(content)[7:]))


def long_ago() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=5)


def test_a_challenge_does_not_tell_what_is_known(local: Host) -> None:
    """Known or not, the answer has the same shape, a new seed and nonce each, and takes the same time."""
    first, unknown = stored(local), os.urandom(5 * MIB)
    known, random = blake3_of(first.content), blake3_of(unknown)
    took: dict[str, list[float]] = {known: [], random: []}
    with local.client("usr_2") as client:
        answers = []
        for _ in range(24):
            for blake3 in took:
                began = time.perf_counter()
                reply = client.post(f"{API}/clones/challenge", json={"size": 5 * MIB, "blake3": blake3})
                took[blake3].append(time.perf_counter() - began)
                answers.append(reply.raise_for_status().json())
    assert {frozenset(answer) for answer in answers} == {frozenset({"nonce", "seed", "expiresIn"})}
    assert len({answer["seed"] for answer in answers}) == len({answer["nonce"] for answer in answers}) == len(answers)
    assert {len(answer["seed"]) for answer in answers} == {64}
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) < 3 * min(medians)


def test_content_that_is_not_verified_is_not_known(local: Host) -> None:
    """A hash that was only claimed clones nothing, and what was really stored is known by its own."""
    with local.client("usr_liar") as liar:
        truth, wanted = os.urandom(5 * MIB), os.urandom(5 * MIB)
        sender = Sender(liar, truth, f"{uuid.uuid4().hex}.bin")
        sender.begin().raise_for_status()
        sender.send(1)
        sender.finalize(fileHash=sha256(wanted)).raise_for_status()
        verified(liar, sender.key)
    with local.client("usr_2") as client:
        asked = challenge(client, wanted)
        assert clone(client, asked, proof_of(wanted, asked)).status_code == 404
        asked = challenge(client, truth)
        made = clone(client, asked, proof_of(truth, asked)).raise_for_status().json()
        assert made["fileHash"] == sha256(truth)


def test_other_tenants_know_nothing(local: Host) -> None:
    """Content of another tenant is unknown, and its challenges are not used up; small content is the user's own only."""
    first, small = stored(local), stored(local, MIB)
    for user, tenant, content in (("usr_1", "other", first.content), ("usr_2", "acme", small.content)):
        with local.client(user, tenant) as client:
            asked = challenge(client, content)
            assert clone(client, asked, proof_of(content, asked, user)).status_code == 404
            fingerprint = {"size": len(content), "sample": sample_of(local, content)}
            assert client.post(f"{API}/fingerprint", json=fingerprint).json() == {"mayBeKnown": False}
    with local.client("usr_1") as client:
        asked = challenge(client, small.content)
        assert clone(client, asked, proof_of(small.content, asked, "usr_1")).status_code == 200
        fingerprint = {"size": MIB, "sample": sample_of(local, small.content)}
        assert client.post(f"{API}/fingerprint", json=fingerprint).json() == {"mayBeKnown": True}


def sample_of(host: Host, content: bytes) -> str:
    """The sample that the verifier computed."""
    found = rows(host, select(stored_objects.c.sample).where(stored_objects.c.blake3 == blake3_of(content)))
    return str(found[0].sample)


@pytest.mark.slow
def test_the_scope_is_the_operators(backend: Backend, tmp_path: Path) -> None:
    """Scope user: nobody else's content is known. Scope all: every tenant's from 4 MiB on, and the fingerprint tells nothing."""
    with hosted(backend, tmp_path, dedup_scope="user") as host:
        first = stored(host)
        with host.client("usr_2") as client:
            asked = challenge(client, first.content)
            assert clone(client, asked, proof_of(first.content, asked)).status_code == 404
    with hosted(backend, tmp_path, dedup_scope="all") as host, host.client("usr_2", "other") as client:
        unknown = {"size": 5 * MIB, "sample": "blake3:" + "0" * 64}
        assert client.post(f"{API}/fingerprint", json=unknown).json() == {"mayBeKnown": True}
        asked = challenge(client, first.content)
        key = f"{uuid.uuid4().hex}.bin"
        clone(client, asked, proof_of(first.content, asked), key=key).raise_for_status()
        assert host.stored(key, "other") == first.content


def test_the_key_is_checked_before_the_nonce_is_spent(local: Host) -> None:
    """A key that cannot be, is taken by another user, or is to be kept: refused, and the nonce is still good."""
    first = stored(local)
    mine = stored(local, 10, "usr_2")
    with local.client("usr_2") as client:
        asked = challenge(client, first.content)
        given = proof_of(first.content, asked)
        assert clone(client, asked, given, key=".jetty/x").status_code == 400
        assert clone(client, asked, given, key=first.key).json()["error"] == "key taken"
        assert clone(client, asked, given, key=mine.key, ifExists="fail").json()["error"] == "exists"
        assert local.stored(mine.key) == mine.content
        clone(client, asked, given, key=mine.key).raise_for_status()
        assert local.stored(mine.key) == first.content
        files = client.get(f"{API}/files", params={"limit": 1000}).json()["files"]
        assert [file["fileHash"] for file in files if file["key"] == mine.key] == [sha256(first.content)]


def test_a_clone_onto_the_object_itself(local: Host) -> None:
    """Who has the object there already keeps it."""
    first = stored(local)
    with local.client("usr_1") as client:
        asked = challenge(client, first.content)
        clone(client, asked, proof_of(first.content, asked, "usr_1"), key=first.key).raise_for_status()
    assert local.stored(first.key) == first.content


def test_nothing_of_the_first_user_shows(local: Host) -> None:
    """Name, time and tags of a clone are those of who made it."""
    with local.client("usr_1") as client:
        sender = Sender(client, os.urandom(5 * MIB), f"secret-{uuid.uuid4().hex}.bin")
        sender.upload(metadata={"secret-tag": "secret-value"}, contentType="application/x-secret")
        verified(client, sender.key)
    with local.client("usr_2") as client:
        asked = challenge(client, sender.content)
        made = clone(client, asked, proof_of(sender.content, asked), key=(key := f"{uuid.uuid4().hex}.bin"))
        replies = [
            made,
            client.get(f"{API}/object", params={"key": key}),
            client.get(f"{API}/files"),
            client.post(f"{API}/check-duplicate", json={"fileHash": sha256(sender.content), "userId": "usr_2"}),
        ]
        assert all(reply.status_code == 200 for reply in replies)
        assert not any("secret" in reply.text or "usr_1" in reply.text for reply in replies)


@contextmanager
def waiting(host: Host, client: httpx.Client, content: bytes, key: str, user: str) -> Iterator[Future[httpx.Response]]:
    """A clone to `key` that was proven, and waits for who writes the key; that one is done when the context ends."""
    asked, name = challenge(client, content), key_name(f"acme/{key}")
    held = {"name": name, "holder": "test", "expires_at": datetime.now(UTC) + timedelta(seconds=60)}
    change(host, insert(duty_leases).values(**held))
    with ThreadPoolExecutor(1) as pool:
        try:
            reply = pool.submit(clone, client, asked, proof_of(content, asked, user), key=key)
            wait_for(lambda: not rows(host, select(possession_nonces).where(possession_nonces.c.nonce == asked["nonce"])))
            time.sleep(0.3)
            yield reply
        finally:
            change(host, delete(duty_leases).where(duty_leases.c.name == name))


def test_a_clone_of_an_object_onto_itself_waits_for_its_removal(local: Host) -> None:
    """Who clones what is being removed is told to send it: no file stands for an object that is gone."""
    first = stored(local)
    with local.client() as client, waiting(local, client, first.content, first.key, "usr_1") as reply:
        assert isinstance(local.store, LocalStore)
        local.store.delete(f"acme/{first.key}")
        for table in (user_file_references, stored_objects):
            change(local, delete(table).where(table.c.storage_key == f"acme/{first.key}"))
    assert (reply.result().status_code, reply.result().json()) == (404, NO_CLONE)
    assert not rows(local, select(user_file_references).where(user_file_references.c.storage_key == f"acme/{first.key}"))


def test_a_clone_replaces_nothing_that_came_while_it_waited(local: Host) -> None:
    """A key that another user took while the clone waited for it stays theirs."""
    first, key = stored(local), f"{uuid.uuid4().hex}.bin"
    theirs = {
        "storage_key": f"acme/{key}", "tenant_id": "acme", "user_id": "usr_3", "object_key": key, "file_hash": "x", "size": 1,
        "etag": "x", "created_at": datetime.now(UTC),
    }  # fmt: skip
    with local.client("usr_2") as client, waiting(local, client, first.content, key, "usr_2") as reply:
        change(local, insert(stored_objects).values(**theirs))
    assert (reply.result().status_code, reply.result().json()["error"]) == (409, "key taken")
    assert not local.exists(key)

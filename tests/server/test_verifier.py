"""What the service finds out about the objects that it holds, and what it does about lies."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select, update

from jettyctl.server.control.tables import file_hashes, jobs, possession_seeds, stored_objects
from jettyctl.server.control.verifier import SEEDS
from tests.server.hosts import Host, change, hosted, own_backend, rows, wait_for
from tests.support.databases import Backend
from tests.support.servers import Server
from tests.support.uploading import API, MIB, Sender, blake3_of, crc64, sha256, verified


@pytest.fixture(scope="module", params=["local", *(pytest.param(name, marks=pytest.mark.slow) for name in ("moto", "rclone"))])
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


@pytest.mark.parametrize("size", [0, 1, 192 * 1024 + 1, 11 * MIB + 3])
def test_objects_are_read_and_known(host: Host, client: httpx.Client, size: int) -> None:
    """SHA-256, BLAKE3, CRC64 and the sample are computed, and challenges kept, of small objects too."""
    sender = Sender(client, os.urandom(size), f"{uuid.uuid4().hex}.bin")
    sender.upload()
    found = verified(client, sender.key)
    assert (f"sha256:{found['sha256']}", found["crc64"]) == (sha256(sender.content), crc64(sender.content))
    o, p = stored_objects.c, possession_seeds.c
    (row,) = rows(host, select(o.blake3, o.sample).where(o.object_key == sender.key))
    assert row.blake3 == blake3_of(sender.content)
    assert row.sample.startswith("blake3:")
    (count,) = rows(host, select(func.count()).where(p.blake3 == row.blake3, p.size == size))
    assert count[0] >= SEEDS
    wait_for(lambda: not rows(host, select(jobs.c.id).where(jobs.c.subject.like(f"%{sender.key}"))))


def test_a_lie_about_the_hash_is_put_right(host: Host, client: httpx.Client) -> None:
    """Bytes under another content's hash: the object, its file and the counts name what they are; the hash gains nothing."""
    truth, lie = os.urandom(1000), sha256(os.urandom(1000))
    sender = Sender(client, truth, f"{uuid.uuid4().hex}.bin")
    sender.begin().raise_for_status()
    sender.send(1)
    answer = sender.finalize(fileHash=lie).raise_for_status().json()
    assert answer["fileHash"] == lie
    found = verified(client, sender.key)
    assert f"sha256:{found['sha256']}" == sha256(truth)
    assert found["fileId"] == answer["fileId"]
    f = file_hashes.c
    assert rows(host, select(f.file_hash).where(f.file_hash == lie)) == []
    ((key, uploads, references),) = rows(
        host, select(f.storage_key, f.upload_count, f.reference_count).where(f.file_hash == sha256(truth))
    )
    assert (key.endswith(sender.key), uploads, references) == (True, 1, 1)
    files = client.get(f"{API}/files", params={"limit": 1000}).json()["files"]
    assert {file["fileHash"] for file in files if file["fileId"] == answer["fileId"]} == {sha256(truth)}
    assert "poisoned" in host.plane.log


def test_a_lie_takes_nothing_from_the_honest(host: Host, client: httpx.Client) -> None:
    """Who stored the content before keeps its row, its count and its object."""
    honest = Sender(client, os.urandom(1000), f"{uuid.uuid4().hex}.bin")
    honest.upload()
    verified(client, honest.key)
    with host.client("usr_liar") as other:
        liar = Sender(other, os.urandom(1000), f"{uuid.uuid4().hex}.bin")
        liar.begin().raise_for_status()
        liar.send(1)
        liar.finalize(fileHash=sha256(honest.content)).raise_for_status()
        verified(other, liar.key)
        check = {"fileHash": sha256(honest.content), "userId": "usr_liar"}
        assert other.post(f"{API}/check-duplicate", json=check).json()["isDuplicate"] is False
    f = file_hashes.c
    ((key, uploads, references),) = rows(
        host, select(f.storage_key, f.upload_count, f.reference_count).where(f.file_hash == sha256(honest.content))
    )
    assert (key.endswith(honest.key), uploads, references) == (True, 1, 1)


def test_an_object_that_changes_meanwhile_is_read_again(host: Host, client: httpx.Client) -> None:
    """What is found belongs to the object that is there: the one that replaced it is verified as itself."""
    first = Sender(client, os.urandom(30 * MIB), f"{uuid.uuid4().hex}.bin", chunk_size=10 * MIB)
    second = Sender(client, os.urandom(5 * MIB), first.key)
    second.begin().raise_for_status()
    second.send(1)
    first.upload()
    second.finalize().raise_for_status()
    wait_for(lambda: not rows(host, select(jobs.c.id).where(jobs.c.subject.like(f"%{first.key}"))))
    found = verified(client, first.key)
    assert f"sha256:{found['sha256']}" == sha256(second.content)


def test_few_challenges_left_are_filled_up(host: Host, client: httpx.Client) -> None:
    """When fewer than 8 are left the object is read again, though not more often than every quarter of an hour."""
    sender = Sender(client, os.urandom(1000), f"{uuid.uuid4().hex}.bin")
    sender.upload()
    verified(client, sender.key)
    asked = {"size": 1000, "blake3": blake3_of(sender.content)}
    seeds = {client.post(f"{API}/clones/challenge", json=asked).json()["seed"] for _ in range(SEEDS - 7)}
    assert len(seeds) == SEEDS - 7
    query = select(jobs.c.due_at).where(jobs.c.subject.like(f"%{sender.key}"))
    wait_for(lambda: bool(rows(host, query)))
    ((due,),) = rows(host, query)
    assert 600 < due.timestamp() - time.time() < 901
    change(host, update(jobs).where(jobs.c.subject.like(f"%{sender.key}")).values(due_at=jobs.c.created_at))
    p = possession_seeds.c
    left = select(func.count()).where(p.blake3 == asked["blake3"])
    wait_for(lambda: rows(host, left)[0][0] == SEEDS)


@pytest.mark.slow
def test_a_killed_verifier_is_replaced(backend: Backend, tmp_path: Path) -> None:
    """A job whose worker was killed is done by the next one, once its claim has run out."""
    with hosted(backend, tmp_path) as host, host.client() as client:
        sender = Sender(client, os.urandom(40 * MIB), f"{uuid.uuid4().hex}.bin", chunk_size=10 * MIB)
        sender.upload()
        os.kill(host.plane.pid, signal.SIGKILL)
    mine = jobs.c.subject.like(f"%{sender.key}")
    change(host, update(jobs).where(mine).values(due_at=jobs.c.created_at))  # as if a minute had passed
    with hosted(backend, tmp_path) as host, host.client() as client:
        assert f"sha256:{verified(client, sender.key)['sha256']}" == sha256(sender.content)

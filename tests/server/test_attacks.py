"""Who knows a hash, or nearly all bytes, or somebody's proof; who lies; who guesses keys; who names an edge that is none."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from jettyctl.core.possession import answer_of, proof
from jettyctl.server.control.tables import stored_objects
from tests.server.hosts import Host, hosted, own_backend, rows
from tests.support.databases import Backend
from tests.support.plane import UNLIMITED, PlaneProcess, new_key, plane_settings
from tests.support.uploading import API, MIB, Sender, blake3_of, sha256, verified

TRIES = 1_000
TRIES_EACH = 48  # half of them use up a challenge, of which a content has 32
TOLD = 0.55  # of an oracle: how often a guess of which of two things was asked about may be right
CHANGING = {"date", "x-request-id", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"}


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("attacked")
    with own_backend(request, directory) as backend, hosted(backend, directory) as host:
        yield host


def stored(host: Host) -> Sender:
    """A verified object of usr_1 in acme."""
    with host.client() as client:
        sender = Sender(client, os.urandom(5 * MIB), f"{uuid.uuid4().hex}.bin")
        sender.upload()
        verified(client, sender.key)
    return sender


@pytest.fixture(scope="module")
def victim(host: Host) -> Sender:
    """One for tests that use up few of its challenges."""
    return stored(host)


def challenge(client: httpx.Client, size: int, blake3: str) -> dict[str, Any]:
    reply = client.post(f"{API}/clones/challenge", json={"size": size, "blake3": blake3})
    asked: dict[str, Any] = reply.raise_for_status().json()
    return asked


def clone(client: httpx.Client, nonce: str, given: str, **changes: object) -> httpx.Response:
    body = {"nonce": nonce, "proof": given, "key": f"{uuid.uuid4().hex}.bin", "fileName": "mine.bin", **changes}
    return client.post(f"{API}/clones", json=body)


def proof_of(content: bytes, asked: dict[str, Any], *, user: str, size: int, blake3: str) -> str:
    """What these bytes prove of a content of this size and hash."""
    seed = bytes.fromhex(asked["seed"])
    digest = answer_of(seed, size, lambda offset, length: content[offset : offset + length].ljust(length, b"\0"))
    return proof(digest, nonce=asked["nonce"], user_id=user, size=size, blake3=blake3, seed=seed)


def attempt(number: int, client: httpx.Client, victim: Sender, partly: bytes, stolen: list[tuple[str, str]]) -> httpx.Response:
    """One of six ways to a clone without the bytes, in turn."""
    size, blake3 = len(victim.content), blake3_of(victim.content)
    match number % 6:
        case 0:  # the hash alone
            asked = challenge(client, size, blake3)
            return clone(client, asked["nonce"], secrets.token_hex(32))
        case 1:  # 97 % of the bytes
            asked = challenge(client, size, blake3)
            return clone(client, asked["nonce"], proof_of(partly, asked, user="usr_m", size=size, blake3=blake3))
        case 2:  # another user's nonce and proof
            nonce, given = stolen[number % len(stolen)]
            return clone(client, nonce, given)
        case 3:  # another user's proof for an own nonce
            asked = challenge(client, size, blake3)
            return clone(client, asked["nonce"], stolen[number % len(stolen)][1])
        case 4:  # other sizes
            other = (0, 1, size - 1, size + 1)[number // 6 % 4]
            asked = challenge(client, other, blake3)
            return clone(client, asked["nonce"], proof_of(victim.content, asked, user="usr_m", size=size, blake3=blake3))
        case _:  # no nonce that was ever given, and odd proofs
            odd = ("0" * 64, "", "\u0660" * 64, "x" * 128, "null")[number // 6 % 5] or "-"
            return clone(client, secrets.token_hex(32), odd)


def stolen_proofs(host: Host, victim: Sender, count: int) -> list[tuple[str, str]]:
    """Nonces and proofs of an honest user, seen on their way: the first half is used already."""
    found = []
    with host.client("usr_honest") as honest:
        blake3 = blake3_of(victim.content)
        for number in range(count):
            asked = challenge(honest, len(victim.content), blake3)
            given = proof_of(victim.content, asked, user="usr_honest", size=len(victim.content), blake3=blake3)
            if number < count // 2:
                assert clone(honest, asked["nonce"], given).status_code == 200
            found.append((asked["nonce"], given))
    return found


def no_clone_in(host: Host, attacker: httpx.Client, victim: Sender) -> None:
    """As many tries as there are challenges of a content that can be answered; in the end there still is one.

    Who has 99 % of the bytes passes once in 600 times, as `core/possession.py` says; with 97 % it is 3 in 1,000,000,000.
    """
    partly = bytearray(victim.content)
    hole = 3 * len(partly) // 100
    partly[2 * MIB : 2 * MIB + hole] = bytes(hole)
    stolen = stolen_proofs(host, victim, 6)
    seen = {attempt(number, attacker, victim, bytes(partly), stolen).content for number in range(TRIES_EACH)}
    assert seen == {b'{"error":"no clone","details":"Send the file."}'}
    assert attacker.get(f"{API}/files").json()["files"] == []
    with host.client("usr_honest") as honest:
        size, blake3 = len(victim.content), blake3_of(victim.content)
        asked = challenge(honest, size, blake3)
        given = proof_of(victim.content, asked, user="usr_honest", size=size, blake3=blake3)
        assert clone(honest, asked["nonce"], given).status_code == 200


def test_no_clone_without_the_bytes(host: Host) -> None:
    """The hash, most bytes, others' nonces and proofs, other sizes, and nonsense clone nothing."""
    with host.client("usr_m") as attacker:
        no_clone_in(host, attacker, stored(host))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_clone_in_a_thousand_tries(host: Host) -> None:
    """0 clones in 1,000 tries."""
    with host.client("usr_m") as attacker:
        for _ in range(-(-TRIES // TRIES_EACH)):
            no_clone_in(host, attacker, stored(host))


def looks(reply: httpx.Response) -> tuple[int, bytes, tuple[tuple[str, str], ...]]:
    headers = tuple(sorted((name, value) for name, value in reply.headers.items() if name not in CHANGING))
    return reply.status_code, reply.content, headers


def test_unknown_foreign_and_failed_look_alike(host: Host, victim: Sender) -> None:
    """Content that nobody has, that another tenant has, and that one cannot prove: the same answer, whatever was proven."""
    size, known, unknown = len(victim.content), blake3_of(victim.content), secrets.token_hex(32)
    seen = set()
    for user, tenant, blake3 in (("usr_m", "acme", known), ("usr_m", "acme", unknown), ("usr_m", "far", known)):
        with host.client(user, tenant) as client:
            asked = challenge(client, size, blake3)
            content = victim.content if tenant == "far" else b""
            seen.add(looks(clone(client, asked["nonce"], proof_of(content, asked, user=user, size=size, blake3=blake3))))
            fingerprint = {"size": size, "sample": f"blake3:{secrets.token_hex(32)}"}
            assert client.post(f"{API}/fingerprint", json=fingerprint).json() == {"mayBeKnown": False}
            check = {"fileHash": sha256(victim.content), "userId": user}
            assert client.post(f"{API}/check-duplicate", json=check).json()["isDuplicate"] is False
    assert len(seen) == 1


def auc(first: Sequence[float], second: Sequence[float]) -> float:
    """How often a value of the one is larger than one of the other, or the other way round: 0.5 tells nothing, 1 all."""
    ranked = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    ranks = sum(rank for rank, (_, of) in enumerate(ranked, 1) if of == 0)
    share = (ranks - len(first) * (len(first) + 1) / 2) / (len(first) * len(second))
    return max(share, 1 - share)


def told_by_time(client: httpx.Client, asks: Sequence[tuple[str, dict[str, Any]]], rounds: int) -> float:
    """How well the time of an answer tells two questions apart, which are asked in random order."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for which in (0, 1) if secrets.randbits(1) else (1, 0):
            path, body = asks[which]
            began = time.perf_counter()
            client.post(f"{API}/{path}", json=body)
            took[which].append(time.perf_counter() - began)
    return auc(*took)


ORACLES = ["challenge", "fingerprint", "check-duplicate", "clones"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("oracle", ORACLES)
def test_time_does_not_tell_what_another_tenant_has(host: Host, victim: Sender, oracle: str) -> None:
    """Content of another tenant and content of nobody take the same time to be refused."""
    size, known, unknown = len(victim.content), blake3_of(victim.content), secrets.token_hex(32)
    sample = rows(host, select(stored_objects.c.sample).where(stored_objects.c.blake3 == known))[0].sample
    with host.client("usr_m", "far") as client:
        nonces = {blake3: challenge(client, size, blake3)["nonce"] for blake3 in (known, unknown)}
        questions: dict[str, list[tuple[str, dict[str, Any]]]] = {
            "challenge": [("clones/challenge", {"size": size, "blake3": blake3}) for blake3 in (known, unknown)],
            "fingerprint": [
                ("fingerprint", {"size": size, "sample": one}) for one in (sample, f"blake3:{secrets.token_hex(32)}")
            ],
            "check-duplicate": [
                ("check-duplicate", {"fileHash": one, "userId": "usr_m"})
                for one in (sha256(victim.content), f"sha256:{secrets.token_hex(32)}")
            ],
            "clones": [
                ("clones", {"nonce": nonces[blake3], "proof": "0" * 64, "key": "k", "fileName": "f"})
                for blake3 in (known, unknown)
            ],
        }
        asks = questions[oracle]
        told = [told_by_time(client, asks, 1_000)]
        while told[-1] > TOLD and len(told) < 3:
            told.append(told_by_time(client, asks, 1_000))
    assert min(told) <= TOLD, told


def test_a_lie_is_given_to_nobody(host: Host) -> None:
    """Who uploads other bytes under a hash gives them to nobody who has the content, and their own are known by their own."""
    truth, poison = os.urandom(5 * MIB), os.urandom(5 * MIB)
    with host.client("usr_m") as liar, host.client("usr_v") as honest:
        sender = Sender(liar, poison, f"{uuid.uuid4().hex}.bin")
        sender.begin().raise_for_status()
        sender.send(1)
        check = {"fileHash": sha256(truth), "userId": "usr_v"}
        for moment in ("before", "claimed", "verified"):
            if moment == "claimed":
                sender.finalize(fileHash=sha256(truth)).raise_for_status()
            if moment == "verified":
                assert verified(liar, sender.key)["sha256"] == sha256(poison)[7:]
            assert honest.post(f"{API}/check-duplicate", json=check).json()["isDuplicate"] is False
            asked = challenge(honest, len(truth), blake3_of(truth))
            given = proof_of(truth, asked, user="usr_v", size=len(truth), blake3=blake3_of(truth))
            assert clone(honest, asked["nonce"], given).status_code == 404
        own = Sender(honest, truth, f"{uuid.uuid4().hex}.bin")
        own.upload()
        verified(honest, own.key)
        assert host.stored(own.key) == truth
        files = honest.get(f"{API}/files").json()["files"]
        assert [file["fileHash"] for file in files] == [sha256(truth)]
        files = liar.get(f"{API}/files", params={"limit": 1000}).json()["files"]
        assert [file["fileHash"] for file in files if file["key"] == sender.key] == [sha256(poison)]


def test_a_clone_takes_no_session_of_another(host: Host) -> None:
    """A clone under the session of somebody else's upload is not taken for what that upload makes."""
    content = stored(host).content
    size, blake3 = len(content), blake3_of(content)
    with host.client("usr_m") as attacker, host.client("usr_v") as honest:
        upload = Sender(honest, os.urandom(size), f"{uuid.uuid4().hex}.bin")
        upload.begin().raise_for_status()
        upload.send(1)
        asked = challenge(attacker, size, blake3)
        given = proof_of(content, asked, user="usr_m", size=size, blake3=blake3)
        made = clone(attacker, asked["nonce"], given, key=upload.key, sessionId=upload.session_id)
        assert made.status_code == 200
        described = attacker.get(f"{API}/object", params={"key": upload.key}).json()
        assert upload.session_id not in str(described["metadata"])
        assert upload.finalize().json()["error"] == "key taken"
        assert upload.key not in [file["key"] for file in honest.get(f"{API}/files").json()["files"]]
        assert host.stored(upload.key) == content


@pytest.mark.slow
def test_guessing_keys(backend: Backend, tmp_path: Path) -> None:
    """200 guesses are 401 until they are 429, those that begin as a good key does too; the good key is served all the while."""
    usual = {name: limit for name, limit in UNLIMITED.items() if name != "auth-failures"}
    key = new_key(backend.database_url)[1]
    with (
        PlaneProcess(plane_settings(backend, tmp_path, limits=usual), tmp_path) as plane,
        plane.client(key) as good,
        plane.client() as bad,
    ):
        seen = []
        for number in range(200):
            guess = (key[: number % len(key)] + secrets.token_urlsafe(32), key + "x", key.swapcase(), key[:-1])[number % 4]
            reply = bad.get(f"{API}/service", headers={"Authorization": f"Bearer {guess}"})
            seen.append(reply.status_code)
            if number % 20 == 0:
                assert good.get(f"{API}/service").status_code == 200
        assert set(seen[:30]) == {401}
        assert set(seen[30:]) == {429}
        log = plane.log
    assert key not in log
    assert key[:12] not in log


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_time_does_not_tell_how_much_of_a_key_is_right(host: Host) -> None:
    """All but the last character of a good key, and none of it, take the same time to be refused."""
    key = new_key(host.plane.settings.database_url)[1]
    told: list[float] = []
    with host.plane.client() as client:
        while not told or (told[-1] > TOLD and len(told) < 3):
            took: tuple[list[float], list[float]] = ([], [])
            for _ in range(2_000):
                for which in (0, 1) if secrets.randbits(1) else (1, 0):
                    guess = f"jty_{secrets.token_urlsafe(32)}" if which else key[:-2] + secrets.token_urlsafe(32)[:2]
                    began = time.perf_counter()
                    client.get(f"{API}/service", headers={"Authorization": f"Bearer {guess}"})
                    took[which].append(time.perf_counter() - began)
            told.append(auc(*took))
    assert min(told) <= TOLD, told


@pytest.mark.skipif("config.getoption('--backend') != 'sqlite'", reason="reads the file")
def test_the_database_authenticates_nobody(host: Host) -> None:
    """No text that the database holds is a key, nor is there any part of one."""
    path = host.plane.settings.database_url.removeprefix("sqlite:///")
    key = new_key(host.plane.settings.database_url)[1]
    with sqlite3.connect(path) as connection:
        dump = "\n".join(connection.iterdump())
        stored = [str(value) for row in connection.execute("SELECT * FROM api_keys") for value in row]
    connection.close()
    assert not [start for start in range(4, len(key) - 8) if key[start : start + 8] in dump]
    with host.plane.client() as client:
        for value in [*stored, *(f"jty_{value}" for value in stored)]:
            headers = {b"Authorization": f"Bearer {value}".encode()}
            assert client.get(f"{API}/service", headers=headers).status_code == 401


def test_what_no_edge_may_be(host: Host) -> None:
    """Not even an admin names an edge by a file, with a password, or what is no address: and a password is not repeated."""
    with host.client("usr_admin", scopes=("read", "write", "admin")) as admin:
        for url in ("file:///etc/passwd", "http://u:hunter2@edge.example", "javascript:alert(1)", "http://e/\r\nX: y", "http://e:0"):
            reply = admin.put(f"{API}/edges/bad-1", json={"url": url})
            assert (url, reply.status_code) == (url, 400)
            assert "hunter2" not in reply.text
        assert "bad-1" not in [edge["id"] for edge in admin.get(f"{API}/edges").json()["edges"]]
    assert "hunter2" not in host.plane.log

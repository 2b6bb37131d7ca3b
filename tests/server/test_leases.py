"""Leases and fences: of all who think that they own a session, one can change it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.server.hosts import Host, hosted, own_backend
from tests.support.uploading import API, MIB, Sender, put

LEASE = 1.0  # seconds


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("host")
    with own_backend(request, directory) as backend, hosted(backend, directory, lease_seconds=LEASE) as host:
        yield host


@pytest.fixture
def client(host: Host) -> Iterator[httpx.Client]:
    with host.client() as client:
        yield client


def take(sender: Sender, holder: str, *, over: bool = False) -> httpx.Response:
    """POST lease."""
    body = {"holder": holder, "host": f"host of {holder}", "takeOver": over}
    return sender.client.post(f"{API}/sessions/{sender.session_id}/lease", json=body)


def begun(client: httpx.Client, size: int = 6 * MIB) -> Sender:
    """An upload by holder-1."""
    sender = Sender(client, os.urandom(size), f"{uuid.uuid4().hex}.bin")
    sender.begin().raise_for_status()
    return sender


def test_a_live_lease_is_only_taken_over_on_purpose(client: httpx.Client) -> None:
    """Another holder hears who has it and for how long; who takes over raises the fence; the same holder keeps it."""
    sender = begun(client)
    assert take(sender, "holder-1").json()["fence"] == 1
    held = take(sender, "holder-2")
    assert (held.status_code, held.json()["error"], held.json()["host"]) == (409, "session held", "host of holder-1")
    assert 0 < held.json()["expiresIn"] <= LEASE
    taken = take(sender, "holder-2", over=True).raise_for_status().json()
    assert (taken["fence"], taken["session"]["sessionId"], taken["session"]["host"]) == (2, sender.session_id, "host of holder-2")
    assert take(sender, "holder-1").status_code == 409


def test_who_was_taken_over_changes_nothing(client: httpx.Client) -> None:
    """With the old fence nothing is kept, signed, stored or completed; the new holder goes on."""
    sender = begun(client)
    (old_part,) = sender.sign(1)
    fence = take(sender, "holder-2", over=True).json()["fence"]
    receipt = {"number": 1, "etag": "e", "crc64": "0" * 16, "length": 5 * MIB, "edgeId": ""}
    stale = [
        sender.parts(wanted=[1]),
        sender.parts(completed=[receipt]),
        put(old_part, sender.chunk(1)),
        sender.finalize(),
        sender.begin(),
    ]
    assert [reply.status_code for reply in stale] == [409] * 5
    assert {reply.json()["error"] for reply in stale[:4]} == {"stale lease"}
    assert client.get(f"{API}/uploads/{sender.session_id}/parts").json()["parts"] == []
    sender.fence = fence
    sender.send(1, 2)
    assert sender.finalize().status_code == 200


@pytest.mark.slow
def test_a_lease_that_ran_out_is_anybodys(client: httpx.Client) -> None:
    """Without a fenced call it runs out, and is taken without force; every fenced call prolongs it."""
    sender = begun(client)
    for _ in range(3):
        time.sleep(LEASE / 2)
        assert take(sender, "holder-2").status_code == 409
        sender.parts().raise_for_status()
    time.sleep(LEASE * 1.2)
    assert sender.parts().status_code == 200  # nobody took it: the fence still is the current one
    time.sleep(LEASE * 1.2)
    assert take(sender, "holder-2").json()["fence"] == 2
    assert sender.parts().json()["error"] == "stale lease"


def test_take_overs_at_once_each_get_a_fence_of_their_own(client: httpx.Client) -> None:
    """Of 20 that take over at the same time no two have the same fence, and only the highest is good."""
    sender = begun(client)
    with ThreadPoolExecutor(20) as pool:
        fences = [*pool.map(lambda n: take(sender, f"taker-{n}", over=True).json()["fence"], range(20))]
    assert sorted(fences) == [*range(2, 22)]
    replies = {fence: sender.parts(fence=fence).status_code for fence in fences}
    assert {fence for fence, status in replies.items() if status == 200} == {max(fences)}


def test_two_holders_race(client: httpx.Client) -> None:
    """While two take the session from each other, no call is accepted that began after a higher fence was given."""
    sender = begun(client)
    highest = [1]
    accepted: list[tuple[int, int]] = []  # the fence of a call, the highest known before it

    def fight(holder: str) -> None:
        for _ in range(15):
            reply = take(sender, holder, over=True)
            fence: int = reply.json()["fence"]
            highest[0] = max(highest[0], fence)
            for _ in range(3):
                known = highest[0]
                if sender.parts(fence=fence).status_code == 200:
                    accepted.append((fence, known))

    with ThreadPoolExecutor(2) as pool:
        [*pool.map(fight, ("a", "b"))]
    assert accepted
    assert all(fence >= known for fence, known in accepted)


def test_sessions_are_listed_with_who_has_them(host: Host, client: httpx.Client) -> None:
    """A user sees their own sessions; an admin of the tenant a user's; others nobody else's."""
    sender = begun(client)
    listed = client.get(f"{API}/sessions", params={"status": "in_progress"}).raise_for_status().json()["sessions"]
    mine: dict[str, Any] = next(one for one in listed if one["sessionId"] == sender.session_id)
    assert (mine["key"], mine["chunksTotal"], mine["host"], mine["fileUrl"]) == (sender.key, 2, "test", None)
    assert 0 < mine["leaseExpiresIn"] <= LEASE
    with host.client("usr_2") as other:
        assert other.get(f"{API}/sessions").json()["sessions"] == []
        assert other.get(f"{API}/sessions", params={"userId": "usr_1"}).status_code == 403
    with host.client("usr_admin", scopes=("admin",)) as admin:
        seen = admin.get(f"{API}/sessions", params={"userId": "usr_1"}).raise_for_status().json()["sessions"]
        assert sender.session_id in [one["sessionId"] for one in seen]

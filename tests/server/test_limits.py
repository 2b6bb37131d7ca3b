"""How many requests a user has: exact, told in headers, and one limit for all processes."""

from __future__ import annotations

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.databases import Backend
from tests.support.plane import UNLIMITED, PlaneProcess, new_key, plane_settings

CHECK = "/api/jetty/check-duplicate"
CHUNK = "/api/jetty/cache-chunk"
LIMIT = 120


def ask(client: httpx.Client) -> httpx.Response:
    """One question for what nobody has."""
    return client.post(CHECK, json={"fileHash": f"sha256:{uuid.uuid4().hex}", "userId": "usr_1"})


def flood(clients: list[httpx.Client], requests: int) -> Counter[int]:
    """So many requests from eight threads, shared out over the clients: statuses."""
    with ThreadPoolExecutor(8) as threads:
        return Counter(threads.map(lambda index: ask(clients[index % len(clients)]).status_code, range(requests)))


@pytest.fixture
def limited_plane(backend: Backend, tmp_path: Path) -> PlaneProcess:
    """A service, not started, with the contract's limit of check-duplicate."""
    return PlaneProcess(plane_settings(backend, tmp_path, limits={**UNLIMITED, "check-duplicate": LIMIT}), tmp_path)


@pytest.mark.slow
def test_ten_times_the_limit(limited_plane: PlaneProcess) -> None:
    """Of ten times the limit the limit is accepted, and the rest is told when to come back."""
    key = new_key(limited_plane.settings.database_url)[1]
    with limited_plane as plane, plane.client(key) as client:
        first = ask(client)
        assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == (str(LIMIT), str(LIMIT - 1))
        assert 1 <= int(first.headers["ratelimit-reset"]) <= 60
        seen = flood([client], 10 * LIMIT - 1)
        assert seen == {200: LIMIT - 1, 429: 9 * LIMIT}
        refused = ask(client)
        assert (refused.status_code, refused.json()["error"]) == (429, "too many requests")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit-remaining"] == "0"


def test_each_bucket_and_user_has_its_own(limited_plane: PlaneProcess) -> None:
    """A user who used up one bucket has the others left, and other users have theirs."""
    url = limited_plane.settings.database_url
    with (
        limited_plane as plane,
        plane.client(new_key(url)[1]) as client,
        plane.client(new_key(url)[1]) as second_key,
        plane.client(new_key(url, user="usr_2")[1]) as other,
    ):
        flood([client], LIMIT)
        assert ask(client).status_code == 429
        assert ask(second_key).status_code == 429
        assert client.get(CHUNK, params={"sessionId": "x"}).status_code == 200
        assert other.post(CHECK, json={"fileHash": "x", "userId": "usr_2"}).status_code == 200


@pytest.mark.slow
def test_two_processes_share_a_limit(limited_plane: PlaneProcess, tmp_path: Path) -> None:
    """Two services on one database accept one limit together, within 5 %, and never more."""
    settings = limited_plane.settings
    key = new_key(settings.database_url)[1]
    with (
        limited_plane as one,
        PlaneProcess(settings, tmp_path) as two,
        one.client(key) as first,
        two.client(key) as second,
    ):
        accepted = flood([first, second], 4 * LIMIT)[200]
    assert 0.95 * LIMIT <= accepted <= LIMIT


@pytest.mark.slow
def test_a_limit_outlives_the_process(limited_plane: PlaneProcess, tmp_path: Path) -> None:
    """Who used up the minute gets no new one from a restart."""
    key = new_key(limited_plane.settings.database_url)[1]
    with limited_plane as plane, plane.client(key) as client:
        flood([client], LIMIT)
    with PlaneProcess(limited_plane.settings, tmp_path) as again, again.client(key) as client:
        assert ask(client).status_code == 429


def test_bad_keys_are_counted_by_address(backend: Backend, tmp_path: Path) -> None:
    """After 30 bad keys in a minute an address is told to wait; a good key from there is still served."""
    usual = {name: limit for name, limit in UNLIMITED.items() if name != "auth-failures"}
    settings = plane_settings(backend, tmp_path, limits=usual)
    key = new_key(backend.database_url)[1]
    with PlaneProcess(settings, tmp_path) as plane, plane.client(key) as client, plane.client("jty_guess") as guesser:
        assert flood([guesser], 60) == {401: 30, 429: 30}
        assert "retry-after" in ask(guesser).headers
        assert ask(client).status_code == 200


@pytest.mark.skipif("config.getoption('--backend') == 'sqlite'", reason="several workers need Postgres")
def test_workers_share_a_limit_and_count_together(backend: Backend, tmp_path: Path) -> None:
    """Worker processes of one service accept one limit together, and any of them tells the metrics of all."""
    settings = plane_settings(backend, tmp_path, limits={**UNLIMITED, "check-duplicate": LIMIT}, workers=2)
    key = new_key(backend.database_url)[1]
    with PlaneProcess(settings, tmp_path) as plane:
        clients = [plane.client(key) for _ in range(8)]  # whose connections the workers share
        seen = flood(clients, 4 * LIMIT)
        assert 0.95 * LIMIT <= seen[200] <= LIMIT
        metrics = clients[0].get("/metrics").text
        for client in clients:
            client.close()
    for status, count in seen.items():
        assert f'jetty_requests_total{{method="POST",route="{CHECK}",status="{status}"}} {count}.0' in metrics

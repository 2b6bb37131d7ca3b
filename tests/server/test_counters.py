"""What counters promise, in each run: the database's on SQLite and on Postgres, and Valkey's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jettyctl.server.control.counters import Counters, open_counters
from jettyctl.server.control.redis_client import PAUSE
from jettyctl.server.control.settings import Settings
from tests.server.playing import play
from tests.support.databases import Backend, Valkey, postgres_backend, sqlite_backend

Story = Callable[[Counters], Awaitable[None]]


@pytest.fixture(params=["sqlite", "postgres", "valkey"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """Each in turn, whatever the run's own backend is."""
    if request.param == "sqlite":
        with sqlite_backend(tmp_path) as made:
            yield made
        return
    with postgres_backend(request.getfixturevalue("postgres"), request.getfixturevalue("valkey")) as made:
        yield made if request.param == "valkey" else replace(made, redis_url=None)


def count(backend: Backend, story: Story) -> None:
    """Await `story(counters)`."""

    async def run(database: object) -> None:
        async with open_counters(Settings(backend.database_url, backend.redis_url), database) as counters:  # type: ignore[arg-type]
            await story(counters)

    play(backend, run)


def test_a_count(backend: Backend) -> None:
    """Each call says the total so far and what is left of the window; names do not meet."""

    async def story(counters: Counters) -> None:
        assert [(await counters.add("a", amount, 60))[0] for amount in (1, 5, 2)] == [1, 6, 8]
        total, left = await counters.add("b", 3, 30)
        assert total == 3
        assert 29 < left <= 30
        assert 58 < (await counters.add("a", 1, 60))[1] <= 60

    count(backend, story)


def test_a_window_ends(backend: Backend) -> None:
    """The first call after its end begins a new window, which lasts as long as that call says."""

    async def story(counters: Counters) -> None:
        await counters.add("a", 5, 1)
        await asyncio.sleep(0.6)
        total, left = await counters.add("a", 1, 1)
        assert total == 6
        assert left < 0.5  # a later call does not lengthen it
        await asyncio.sleep(0.6)
        total, left = await counters.add("a", 1, 60)
        assert total == 1
        assert left > 58

    count(backend, story)


def test_many_count_at_once(backend: Backend) -> None:
    """No call is lost: of many at once every one sees a total of its own."""

    async def story(counters: Counters) -> None:
        found = await asyncio.gather(*(counters.add("a", 1, 60) for _ in range(100)))
        assert sorted(total for total, _ in found) == [*range(1, 101)]

    count(backend, story)


def test_long_names_of_any_text(backend: Backend) -> None:
    """A name may be 400 characters of any script."""

    async def story(counters: Counters) -> None:
        name = "track-upload:acme:" + "ü" * 380
        await counters.add(name, 1, 60)
        assert (await counters.add(name, 1, 60))[0] == 2

    count(backend, story)


@pytest.mark.parametrize("backend", ["valkey"], indirect=True)
def test_valkey_goes_away(backend: Backend, valkey: Valkey) -> None:
    """While Valkey is away the database counts, from zero; when it is back it counts again."""

    async def story(counters: Counters) -> None:
        assert (await counters.add("a", 7, 60))[0] == 7
        valkey.kill()
        assert [(await counters.add("a", 1, 60))[0] for _ in range(3)] == [1, 2, 3]
        valkey.restart()
        await asyncio.sleep(PAUSE)
        assert (await counters.add("a", 1, 60))[0] == 1

    count(backend, story)

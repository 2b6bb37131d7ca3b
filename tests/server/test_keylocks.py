"""The right to write a key: kept while its holder works, and free soon after it was killed."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from jettyctl.server.control import keylocks
from jettyctl.server.control.database import Database, DatabaseDown
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.keylocks import Held, renewing, writing
from jettyctl.server.control.objects import key_name
from jettyctl.server.control.tables import duty_leases
from tests.server.playing import play
from tests.support.databases import Backend


def test_one_writer(backend: Backend) -> None:
    """Who waits gets the key when the holder is done, or when a killed one's lease has run out; the old holder has lost it."""

    async def story(database: Database) -> None:
        async with writing(database, "a") as first, writing(database, "b"):
            with pytest.raises(ApiError):
                async with writing(database, "a", wait=0.3):
                    pass
            await first.confirm()
        killed = Held(database, key_name("a"))
        assert await killed.take()
        async with database.begin() as connection:
            await connection.execute(update(duty_leases).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        async with writing(database, "a", wait=0.3) as second:
            with pytest.raises(ApiError):
                await killed.confirm()
            await killed.release()
            await second.confirm()

    play(backend, story)


def test_a_waiter_outlives_a_killed_holder() -> None:
    """One call is enough: it waits for longer than the lease of a process that was killed right after taking it."""
    assert keylocks.WAIT_SECONDS > keylocks.SECONDS + 1


@pytest.mark.slow
def test_a_renewal_that_failed_is_tried_again_soon() -> None:
    """While the database is away every second; after that as usual."""
    calls: list[float] = []

    async def renew() -> None:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise DatabaseDown("away")

    async def story() -> None:
        async with renewing(renew, 2.0):
            await asyncio.sleep(3.5)

    asyncio.run(story())
    assert len(calls) == 2
    assert calls[1] - calls[0] < 1.5

"""What `Database` adds to its drivers: a call that was cut off holds nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import delete, text

from jettyctl.server.control.database import Database
from jettyctl.server.control.tables import duty_leases

Run = Callable[[Callable[[Database], Coroutine[Any, Any, None]]], None]

# Many rows, and the first of them takes a while: when the answer to the call comes, the statement is not at its end.
SLOW = """
    WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000)
    SELECT (SELECT max(x) FROM n), version_num, row_nr
    FROM alembic_version, (SELECT 1 AS row_nr UNION ALL SELECT 2 UNION ALL SELECT 3) AS rows_of_it
"""


def test_a_read_that_was_cut_off_holds_up_no_write(run: Run) -> None:
    """Cancelled in the middle, with its error kept, so that no garbage collection sets its lock free."""

    async def slow(database: Database) -> None:
        async with database.read() as connection:
            await connection.execute(text(SLOW))

    async def story(database: Database) -> None:
        reading = asyncio.create_task(slow(database))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError) as kept:
            await reading
        async with asyncio.timeout(5), database.begin() as connection:
            await connection.execute(delete(duty_leases))
        assert kept.tb

    run(story)

"""One writer for each key of the store, among all processes: making an object, copying one, removing one.

The store itself knows no order between a Complete and a delete; the rows of `duty_leases` make one. A holder that was
killed blocks its key until its lease runs out.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sqlalchemy import ColumnElement, delete, update

from jettyctl.server.control.database import Database, DatabaseDown
from jettyctl.server.control.duty import server_time
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.objects import key_name
from jettyctl.server.control.tables import duty_leases

SECONDS = 20.0  # of a lease; renewed at a third of it
WAIT_SECONDS = 25.0  # longer than the lease of one that was killed
SOON_SECONDS = 1.0  # until the next try of a renewal that failed
LOOK_SECONDS = 0.1


class Held:
    """A lock that this process has, or had."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._holder = secrets.token_hex(16)

    async def take(self) -> bool:
        """Whether it is ours now."""
        write = self._database.insert(duty_leases).values(
            name=self._name, holder=self._holder, expires_at=server_time(self._database, SECONDS)
        )
        write = write.on_conflict_do_update(
            index_elements=["name"],
            set_={"holder": write.excluded.holder, "expires_at": write.excluded.expires_at},
            where=duty_leases.c.expires_at <= server_time(self._database),
        )
        async with self._database.begin() as connection:
            return (await connection.execute(write.returning(duty_leases.c.holder))).first() is not None

    async def confirm(self) -> None:
        """Renew it. Raises ApiError 503 if another has it meanwhile: nothing may be written any more."""
        renewal = update(duty_leases).where(*self._mine()).values(expires_at=server_time(self._database, SECONDS))
        async with self._database.begin() as connection:
            if (await connection.execute(renewal)).rowcount != 1:
                raise busy()

    async def release(self) -> None:
        with contextlib.suppress(DatabaseDown):  # it runs out by itself
            async with self._database.begin() as connection:
                await connection.execute(delete(duty_leases).where(*self._mine()))

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        return duty_leases.c.name == self._name, duty_leases.c.holder == self._holder


@asynccontextmanager
async def writing(database: Database, storage_key: str, *, wait: float = WAIT_SECONDS) -> AsyncIterator[Held]:
    """Be the one writer of a key. Raises ApiError 503 if another is for longer than `wait` seconds."""
    held = Held(database, key_name(storage_key))
    deadline = time.monotonic() + wait
    while not await held.take():
        if time.monotonic() >= deadline:
            raise busy()
        await asyncio.sleep(LOOK_SECONDS)
    async with renewing(held.confirm, SECONDS / 3):
        try:
            yield held
        finally:
            await held.release()


@asynccontextmanager
async def renewing(renew: Callable[[], Awaitable[None]], seconds: float) -> AsyncIterator[None]:
    """Renew something now and then while the context lasts. What cannot be renewed shows when it is confirmed.

    A database that is away for a moment is asked again soon: when it is back, others may take what has run out.
    It is never cut off half-way: the database's connection would be lost with it.
    """
    over = asyncio.Event()

    async def keep() -> None:
        wait = seconds
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), wait)
                return
            wait = seconds
            try:
                await renew()
            except DatabaseDown:
                wait = min(seconds, SOON_SECONDS)
            except ApiError:
                pass

    keeping = asyncio.create_task(keep())
    try:
        yield
    finally:
        over.set()
        await asyncio.wait([keeping])


async def forget_all(database: Database) -> None:
    """Free every key: for a service that is one process, and starts."""
    async with database.begin() as connection:
        await connection.execute(delete(duty_leases).where(duty_leases.c.name.startswith("key-")))


def busy() -> ApiError:
    """The same call succeeds when the other writer is done."""
    return ApiError(503, "busy", "Another request works on this object. Try again.", headers={"Retry-After": "2"})

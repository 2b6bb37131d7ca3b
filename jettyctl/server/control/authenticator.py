"""Keys to principals, and users to tenants.

A key that was found is kept for a minute. Which keys were revoked is believed for less than a second, so that a revoked
one is refused within one; it is asked again before that, once for all keys, while requests go on with the old answer.
Unknown, revoked, expired, malformed and missing keys get one and the same answer.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from jettyctl.server.control import failures, keys
from jettyctl.server.control.database import Database
from jettyctl.server.control.keys import KeyRecord
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.tickets import Tickets

BELIEVED = 0.9  # seconds
KEPT = 60.0  # seconds that a key's record is; what may change of it is asked by itself
FAILURES = "auth-failures"  # the bucket of bad keys, by client address
FAILURES_A_MINUTE = 30
_MOST_KNOWN = 10_000  # keys and users that a process remembers
T = TypeVar("T")


class Authenticator:
    """Finds the principal of a key, and the tenant of a user."""

    def __init__(self, database: Database, tickets: Tickets) -> None:
        self._database = database
        self._tickets = tickets
        self._records = _Remembered[KeyRecord](self._by_digest, KEPT)
        self._revoked = _Remembered[frozenset[str]](self._all_revoked, BELIEVED)
        self._tenants = _Remembered[frozenset[str]](self._tenants_of, BELIEVED)

    async def principal(self, key: str | None, address: str) -> Principal:
        """Raises ApiError 401, and 429 for an address that sent too many bad keys; a good key is never refused."""
        found = await self._good(keys.digest_of(key)) if key else None
        if found is None:
            await self._tickets.take(FAILURES, address, FAILURES_A_MINUTE)
            raise failures.unauthorized()
        return found

    async def may_act_for(self, who: Principal, user_id: str) -> bool:
        """Whether a principal may speak for a user: itself, or as an admin, one whose keys are not all of other tenants."""
        if who.user_id == user_id:
            return True
        if not who.is_admin:
            return False
        tenants = await self._tenants.get(user_id) or ()
        return not tenants or who.tenant_id in tenants

    async def _good(self, digest: str) -> Principal | None:
        record = await self._records.get(digest)
        if record is None or not record.active(datetime.now(UTC)) or digest in (await self._revoked.get("") or ()):
            return None
        return Principal(record.user_id, record.tenant_id, record.id, record.scopes)

    async def _by_digest(self, digest: str) -> KeyRecord | None:
        record = await keys.lookup(self._database, digest)
        return record if record and hmac.compare_digest(record.digest, digest) else None

    async def _all_revoked(self, _: str) -> frozenset[str]:
        return await keys.lately_revoked(self._database)

    async def _tenants_of(self, user_id: str) -> frozenset[str]:
        return await keys.tenants_of(self._database, user_id)


class _Remembered(Generic[T]):
    """Answers that count for so many seconds from the moment of asking; those who ask for one meanwhile wait for it.

    A use in the second half of that time asks again, without waiting.
    """

    def __init__(self, ask: Callable[[str], Awaitable[T | None]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._known: dict[str, tuple[float, T]] = {}
        self._asking: dict[str, asyncio.Task[T | None]] = {}

    async def get(self, name: str) -> T | None:
        now, known = time.monotonic(), self._known.get(name)
        if known and now < known[0] + self._seconds / 2:
            return known[1]
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.create_task(self._learn(name))
            task.add_done_callback(lambda done: self._answered(name, done))
        if known and now < known[0] + self._seconds:
            return known[1]
        return await asyncio.shield(task)  # one who hangs up does not end it for the others

    async def _learn(self, name: str) -> T | None:
        asked = time.monotonic()
        answer = await self._ask(name)
        if answer is None:
            self._known.pop(name, None)
        else:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[name] = (asked, answer)
        return answer

    def _answered(self, name: str, task: asyncio.Task[T | None]) -> None:
        del self._asking[name]
        if not task.cancelled():
            task.exception()  # seen, also if everybody who waited has hung up

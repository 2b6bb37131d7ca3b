"""Redis or Valkey, as something that may be away: calls are short, and after a failure nobody waits for it for a while."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from jettyctl.errors import UsageError

PATIENCE = 0.25  # seconds for a call: everything that Redis holds, the database has as well
PAUSE = 1.0  # seconds in which it is left alone after a failure
CONNECTIONS = 32  # of a worker; who finds all in use waits for one

T = TypeVar("T")


class Away(Exception):
    """Redis does not answer, or is left alone for a moment. No error: the database answers instead."""


class RedisClient:
    """Calls that end soon, one way or the other."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._paused_until = 0.0

    async def call(self, ask: Callable[[Redis], Awaitable[T]]) -> T:
        """The answer. Raises Away."""
        if time.monotonic() < self._paused_until:
            raise Away
        try:
            return await ask(self._redis)
        except (RedisError, OSError, TimeoutError):
            self._paused_until = time.monotonic() + PAUSE
            with contextlib.suppress(RedisError, OSError):  # the other idle connections are no better than this one
                await self._redis.connection_pool.disconnect(inuse_connections=False)
            raise Away from None


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[RedisClient]:
    """A client of its own pool. Raises UsageError for what is not a URL, which it does not repeat: it may hold a password."""
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            timeout=PATIENCE,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
            max_connections=CONNECTIONS,
        )
    except ValueError:
        raise UsageError("that is not the URL of a Redis", hint="Write --redis-url redis://127.0.0.1:6379/0.") from None
    redis = Redis.from_pool(pool)  # which closes the pool with itself
    try:
        yield RedisClient(redis)
    finally:
        await redis.aclose()

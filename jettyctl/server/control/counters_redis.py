"""Counts in Redis, in one round trip. While it is away the database counts: from zero, which is the lesser evil."""

from __future__ import annotations

from redis.asyncio import Redis

from jettyctl.server.control.counters import SqlCounters
from jettyctl.server.control.redis_client import Away, RedisClient

_PREFIX = "jetty:count:"


class RedisCounters:
    """Keeps the promise of `counters.Counters`."""

    def __init__(self, redis: RedisClient, otherwise: SqlCounters) -> None:
        self._redis = redis
        self._otherwise = otherwise

    async def add(self, name: str, amount: int, seconds: int) -> tuple[int, float]:
        async def ask(redis: Redis) -> tuple[int, float]:
            key = _PREFIX + name
            async with redis.pipeline(transaction=True) as pipe:
                pipe.incrby(key, amount)
                pipe.expire(key, seconds, nx=True)
                pipe.pttl(key)
                total, _, left = await pipe.execute()
            return int(total), max(0.0, int(left) / 1000)

        try:
            return await self._redis.call(ask)
        except Away:
            return await self._otherwise.add(name, amount, seconds)

"""Copies of sessions in Redis, in the schema that all who share them speak: `jetty:session:{id}` and `jetty:chunks:{id}`.

A copy carries the version of the database's rows that it was made of. A reader asks the database for the version only,
and takes the copy where the two agree: a Redis that was emptied, killed, or filled from an old dump costs time, and is
never believed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from jettyctl.server.control.principal import Principal
from jettyctl.server.control.redis_client import Away, RedisClient
from jettyctl.server.control.sessions import RETENTION, ChunkEntry, SqlSessions

_VERSION = "version"


class CachedSessions:
    """Keeps the promises of `sessions.SessionStore`: the database first, then the copy."""

    def __init__(self, sql: SqlSessions, redis: RedisClient) -> None:
        self._sql = sql
        self._redis = redis

    async def put_chunks(self, who: Principal, session_id: str, chunks: Sequence[ChunkEntry], *, fence: int | None) -> None:
        done = await self._sql.commit(who, session_id, chunks, fence)

        async def ask(redis: Redis) -> None:
            await redis.eval(_PUT, 1, f"jetty:chunks:{session_id}", done.version, RETENTION, *_flat(done.chunks))

        await self._try(ask)

    async def chunks(self, who: Principal, session_id: str) -> list[ChunkEntry]:
        version = await self._sql.version(who, session_id)
        if version is None:
            return []
        key = f"jetty:chunks:{session_id}"

        async def ask(redis: Redis) -> Any:  # noqa: ANN401 - bytes to bytes; the library also speaks of text
            return await redis.hgetall(key)

        copy = await self._try(ask)
        if copy and copy.pop(_VERSION.encode(), b"") == str(version).encode() and (entries := _from_json(copy)) is not None:
            return entries
        entries = await self._sql.stored(session_id)

        async def fill(redis: Redis) -> None:
            await redis.eval(_FILL, 1, key, version, RETENTION, *_flat(entries))

        await self._try(fill)
        return entries

    async def save(self, session_id: str, record: Mapping[str, Any]) -> None:
        async def ask(redis: Redis) -> None:
            await redis.set(f"jetty:session:{session_id}", json.dumps(dict(record)), ex=RETENTION)

        await self._try(ask)

    async def forget(self, session_id: str) -> None:
        async def ask(redis: Redis) -> None:
            await redis.delete(f"jetty:session:{session_id}", f"jetty:chunks:{session_id}")

        await self._try(ask)

    async def _try(self, ask: Any) -> Any:  # noqa: ANN401 - a call of any answer
        try:
            return await self._redis.call(ask)
        except Away:
            return None


# What a transaction wrote may join a copy that is complete up to the version before, or was written from the same
# transaction already; any other copy is dropped, and filled again by the next reader.
_SET = """
local function set()
  redis.call('HSET', KEYS[1], 'version', ARGV[1])
  for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
local known = tonumber(redis.call('HGET', KEYS[1], 'version'))
local version = tonumber(ARGV[1])
"""
_PUT = (
    _SET
    + """
if known == version or known == version - 1 or (known == nil and version == 1) then set()
elseif known ~= nil and known < version then redis.call('DEL', KEYS[1]) end
"""
)
_FILL = (
    _SET
    + """
if known ~= nil and known > version then return end
redis.call('DEL', KEYS[1])
set()
"""
)


def _flat(chunks: Sequence[ChunkEntry]) -> list[str]:
    """Fields and values, in turn."""
    return [text for chunk in chunks for text in (str(chunk.index), _to_json(chunk))]


def _to_json(chunk: ChunkEntry) -> str:
    return json.dumps(
        {
            "chunkHash": chunk.chunk_hash,
            "edgeId": chunk.edge_id,
            "status": chunk.status,
            "bytesUploaded": chunk.bytes_uploaded,
            "errorMessage": chunk.error_message,
            "timestamp": chunk.timestamp,
            "etag": chunk.etag,
        }
    )


def _from_json(fields: Mapping[bytes, bytes]) -> list[ChunkEntry] | None:
    """The chunks of a copy, in order; None if it is not one of ours."""
    try:
        entries = []
        for index, text in fields.items():
            value = json.loads(text)
            entries.append(
                ChunkEntry(
                    index=int(index),
                    status=value["status"],
                    chunk_hash=value["chunkHash"],
                    edge_id=value["edgeId"],
                    bytes_uploaded=value["bytesUploaded"],
                    error_message=value["errorMessage"],
                    etag=value["etag"],
                    timestamp=value["timestamp"],
                )
            )
    except (ValueError, KeyError, TypeError):
        return None
    return sorted(entries, key=lambda entry: entry.index)

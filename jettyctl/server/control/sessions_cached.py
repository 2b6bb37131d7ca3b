"""Copies of sessions in Redis, in the schema that all who share them speak: `jetty:session:{id}` and `jetty:chunks:{id}`.

A copy carries the version of the database's rows that it was made of, and a version stands for one state of the chunks:
a copy goes from version to version in one step, and from the one right before only; otherwise it is dropped. A reader
asks the database for the version and takes the copy where the two agree: a Redis that was emptied, killed, or filled
from an old dump costs time, and is never believed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.redis_client import Away, RedisClient
from jettyctl.server.control.sessions import RETENTION, ChunkEntry
from jettyctl.server.control.sessions_sql import Change, SqlSessions, Stored

LONGEST_STEP = 1_000  # chunks: a script takes few thousand arguments. Of more the next reader makes the copy anew

# KEYS: the hash. ARGV: the version before, the one after, seconds to keep, fields and values in turn.
_STEP = """
local known = redis.call('HGET', KEYS[1], 'version') or '0'
if known == ARGV[1] then
  redis.call('HSET', KEYS[1], 'version', ARGV[2], unpack(ARGV, 4))
  redis.call('EXPIRE', KEYS[1], ARGV[3])
elseif tonumber(known) == nil or tonumber(known) < tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[1])
end
"""


class CachedSessions:
    """Keeps the promises of `sessions.SessionStore`: the database first, then the copy."""

    def __init__(self, database: Database, redis: RedisClient) -> None:
        self._sql = SqlSessions(database, self._step)
        self._redis = redis

    async def put_chunks(self, who: Principal, session_id: str, chunks: Sequence[ChunkEntry], *, fence: int | None) -> None:
        await self._sql.put_chunks(who, session_id, chunks, fence=fence)

    async def chunks(self, who: Principal, session_id: str) -> list[ChunkEntry]:
        version, copy = await asyncio.gather(self._sql.version(who, session_id), self._copy(session_id))
        if not version:
            return []
        if copy and copy.version == version:
            return copy.chunks
        stored = await self._sql.stored(who, session_id)
        await self._fill(session_id, stored)
        return stored.chunks

    async def save(self, session_id: str, record: Mapping[str, Any]) -> None:
        async def ask(redis: Redis) -> None:
            await redis.set(f"jetty:session:{session_id}", json.dumps(dict(record)), ex=RETENTION)

        await self._try(ask)

    async def forget(self, session_id: str) -> None:
        async def ask(redis: Redis) -> None:
            await redis.delete(f"jetty:session:{session_id}", _hash_of(session_id))

        await self._try(ask)

    async def close(self) -> None:
        """Wait for what is being written."""
        await self._sql.close()

    async def _copy(self, session_id: str) -> Stored | None:
        async def ask(redis: Redis) -> Any:  # noqa: ANN401 - bytes to bytes; the library also speaks of text
            return await redis.hgetall(_hash_of(session_id))

        fields = await self._try(ask)
        return _from_json(fields) if fields else None

    async def _fill(self, session_id: str, stored: Stored) -> None:
        if not stored.version:
            return
        fields: dict[Any, Any] = {"version": stored.version, **{str(chunk.index): _to_json(chunk) for chunk in stored.chunks}}

        async def ask(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as pipe:
                pipe.delete(_hash_of(session_id))
                pipe.hset(_hash_of(session_id), mapping=fields)
                pipe.expire(_hash_of(session_id), RETENTION)
                await pipe.execute()

        await self._try(ask)

    async def _step(self, changes: Sequence[Change]) -> None:
        async def ask(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipe:
                for change in changes:
                    key, versions = _hash_of(change.session_id), (change.before, change.after)
                    if len(change.chunks) > LONGEST_STEP:
                        pipe.delete(key)
                    else:
                        pipe.eval(_STEP, 1, key, *versions, RETENTION, *_flat(change.chunks))
                await pipe.execute()

        await self._try(ask)

    async def _try(self, ask: Any) -> Any:  # noqa: ANN401 - a call of any answer
        try:
            return await self._redis.call(ask)
        except Away:
            return None


def _hash_of(session_id: str) -> str:
    return f"jetty:chunks:{session_id}"


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


def _from_json(fields: Mapping[bytes, bytes]) -> Stored | None:
    """A copy, its chunks in order; None if it is not one of ours."""
    try:
        texts = {int(index): text for index, text in fields.items() if index != b"version"}
        return Stored(int(fields[b"version"]), [_entry(index, json.loads(texts[index])) for index in sorted(texts)])
    except (ValueError, KeyError, TypeError):
        return None


def _entry(index: int, known: Mapping[str, Any]) -> ChunkEntry:
    return ChunkEntry(
        index=index,
        status=known["status"],
        chunk_hash=known["chunkHash"],
        edge_id=known["edgeId"],
        bytes_uploaded=known["bytesUploaded"],
        error_message=known["errorMessage"],
        etag=known["etag"],
        timestamp=known["timestamp"],
    )

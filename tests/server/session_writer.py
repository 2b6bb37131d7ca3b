"""`python -m tests.server.session_writer DATABASE REDIS SESSION NAME COUNT`: one of several processes that keep chunks.

It writes chunk 0 again and again, and COUNT chunks of its own after it, and prints the index of each that was acknowledged.
"""

from __future__ import annotations

import asyncio
import sys

from jettyctl.server.control.database import Database
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.sessions import ChunkEntry, open_sessions
from jettyctl.server.control.settings import Settings

OWNER = Principal("usr_1", "acme", "key", frozenset({"read", "write"}))


async def main(database_url: str, redis_url: str, session_id: str, name: str, begin: int, count: int) -> None:
    """Keep chunks until all are acknowledged, eight at a time."""
    database = Database(database_url)
    async with open_sessions(Settings(database_url, redis_url or None), database) as sessions:
        for first in range(begin, begin + count, 8):
            indices = range(first, min(first + 8, begin + count))
            entries = [[ChunkEntry(0, "uploading", chunk_hash=name), ChunkEntry(index, "completed")] for index in indices]
            await asyncio.gather(*(sessions.put_chunks(OWNER, session_id, pair, fence=None) for pair in entries))
            print(*indices, flush=True)
    await database.close()


if __name__ == "__main__":
    database, redis, session, name, begin, count = sys.argv[1:7]
    asyncio.run(main(database, redis, session, name, int(begin), int(count)))

"""A group of chunks in one statement, for Postgres: what `sessions_sql` does in five round trips, in the usual case.

The usual case: every session is known, and no chunk comes twice. Refusals are told from the very rows that were locked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import RowMapping, text

from jettyctl.server.control.database import Database
from jettyctl.server.control.sessions import ChunkEntry
from jettyctl.server.control.tables import upload_chunks

_VALUES = [column.name for column in upload_chunks.c if not column.primary_key]

# `calls` are the requests of the group by their place in it, `chunks` what each of them brings.
_STATEMENT = text(
    f"""
    WITH locked AS (
        SELECT session_id, user_id, tenant_id, fence, version FROM session_states
        WHERE session_id = ANY(CAST(:names AS text[])) ORDER BY session_id FOR UPDATE
    ), allowed AS (
        SELECT calls.place, locked.session_id
        FROM unnest(CAST(:places AS int[]), CAST(:sessions AS text[]), CAST(:users AS text[]), CAST(:tenants AS text[]),
                    CAST(:admins AS bool[]), CAST(:fences AS bigint[]))
             AS calls(place, session_id, user_id, tenant_id, is_admin, fence)
        JOIN locked ON locked.session_id = calls.session_id AND locked.tenant_id = calls.tenant_id
        WHERE (calls.is_admin OR locked.user_id = calls.user_id) AND (locked.fence = 0 OR locked.fence = calls.fence)
    ), put AS (
        INSERT INTO upload_chunks (session_id, chunk_index, {", ".join(_VALUES)})
        SELECT allowed.session_id, chunks.chunk_index, {", ".join("chunks." + name for name in _VALUES)}
        FROM unnest(CAST(:of AS int[]), CAST(:chunk_index AS int[]), CAST(:chunk_hash AS text[]), CAST(:edge_id AS text[]),
                    CAST(:status AS text[]), CAST(:bytes_uploaded AS bigint[]), CAST(:error_message AS text[]),
                    CAST(:etag AS text[]), CAST(:timestamp AS timestamptz[]))
             AS chunks(place, chunk_index, {", ".join(_VALUES)})
        JOIN allowed ON allowed.place = chunks.place
        ON CONFLICT (session_id, chunk_index) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _VALUES)}
    ), counted AS (
        UPDATE session_states SET version = greatest(version + 1, :stamp), updated_at = :now
        WHERE session_id IN (SELECT session_id FROM allowed)
        RETURNING session_id, version
    )
    SELECT locked.*, counted.version AS after FROM locked LEFT JOIN counted ON counted.session_id = locked.session_id
    """  # noqa: S608 - the names are those of our own columns
)


@dataclass(frozen=True, slots=True)
class Call:
    """The chunks of one request, and who brings them. `fence` None: it has no lease."""

    session_id: str
    user_id: str
    tenant_id: str
    is_admin: bool
    fence: int | None
    chunks: tuple[ChunkEntry, ...]


def is_usual(calls: list[Call]) -> bool:
    """Whether every call brings chunks, and no chunk comes twice."""
    names = [(call.session_id, chunk.index) for call in calls for chunk in call.chunks]
    return len(names) == len(set(names)) and all(call.chunks for call in calls)


async def write(database: Database, calls: list[Call], now: datetime) -> dict[str, RowMapping]:
    """Write what may be written, durably. By session: its row as it was, and `after`, its version now, if it changed.

    Sessions that are not known are left out.
    """
    given = [(place, chunk) for place, call in enumerate(calls) for chunk in call.chunks]
    parameters = {
        "names": sorted({call.session_id for call in calls}),
        "places": [*range(len(calls))],
        "sessions": [call.session_id for call in calls],
        "users": [call.user_id for call in calls],
        "tenants": [call.tenant_id for call in calls],
        "admins": [call.is_admin for call in calls],
        "fences": [call.fence for call in calls],
        "of": [place for place, _ in given],
        "chunk_index": [chunk.index for _, chunk in given],
        "chunk_hash": [chunk.chunk_hash for _, chunk in given],
        "edge_id": [chunk.edge_id for _, chunk in given],
        "status": [chunk.status for _, chunk in given],
        "bytes_uploaded": [chunk.bytes_uploaded for _, chunk in given],
        "error_message": [chunk.error_message for _, chunk in given],
        "etag": [chunk.etag for _, chunk in given],
        "timestamp": [datetime.fromtimestamp(chunk.timestamp, UTC) for _, chunk in given],
        "stamp": int(now.timestamp() * 1000),
        "now": now,
    }
    async with database.single() as connection:
        rows = (await connection.execute(_STATEMENT, parameters)).mappings().all()
    return {row["session_id"]: row for row in rows}

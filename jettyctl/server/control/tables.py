"""The tables, for SQLite and Postgres alike. The first seven are the contract's; the rest is what the service itself needs.

Times are UTC. A column that the contract does not name says why it is there. Views are in `views`, changes of the schema
in `migrations`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData()


class Moment(TypeDecorator[datetime]):
    """A time zone aware UTC time; SQLite, which has no such type, keeps it without the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401 - the driver's
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return None


edge_locations = Table(
    "edge_locations",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("url", Text, nullable=False),
    Column("city", Text, nullable=False, default=""),
    Column("country", Text, nullable=False, default=""),
    Column("lat", Float),
    Column("lng", Float),
    Column("provider", Text, nullable=False, default=""),
    Column("is_active", Boolean, nullable=False, default=True),
    Column("created_at", Moment, nullable=False),
    Column("cost_per_gib", Float),  # USD; where an edge says nothing the usual price counts
)

edge_metrics = Table(
    "edge_metrics",
    metadata,
    Column("edge_id", String(63), primary_key=True),
    Column("timestamp", Moment, primary_key=True),
    Column("latency_ms", Float),
    Column("load_percent", Float),
    Column("bandwidth_mbps", Float),
    Column("active_uploads", Integer),
    Column("error_rate", Float),  # percent
    Index("edge_metrics_timestamp", "timestamp"),
)

file_hashes = Table(
    "file_hashes",
    metadata,
    Column("tenant_id", String(64), primary_key=True),  # no tenant learns of another's content
    Column("file_hash", String(256), primary_key=True),
    Column("file_id", String(64), nullable=False),
    Column("user_id", String(256), nullable=False),
    Column("file_name", Text, nullable=False),
    Column("file_size", BigInteger, nullable=False),
    Column("storage_key", Text, nullable=False, default=""),  # "": the service does not hold the bytes
    Column("mime_type", Text, nullable=False, default=""),
    Column("upload_count", Integer, nullable=False, default=1),
    Column("reference_count", Integer, nullable=False, default=0),
    Column("first_uploaded_at", Moment, nullable=False),
    Column("last_accessed_at", Moment, nullable=False),
    Column("total_bytes_saved", BigInteger, nullable=False, default=0),
    Column("total_cost_saved", Float, nullable=False, default=0.0),
)

upload_sessions = Table(
    "upload_sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", String(256), nullable=False),
    Column("tenant_id", String(64), nullable=False),
    Column("file_id", String(64), nullable=False),
    Column("file_name", Text, nullable=False),
    Column("file_hash", String(256), nullable=False, default=""),
    Column("file_size", BigInteger, nullable=False),
    Column("chunk_size", BigInteger, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("edges_used", JSON, nullable=False, default=list),
    Column("chunks_total", Integer, nullable=False),
    Column("chunks_completed", Integer, nullable=False, default=0),
    Column("bytes_uploaded", BigInteger, nullable=False, default=0),
    Column("started_at", Moment, nullable=False),
    Column("completed_at", Moment),
    Column("duration_seconds", Float),
    Column("avg_speed_mbps", Float),
    Column("estimated_cost", Float),
    Column("actual_cost", Float),
    Column("upload_via", String(16), nullable=False, default="api"),
    Column("jetty_speed_enabled", Boolean, nullable=False, default=True),
    Column("status", String(16), nullable=False, default="in_progress"),
    Column("error_message", Text, nullable=False, default=""),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Index("upload_sessions_user", "tenant_id", "user_id", "updated_at"),
    Index("upload_sessions_completed", "completed_at"),
)

upload_patterns = Table(
    "upload_patterns",
    metadata,
    Column("user_id", String(256), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("day_of_week", Integer, primary_key=True),
    Column("avg_file_size", Float, nullable=False),
    Column("upload_count", Integer, nullable=False),
    Column("typical_edges", JSON, nullable=False, default=list),
    Column("last_updated", Moment, nullable=False),
)

user_file_references = Table(
    "user_file_references",
    metadata,
    Column("id", String(64), primary_key=True),  # the file id that clients know
    Column("user_id", String(256), nullable=False),
    Column("tenant_id", String(64), nullable=False),
    Column("file_hash", String(256), nullable=False),
    Column("file_name", Text, nullable=False),
    Column("storage_key", Text, nullable=False, default=""),  # the object that it stands for
    Column("created_at", Moment, nullable=False),
    # The user's own, beside those of file_hashes: what one user says of a content is told to no other.
    Column("file_size", BigInteger, nullable=False, default=0),
    Column("mime_type", Text, nullable=False, default=""),
    Column("upload_count", Integer, nullable=False, default=1),
    UniqueConstraint("user_id", "file_hash", "file_name", name="user_file_references_once"),
    Index("user_file_references_hash", "tenant_id", "file_hash", "user_id"),
    Index("user_file_references_object", "storage_key"),
)

edge_performance_daily = Table(
    "edge_performance_daily",
    metadata,
    Column("edge_id", String(63), primary_key=True),
    Column("date", Date, primary_key=True),
    Column("avg_latency_ms", Float),
    Column("avg_load_percent", Float),
    Column("total_uploads", Integer, nullable=False, default=0),
    Column("total_bytes_transferred", BigInteger, nullable=False, default=0),
    Column("avg_upload_speed_mbps", Float),
    Column("uptime_percent", Float),
    Column("error_count", Integer, nullable=False, default=0),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the key, which nobody but its holder has
    Column("user_id", String(256), nullable=False),
    Column("tenant_id", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
)

# One row for each session id that anybody used: whose it is, who works on it, and what its upload is at the store.
session_states = Table(
    "session_states",
    metadata,
    Column("session_id", String(64), primary_key=True),
    Column("user_id", String(256), nullable=False),
    Column("tenant_id", String(64), nullable=False),
    Column("version", BigInteger, nullable=False, default=0),  # counts changes of chunks: tells a cached copy's age
    Column("fence", BigInteger, nullable=False, default=0),  # 0: no lease was ever taken
    Column("lease_holder", String(128), nullable=False, default=""),
    Column("lease_host", String(255), nullable=False, default=""),
    Column("lease_expires_at", Moment),
    Column("object_key", Text, nullable=False, default=""),  # as the user names it
    Column("storage_key", Text, nullable=False, default=""),  # as the store names it; "": only tracked, not stored here
    Column("upload_id", Text, nullable=False, default=""),
    Column("options", JSON, nullable=False, default=dict),  # content type, metadata, if_absent
    Column("completing_until", Moment),  # a finalize is at work until then
    Column("updated_at", Moment, nullable=False),
)

upload_chunks = Table(
    "upload_chunks",
    metadata,
    Column("session_id", String(64), primary_key=True),
    Column("chunk_index", Integer, primary_key=True),
    Column("chunk_hash", String(256), nullable=False, default=""),
    Column("edge_id", String(63), nullable=False, default=""),
    Column("status", String(16), nullable=False),
    Column("bytes_uploaded", BigInteger, nullable=False, default=0),
    Column("error_message", Text, nullable=False, default=""),
    Column("etag", Text, nullable=False, default=""),
    Column("timestamp", Moment, nullable=False),
)

# One row for each object in the store that the service put there.
stored_objects = Table(
    "stored_objects",
    metadata,
    Column("storage_key", Text, primary_key=True),
    Column("tenant_id", String(64), nullable=False),
    Column("user_id", String(256), nullable=False),
    Column("object_key", Text, nullable=False),  # "": shared by references that asked for no name
    Column("session_id", String(64), nullable=False, default=""),
    Column("file_hash", String(256), nullable=False),  # claimed until verified_at, then what the service computed
    Column("size", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
    Column("crc64", String(16), nullable=False, default=""),
    Column("blake3", String(64), nullable=False, default=""),  # "" until verified
    Column("sample", String(80), nullable=False, default=""),  # "" until verified
    Column("mime_type", Text, nullable=False, default=""),
    Column("metadata", JSON, nullable=False, default=dict),
    Column("created_at", Moment, nullable=False),
    Column("verified_at", Moment),
    Index("stored_objects_hash", "tenant_id", "file_hash"),
    Index("stored_objects_blake3", "blake3", "size"),
    Index("stored_objects_sample", "sample", "size"),
)

# Answers to challenges that nobody was given yet, computed while the object was read once.
possession_seeds = Table(
    "possession_seeds",
    metadata,
    Column("seed", String(64), primary_key=True),
    Column("blake3", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Index("possession_seeds_content", "blake3", "size"),
)

# Challenges under way. `storage_key` is "" for content that is not known: it looks the same from outside.
possession_nonces = Table(
    "possession_nonces",
    metadata,
    Column("nonce", String(64), primary_key=True),
    Column("user_id", String(256), nullable=False),
    Column("tenant_id", String(64), nullable=False),
    Column("seed", String(64), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("blake3", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("storage_key", Text, nullable=False, default=""),
    Column("expires_at", Moment, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Moment, nullable=False),  # a claimed job is due again when its claim runs out
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("kind", "subject", name="jobs_once"),
    Index("jobs_due", "due_at"),
)

rate_counters = Table(
    "rate_counters",
    metadata,
    Column("name", String(400), primary_key=True),
    Column("total", Integer, nullable=False),
    Column("expires_at", Moment, nullable=False),
)

# Work that one process among many does at a time.
duty_leases = Table(
    "duty_leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("expires_at", Moment, nullable=False),
)

"""The first schema: the contract's tables and views, and what the service itself needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jettyctl.server.control.tables import Moment
from jettyctl.server.control.views import views

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Everything, in an empty database."""
    _make_tables()
    dialect = op.get_context().dialect.name
    for name, query in views("sqlite" if dialect == "sqlite" else "postgresql").items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def _make_tables() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=256), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=True),
        sa.Column("revoked_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "duty_leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "edge_locations",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("city", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("lat", sa.Float(), nullable=True),
        sa.Column("lng", sa.Float(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("cost_per_gib", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "edge_metrics",
        sa.Column("edge_id", sa.String(length=63), nullable=False),
        sa.Column("timestamp", Moment(), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=True),
        sa.Column("load_percent", sa.Float(), nullable=True),
        sa.Column("bandwidth_mbps", sa.Float(), nullable=True),
        sa.Column("active_uploads", sa.Integer(), nullable=True),
        sa.Column("error_rate", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("edge_id", "timestamp"),
    )
    op.create_index("edge_metrics_timestamp", "edge_metrics", ["timestamp"], unique=False)
    op.create_table(
        "edge_performance_daily",
        sa.Column("edge_id", sa.String(length=63), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("avg_latency_ms", sa.Float(), nullable=True),
        sa.Column("avg_load_percent", sa.Float(), nullable=True),
        sa.Column("total_uploads", sa.Integer(), nullable=False),
        sa.Column("total_bytes_transferred", sa.BigInteger(), nullable=False),
        sa.Column("avg_upload_speed_mbps", sa.Float(), nullable=True),
        sa.Column("uptime_percent", sa.Float(), nullable=True),
        sa.Column("error_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("edge_id", "date"),
    )
    op.create_table(
        "file_hashes",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("file_hash", sa.String(length=256), nullable=False),
        sa.Column("file_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=256), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("file_size", sa.BigInteger(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("upload_count", sa.Integer(), nullable=False),
        sa.Column("reference_count", sa.Integer(), nullable=False),
        sa.Column("first_uploaded_at", Moment(), nullable=False),
        sa.Column("last_accessed_at", Moment(), nullable=False),
        sa.Column("total_bytes_saved", sa.BigInteger(), nullable=False),
        sa.Column("total_cost_saved", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "file_hash"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", Moment(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "subject", name="jobs_once"),
    )
    op.create_index("jobs_due", "jobs", ["due_at"], unique=False)
    op.create_table(
        "possession_nonces",
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=256), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("blake3", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("nonce"),
    )
    op.create_table(
        "possession_seeds",
        sa.Column("seed", sa.String(length=64), nullable=False),
        sa.Column("blake3", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seed"),
    )
    op.create_index("possession_seeds_content", "possession_seeds", ["blake3", "size"], unique=False)
    op.create_table(
        "rate_counters",
        sa.Column("name", sa.String(length=400), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "session_states",
        sa.Column("session_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=256), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_holder", sa.String(length=128), nullable=False),
        sa.Column("lease_host", sa.String(length=255), nullable=False),
        sa.Column("lease_expires_at", Moment(), nullable=True),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("completing_until", Moment(), nullable=True),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("session_id"),
    )
    op.create_table(
        "stored_objects",
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=256), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("session_id", sa.String(length=64), nullable=False),
        sa.Column("file_hash", sa.String(length=256), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("crc64", sa.String(length=16), nullable=False),
        sa.Column("blake3", sa.String(length=64), nullable=False),
        sa.Column("sample", sa.String(length=80), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("verified_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("storage_key"),
    )
    op.create_index("stored_objects_blake3", "stored_objects", ["blake3", "size"], unique=False)
    op.create_index("stored_objects_hash", "stored_objects", ["tenant_id", "file_hash"], unique=False)
    op.create_index("stored_objects_sample", "stored_objects", ["sample", "size"], unique=False)
    op.create_table(
        "upload_chunks",
        sa.Column("session_id", sa.String(length=64), nullable=False),
        sa.Column("chunk_index", sa.Integer(), nullable=False),
        sa.Column("chunk_hash", sa.String(length=256), nullable=False),
        sa.Column("edge_id", sa.String(length=63), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("bytes_uploaded", sa.BigInteger(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("timestamp", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "chunk_index"),
    )
    op.create_table(
        "upload_patterns",
        sa.Column("user_id", sa.String(length=256), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("day_of_week", sa.Integer(), nullable=False),
        sa.Column("avg_file_size", sa.Float(), nullable=False),
        sa.Column("upload_count", sa.Integer(), nullable=False),
        sa.Column("typical_edges", sa.JSON(), nullable=False),
        sa.Column("last_updated", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "hour", "day_of_week"),
    )
    op.create_table(
        "upload_sessions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=256), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("file_id", sa.String(length=64), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("file_hash", sa.String(length=256), nullable=False),
        sa.Column("file_size", sa.BigInteger(), nullable=False),
        sa.Column("chunk_size", sa.BigInteger(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("edges_used", sa.JSON(), nullable=False),
        sa.Column("chunks_total", sa.Integer(), nullable=False),
        sa.Column("chunks_completed", sa.Integer(), nullable=False),
        sa.Column("bytes_uploaded", sa.BigInteger(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("completed_at", Moment(), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.Column("avg_speed_mbps", sa.Float(), nullable=True),
        sa.Column("estimated_cost", sa.Float(), nullable=True),
        sa.Column("actual_cost", sa.Float(), nullable=True),
        sa.Column("upload_via", sa.String(length=16), nullable=False),
        sa.Column("jetty_speed_enabled", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("upload_sessions_completed", "upload_sessions", ["completed_at"], unique=False)
    op.create_index("upload_sessions_user", "upload_sessions", ["tenant_id", "user_id", "updated_at"], unique=False)
    op.create_table(
        "user_file_references",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=256), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("file_hash", sa.String(length=256), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("file_size", sa.BigInteger(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("upload_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_id", "file_hash", "file_name", name="user_file_references_once"),
    )
    op.create_index("user_file_references_hash", "user_file_references", ["tenant_id", "file_hash", "user_id"], unique=False)
    op.create_index("user_file_references_object", "user_file_references", ["storage_key"], unique=False)

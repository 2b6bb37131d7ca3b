"""The views of the contract. They differ between the databases only in how they speak of time."""

from __future__ import annotations

from collections.abc import Mapping

from jettyctl.server.control.database import Dialect

_AGO: Mapping[Dialect, str] = {
    "sqlite": "datetime('now', '-{days} days')",
    "postgresql": "now() - interval '{days} days'",
}


def views(dialect: Dialect) -> dict[str, str]:
    """Each view's SELECT, by its name."""
    ago = _AGO[dialect]
    return {
        "edge_performance_24h": f"""
            SELECT edge_id, avg(latency_ms) AS avg_latency_ms, avg(load_percent) AS avg_load_percent,
                   avg(bandwidth_mbps) AS avg_bandwidth_mbps, avg(active_uploads) AS avg_active_uploads,
                   avg(error_rate) AS avg_error_rate, count(*) AS samples
            FROM edge_metrics WHERE timestamp > {ago.format(days=1)} GROUP BY edge_id""",  # noqa: S608 - of two texts that stand above
        "top_edges": f"""
            SELECT c.edge_id, avg(s.avg_speed_mbps) AS avg_speed_mbps, count(DISTINCT s.id) AS uploads
            FROM upload_sessions s
            JOIN (SELECT DISTINCT session_id, edge_id FROM upload_chunks WHERE edge_id <> '') c ON c.session_id = s.id
            WHERE s.status = 'completed' AND s.avg_speed_mbps IS NOT NULL AND s.completed_at > {ago.format(days=7)}
            GROUP BY c.edge_id ORDER BY avg_speed_mbps DESC LIMIT 10""",  # noqa: S608 - as above
        "deduplication_savings": """
            SELECT count(*) AS files, coalesce(sum(upload_count), 0) AS uploads,
                   coalesce(sum(total_bytes_saved), 0) AS bytes_saved, coalesce(sum(total_cost_saved), 0) AS cost_saved
            FROM file_hashes""",
        "user_upload_stats": """
            SELECT user_id, count(*) AS uploads, coalesce(sum(bytes_uploaded), 0) AS bytes_uploaded,
                   avg(avg_speed_mbps) AS avg_speed_mbps,
                   sum(CASE WHEN status = 'completed' THEN 1 ELSE 0 END) AS successes,
                   sum(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failures
            FROM upload_sessions GROUP BY user_id""",
    }

"""Alembic's way in: `schema` hands it a connection, so that one transaction holds a change and the record of it."""

from __future__ import annotations

from alembic import context

from jettyctl.server.control.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()

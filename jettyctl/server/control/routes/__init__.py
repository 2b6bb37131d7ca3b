"""The endpoints, a module for each; `ROUTERS` is all of them, those asked most often first."""

from __future__ import annotations

from fastapi import APIRouter

from jettyctl.server.control.routes import (
    blobs,
    cache_chunk,
    check_duplicate,
    clones,
    edges,
    files,
    health,
    objects,
    optimal_edges,
    service,
    sessions,
    track_upload,
    uploads,
)

ROUTERS: tuple[APIRouter, ...] = (
    cache_chunk.router,
    check_duplicate.router,
    optimal_edges.router,
    track_upload.router,
    uploads.router,
    blobs.router,
    clones.router,
    sessions.router,
    files.router,
    objects.router,
    service.router,
    edges.router,
    health.router,
)

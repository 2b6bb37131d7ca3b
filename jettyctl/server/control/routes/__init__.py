"""The endpoints, a module for each; `ROUTERS` is all of them, those asked most often first."""

from __future__ import annotations

from fastapi import APIRouter

from jettyctl.server.control.routes import cache_chunk, check_duplicate, edges, health, optimal_edges, track_upload

ROUTERS: tuple[APIRouter, ...] = (
    cache_chunk.router,
    check_duplicate.router,
    optimal_edges.router,
    track_upload.router,
    edges.router,
    health.router,
)

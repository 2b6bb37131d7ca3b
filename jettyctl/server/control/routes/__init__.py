"""The endpoints, a module for each; `ROUTERS` is all of them, those asked most often first."""

from __future__ import annotations

from fastapi import APIRouter

from jettyctl.server.control.routes import edges, health

ROUTERS: tuple[APIRouter, ...] = (edges.router, health.router)

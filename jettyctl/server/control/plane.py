"""What a worker process of the service holds: its settings and its services. Routes get it as `auth.PlaneDep`."""

from __future__ import annotations

from dataclasses import dataclass

from jettyctl.server.control.authenticator import Authenticator
from jettyctl.server.control.counters import Counters
from jettyctl.server.control.database import Database
from jettyctl.server.control.edges import EdgeDirectory
from jettyctl.server.control.hosting import Hosting
from jettyctl.server.control.metrics import Metrics
from jettyctl.server.control.objects import Objects
from jettyctl.server.control.sessions import SessionStore
from jettyctl.server.control.settings import Settings
from jettyctl.server.control.tickets import Tickets


@dataclass(slots=True)
class Plane:
    """Made by `app.build_plane`, which also ends the services. Every field is safe to use from all requests at once."""

    settings: Settings
    database: Database
    metrics: Metrics
    counters: Counters
    tickets: Tickets
    authenticator: Authenticator
    sessions: SessionStore
    objects: Objects
    hosting: Hosting
    edges: EdgeDirectory

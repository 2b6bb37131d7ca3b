"""The application: its services, its routes, and how its failures are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match, Route

import jettyctl
from jettyctl.server.control import failures
from jettyctl.server.control.authenticator import Authenticator
from jettyctl.server.control.counters import open_counters
from jettyctl.server.control.database import Database, DatabaseDown
from jettyctl.server.control.duty import HOUR, Chore, duties
from jettyctl.server.control.edges import EdgeDirectory
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.hosting import open_hosting
from jettyctl.server.control.metrics import Metrics
from jettyctl.server.control.middleware import Guarded, Recorded
from jettyctl.server.control.objects import open_objects
from jettyctl.server.control.plane import Plane
from jettyctl.server.control.pruning import prune
from jettyctl.server.control.routes import ROUTERS
from jettyctl.server.control.sessions import open_sessions
from jettyctl.server.control.settings import Settings
from jettyctl.server.control.strict import Unreadable
from jettyctl.server.control.sweeping import sweep
from jettyctl.server.control.tickets import Tickets

MOST_SHOWN = 300  # characters of a field's path, and of what is wrong with it

class Service(FastAPI):
    """Describes itself as it is: a body or parameter that is wrong is a 400, never FastAPI's own 422."""

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            described = super().openapi()
            for operations in described["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                described["components"]["schemas"].pop(name, None)
        return super().openapi()


def create_app(settings: Settings) -> FastAPI:
    """The service. It opens its database and starts its background work when it is served."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with build_plane(settings, metrics) as plane:
            app.state.plane = plane
            yield

    app = Service(
        title="jettyctl control plane",
        version=jettyctl.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in ROUTERS:  # not include_router, which would match the path of every request twice
        app.router.routes.extend(router.routes)
    app.add_middleware(Guarded, settings=settings)
    app.add_middleware(Recorded, metrics=metrics, settings=settings)  # added last: outermost
    app.add_exception_handler(ApiError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(DatabaseDown, _down)
    return app


@asynccontextmanager
async def build_plane(settings: Settings, metrics: Metrics) -> AsyncIterator[Plane]:
    """The services of this process, open while the context lasts. Each ends what it began, in reverse order."""
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url)
        stack.push_async_callback(database.close)
        counters = await stack.enter_async_context(open_counters(settings, database))
        sessions = await stack.enter_async_context(open_sessions(settings, database))
        objects = await stack.enter_async_context(open_objects(settings))
        hosting = await stack.enter_async_context(open_hosting(settings, database, sessions, objects))
        tickets = Tickets(counters, settings.limits, settings.workers)
        edges = EdgeDirectory(database)
        stack.push_async_callback(edges.close)
        pruning = Chore("pruning", HOUR, lambda: prune(database, datetime.now(UTC)))
        sweeping = Chore("sweeping", HOUR, lambda: sweep(database, objects, datetime.now(UTC)))
        await stack.enter_async_context(duties(database, settings, [pruning, sweeping]))
        yield Plane(
            settings=settings,
            database=database,
            metrics=metrics,
            counters=counters,
            tickets=tickets,
            authenticator=Authenticator(database, tickets),
            sessions=sessions,
            objects=objects,
            hosting=hosting,
            edges=edges,
        )


async def _told(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """A field is missing or wrong: which, and why, without repeating what was sent."""
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, Unreadable):
        return await _told(request, failures.bad_request(error.body.why))
    if isinstance(error.body, bytes):
        return await _told(request, failures.bad_request("Send JSON, with Content-Type: application/json."))
    told = [f"{_shown('.'.join(map(str, one['loc'][1:])) or one['loc'][0])}: {_shown(one['msg'])}" for one in error.errors()[:5]]
    return await _told(request, failures.bad_request("; ".join(told)))


def _shown(text: str) -> str:
    """Names in a body are a client's to make up, and some messages quote a value."""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


async def _routing(request: Request, error: Exception) -> JSONResponse:
    """No such path, or not by this method."""
    assert isinstance(error, HTTPException)
    words = {404: ("not found", "There is no such path."), 405: ("method not allowed", "See the header Allow.")}
    text, details = words.get(error.status_code, ("invalid request", str(error.detail)))
    headers = {"Allow": _methods(request)} if error.status_code == 405 else error.headers
    return await _told(request, ApiError(error.status_code, text, details, headers=headers))


def _methods(request: Request) -> str:
    """Those of the path, of all its routes: Starlette names only the first one's."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = {method for route in routes if route.matches(request.scope)[0] is not Match.NONE for method in route.methods or ()}
    return ", ".join(sorted(found))


async def _down(request: Request, _: Exception) -> JSONResponse:
    return await _told(
        request, ApiError(503, "not available", "The database does not answer. Try again.", headers={"Retry-After": "1"})
    )

"""What the commands of the control plane share: where its database is, and running its coroutines."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, TypeVar

from jettyctl.cli.options import option
from jettyctl.errors import UsageError

if TYPE_CHECKING:  # most commands need no database
    from jettyctl.server.control.database import Database

T = TypeVar("T")

DatabaseUrl = Annotated[
    str | None,
    option(
        "--database-url",
        help="postgresql://user@host/name, or sqlite:///FILE. Without it: a file in the data directory.",
        metavar="URL",
    ),
]


def require_server() -> None:
    """Raises UsageError where only the client is installed."""
    if any(find_spec(name) is None for name in ("fastapi", "sqlalchemy", "uvicorn")):
        raise UsageError(
            "the control plane is not installed",
            hint="Run: python3 -m pip install 'jettyctl[server]' (or '.[server]' in a checkout).",
        )


def embedded_directory() -> str:
    """Where a control plane for this machine keeps its database and objects."""
    from jettyctl import paths

    return os.path.join(paths.data_dir(), "control")


def embedded_database() -> str:
    """The URL of the database that needs no configuration."""
    return f"sqlite:///{os.path.join(embedded_directory(), 'control.sqlite')}"


def with_database(url: str | None, act: Callable[[Database], Awaitable[T]]) -> T:
    """Open the database, check its schema, act, close it. Raises UsageError and what `act` raises."""
    require_server()
    from jettyctl.server.control import schema
    from jettyctl.server.control.database import Database

    async def run() -> T:
        database = Database(url or embedded_database())
        try:
            await schema.check(database)
            return await act(database)
        finally:
            await database.close()

    return asyncio.run(run())

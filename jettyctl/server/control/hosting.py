"""What the service does with objects, put together: the store, uploads, clones, removal, and the work behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from jettyctl.server.control import keylocks
from jettyctl.server.control.blobs import Blobs, secret_of
from jettyctl.server.control.clones import Clones
from jettyctl.server.control.database import Database
from jettyctl.server.control.finalize import Finalizer
from jettyctl.server.control.jobqueue import Worker
from jettyctl.server.control.objects import Objects
from jettyctl.server.control.recording import REMOVE, VERIFY
from jettyctl.server.control.removal import Removal
from jettyctl.server.control.sessions import SessionStore
from jettyctl.server.control.settings import Settings
from jettyctl.server.control.uploads import Uploads
from jettyctl.server.control.verifier import Verifier


@dataclass(frozen=True, slots=True)
class Hosting:
    """Services of one process. `blobs` is None where clients send to the store itself."""

    objects: Objects
    blobs: Blobs | None
    uploads: Uploads
    finalizer: Finalizer
    clones: Clones
    removal: Removal
    verifying: Worker
    removing: Worker


@asynccontextmanager
async def open_hosting(
    settings: Settings, database: Database, sessions: SessionStore, objects: Objects
) -> AsyncIterator[Hosting]:
    """The services, open while the context lasts, with their work going on behind."""
    async with AsyncExitStack() as stack:
        blobs = None
        if objects.local is not None:
            blobs = Blobs(database, objects.local, secret_of(objects.local))
            stack.callback(blobs.close)
        finalizer = Finalizer(database, objects, sessions, settings.lease_seconds)
        stack.push_async_callback(finalizer.close)
        clones = Clones(database, objects, settings.dedup_scope)
        stack.push_async_callback(clones.close)
        verifier, removal = Verifier(database, objects), Removal(database, objects)
        stack.push_async_callback(verifier.close)
        verifying, removing = Worker(database, VERIFY, verifier.verify), Worker(database, REMOVE, removal.remove)
        if database.dialect == "sqlite":  # one process: what another one held, it was killed with
            await finalizer.free_claims()
            await keylocks.forget_all(database)
        await stack.enter_async_context(_running(verifier, verifying, removing))
        uploads = Uploads(database, objects, sessions, blobs, settings.lease_seconds)
        yield Hosting(objects, blobs, uploads, finalizer, clones, removal, verifying, removing)


@asynccontextmanager
async def _running(verifier: Verifier, *workers: Worker) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        verifier.stop()
        for worker in workers:
            worker.stop()
        await asyncio.wait(tasks)

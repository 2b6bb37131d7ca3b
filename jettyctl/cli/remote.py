"""What `resume` and `sessions` do with sessions that the control plane keeps."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from jettyctl.core.model import Target
from jettyctl.core.names import printable
from jettyctl.core.units import format_duration, format_size
from jettyctl.errors import SessionBusy, UsageError

if TYPE_CHECKING:
    from jettyctl.control.sessions import RemoteSession
    from jettyctl.control.store import ControlStore
    from jettyctl.core.session import Session
    from jettyctl.journal.base import Journal
    from jettyctl.wiring import Runtime

UNFINISHED = ("in_progress", "paused")  # states in which a session can be held, and gone on with

def elsewhere(journal: Journal, named: list[str], *, configured: bool) -> tuple[str, str | None] | None:
    """The session and the file that are meant, where the arguments of `resume` mean a session of another machine."""
    if len(named) == 2 and not journal.match(named[1]):
        here = journal.match(named[0])
        mine = len(here) == 1 and here[0].unfinished and here[0].source.path == os.path.abspath(named[1])
        return None if mine else (named[0], named[1])
    return (named[0], None) if len(named) == 1 and configured and not journal.match(named[0]) else None


def bring_here(runtime: Runtime, named: str, path: str | None, *, take_over: bool) -> Session:
    """Take a session over, after its stored parts were compared with the file; it is in the journal then.

    Raises UsageError for a file that is another, or where there is nothing left to do, SessionBusy if somebody works on it.
    """
    from jettyctl.control.api import AlreadyCompleted
    from jettyctl.control.sessions import fetch

    store = runtime.stores.control_store(runtime.stores.plane())
    found = fetch(store.control, named)
    _must_be_free(found, take_over=take_over)
    try:
        return _brought(runtime, store, found, path)
    except AlreadyCompleted:
        raise _ended(found.session_id, "completed") from None


def _brought(runtime: Runtime, store: ControlStore, found: RemoteSession, path: str | None) -> Session:
    from jettyctl.engine.moving import Elsewhere, move_here

    there = Elsewhere(
        session_id=found.session_id,
        target=Target("jetty", store.control.origin, "", found.key),
        size=found.size,
        chunk_size=found.chunk_size,
        threads=found.threads,
        file_hash=found.file_hash,
        started_at=found.started_at,
        parts=store.stored_parts(found.session_id),
        checksum=store.checksum,
    )
    moved = move_here(there, path or _in_this_directory(found), runtime.cache, time.time())
    with runtime.journal.own(found.session_id):
        store.take(found.session_id)
        runtime.journal.save(moved.session)
        runtime.journal.save_chunks(found.session_id, moved.chunks)
    return moved.session


def line_of(session: RemoteSession) -> str:
    """One line of the listing."""
    done = f"{format_size(session.bytes_uploaded)} of {format_size(session.size)}"
    age = format_duration(max(0.0, time.time() - session.last_updated))
    held = f"  held by {printable(session.host)}" if session.lease_left and session.status in UNFINISHED else ""
    name, key = printable(session.file_name), printable(session.key)
    return f"{printable(session.session_id)}  {printable(session.status):11}  {done}  {age} ago  {name} -> jetty:{key}{held}"


def _must_be_free(found: RemoteSession, *, take_over: bool) -> None:
    """Say at once what would be found out after the file was read."""
    if found.status not in UNFINISHED:
        raise _ended(found.session_id, found.status)
    if found.lease_left and not take_over and found.host != os.uname().nodename:
        raise SessionBusy(
            f"session {found.session_id} is held by {printable(found.host)} for {found.lease_left:.0f} s",
            hint="Wait until it is free, or add --take-over.",
        )


def _ended(session_id: str, status: str) -> UsageError:
    return UsageError(
        f"session {session_id} is {printable(status)}", hint="Run the upload again: it sends only what is missing."
    )


def _in_this_directory(found: RemoteSession) -> str:
    """The file of that name here, where none was given: its bytes decide, not its name."""
    name = os.path.basename(found.file_name)
    if not name or not os.path.isfile(name):
        raise UsageError(
            f"session {found.session_id} is of another machine's {printable(found.file_name)}",
            hint=f"Name the same file here: jettyctl resume {found.session_id} FILE",
        )
    return name

"""The Python API: the same engine that the command line drives.

    from jettyctl import upload, resume

    done = upload("backup.tar", "s3://bucket/backups/", progress=lambda event: print(event))
    print(done.status, done.url, done.sha256)

Nothing here reads the configuration file or the variables of options: what a caller wants, a caller passes. Where files
are kept follows JETTY_DATA_DIR. Credentials and endpoints come from the standard AWS settings, as for the command line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Literal

from jettyctl.connection import Connection
from jettyctl.core.events import Event, FileDone
from jettyctl.core.model import ObjectOptions
from jettyctl.core.targets import parse_destination, target_of
from jettyctl.engine.batch import Outcome
from jettyctl.engine.shared import IfExists, Job, Wishes
from jettyctl.errors import CTRL_C, Interrupted, UsageError
from jettyctl.files.content_type import guess_content_type
from jettyctl.stores import Stores
from jettyctl.wiring import Runtime


def upload(
    source: str | os.PathLike[str],
    destination: str = "local:",
    *,
    progress: Callable[[Event], None] | None = None,
    chunk_size: Literal["auto", "tier"] | int = "auto",
    threads: int | None = None,
    if_exists: IfExists = "overwrite",
    restart: bool = False,
    content_type: str | None = None,
    cache_control: str | None = None,
    storage_class: str | None = None,
    acl: str | None = None,
    sse: str | None = None,
    sse_kms_key_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    connection: Connection | None = None,
) -> FileDone:
    """Send one file; an unfinished upload of it to the same destination is gone on with.

    `destination` is `s3://bucket/key`, `jetty:key`, `jetty://host/key` or `local:key`; a prefix ends in `/`. `chunk_size`
    is in bytes. `threads` is a ceiling. `progress` is called with each event of `jettyctl.core.events`, at most ten times
    a second with Progress; it must return quickly, and what it raises is dropped.

    Raises the errors of `jettyctl.errors`: among them SourceError, SourceChanged, AccessError, NetworkError,
    IntegrityError, AlreadyExists, SessionBusy. What was sent is kept: a later call goes on with it. On Ctrl-C the
    upload stops within seconds, keeps its parts, and KeyboardInterrupt is raised.
    """
    path = os.fspath(source)
    place = parse_destination(destination)
    options = ObjectOptions(
        content_type=content_type or guess_content_type(path),
        cache_control=cache_control,
        storage_class=storage_class,
        acl=acl,
        sse=sse,
        sse_kms_key_id=sse_kms_key_id,
        metadata=dict(metadata or {}),
    )
    wishes = Wishes(chunk_size, threads, if_exists, restart)
    with Runtime(Stores(connection or Connection()), emit=_guarded(progress)) as runtime:
        target = target_of(place, runtime.stores.endpoint(place), os.path.basename(path), several=False)
        return _run(runtime, runtime.job(path, target, options, wishes), threads)


def resume(session_id: str, *, progress: Callable[[Event], None] | None = None, connection: Connection | None = None) -> FileDone:
    """Go on with an unfinished session, named by its id or the beginning of it. Raises like `upload`, and UsageError
    for an id that is unknown, ambiguous or finished."""
    with Runtime(Stores(connection or Connection()), emit=_guarded(progress)) as runtime:
        found = [session for session in runtime.journal.match(session_id) if session.unfinished]
        if len(found) != 1:
            raise UsageError(f"{len(found)} unfinished sessions have an id that starts with {session_id!r}")
        return _run(runtime, runtime.job_of(found[0], Wishes()), None)


def _run(runtime: Runtime, job: Job, threads: int | None) -> FileDone:
    outcome: Outcome = runtime.run([job], threads=threads)
    if outcome.interrupted and runtime.stop.exit_status == CTRL_C and not outcome.done:
        raise KeyboardInterrupt
    if outcome.failed:
        raise outcome.failed[0].error
    if not outcome.done:
        raise Interrupted("stopped on request")
    return outcome.done[0]


def _guarded(progress: Callable[[Event], None] | None) -> Callable[[Event], None]:
    """A callback that cannot harm the upload: what it raises is dropped."""

    def emit(event: Event) -> None:
        if progress is not None:
            with contextlib.suppress(Exception):
                progress(event)

    return emit

"""Looking before sending: does the object at the target decide what is to be done? All of this blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from typing import Literal, NamedTuple

from jettyctl.core.model import Digests, ObjectInfo, Stored
from jettyctl.core.names import printable
from jettyctl.core.unchanged import comparable, unchanged
from jettyctl.engine.shared import Job, Shared
from jettyctl.errors import AccessError, AlreadyExists
from jettyctl.files.hashing import hash_file
from jettyctl.files.source import Source


class Verdict(NamedTuple):
    """What looking found. `digests` are the source's, where they are known without reading it again."""

    action: Literal["upload", "skip", "unchanged"]
    info: ObjectInfo | None
    digests: Digests | None


def look(shared: Shared, job: Job, source: Source, *, multipart: bool, waiting: Collection[str] = ()) -> Verdict:
    """Decide by what is at the target. Raises AlreadyExists for `--if-exists fail`.

    `waiting` are the ids of unfinished sessions of this very source. An object of one of them was completed by a run
    that was killed before it could say so: that session goes on, and says it now.

    A small file that we know nothing of is sent without looking: the look costs as much as the file.
    """
    digests = shared.cache.hashes(os.path.abspath(job.path), source.identity)
    remembered = shared.cache.stored(job.target.place)
    policy = job.wishes.if_exists
    worth_it = multipart or (remembered is not None and remembered.size == source.size)
    if policy == "overwrite" and not worth_it:
        return Verdict("upload", None, digests)
    try:
        info = job.store.head(job.target.key)
    except AccessError:
        if policy != "overwrite":
            raise
        return Verdict("upload", None, digests)  # who may write need not be allowed to look
    if info is None:
        shared.cache.forget_stored(job.target.place)
        return Verdict("upload", None, digests)
    if info.session_id in waiting and info.size == source.size:
        return Verdict("upload", info, digests)
    if policy == "fail":
        raise AlreadyExists(f"{printable(job.target.url)} exists already", hint="Leave --if-exists out to replace it.")
    if policy == "skip":
        return Verdict("skip", info, digests)
    if digests is None and (comparable(info, source.size) or _recorded(info, source.size, remembered)):
        digests = hash_and_remember(shared, job, source)
    same = info.size == source.size and unchanged(info, digests, remembered)
    return Verdict("unchanged" if same else "upload", info, digests)


def _recorded(info: ObjectInfo, size: int, remembered: Stored | None) -> bool:
    """Whether the object is the one that we stored last, so that its SHA-256 is known here."""
    return remembered is not None and (remembered.etag, remembered.size, info.size) == (info.etag, size, size)


def hash_and_remember(shared: Shared, job: Job, source: Source, keep: list[bytes] | None = None) -> Digests:
    """Hash the source in this thread, and keep the result; `keep` as for `hash_file`.

    Raises SourceChanged if it did not hold still.
    """
    began = time.time_ns()
    digests = hash_file(source, on_bytes=shared.meter.add_hashed, keep=keep, stopped=shared.stop.requested)
    if source.current_identity() != source.identity:
        raise source.changed("changed")
    shared.cache.remember(os.path.abspath(job.path), source.identity, digests, began)
    return digests

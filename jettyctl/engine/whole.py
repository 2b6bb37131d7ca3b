"""A file in one request. It runs from open to record on one carrier thread, because small files come by the thousand."""

from __future__ import annotations

import uuid
from dataclasses import replace

from jettyctl.core.model import SESSION_METADATA, SHA256_METADATA, Digests, ObjectInfo, ObjectOptions, Stored
from jettyctl.engine.look import Verdict, hash_and_remember
from jettyctl.engine.shared import Job, Shared
from jettyctl.errors import AlreadyExists
from jettyctl.files.body import FileBody
from jettyctl.files.source import Source


def send_whole(shared: Shared, job: Job, source: Source, verdict: Verdict) -> tuple[ObjectInfo, Digests, str]:
    """Hash and send a file that is one chunk; the object, its digests, and the session id in its metadata."""
    kept: list[bytes] = []
    digests = verdict.digests or hash_and_remember(shared, job, source, kept)
    session_id = str(uuid.uuid4())
    body = FileBody(
        source,
        0,
        source.size,
        digests.crc64,
        on_bytes=shared.meter.add_sent,
        stopped=shared.stop.forced,
        digests={"sha256": bytes.fromhex(digests.sha256)},
        kept=b"".join(kept),
    )
    options = stamped(job.options, session_id, digests.sha256)
    if_absent = job.wishes.if_exists == "fail"
    try:
        info = job.store.put(job.target.key, body, options, if_absent=if_absent)
    except AlreadyExists:
        ours = job.store.head(job.target.key)  # a try whose reply was lost may have been the one that stored it
        if ours is None or ours.session_id != session_id:
            raise
        info = ours
    shared.meter.add_done(source.size)
    shared.cache.remember_stored(job.target.place, Stored(source.size, info.etag, digests.sha256, session_id))
    return info, digests, session_id


def stamped(options: ObjectOptions, session_id: str, sha256: str | None) -> ObjectOptions:
    """The options with the session in the object's metadata, and the content's SHA-256 where it is known."""
    stamps = {SESSION_METADATA: session_id} | ({SHA256_METADATA: sha256} if sha256 else {})
    return replace(options, metadata={**options.metadata, **stamps})

"""A file that the other side has already: found by its hash, proven to be ours, and never sent. All of this blocks.

What is asked costs little before it costs more: a sample of the file says whether it may be known there at all, only
then is all of it hashed (unless its hash is known), and only for content that both sides have is anything proven.
Nothing of this can fail an upload.
"""

from __future__ import annotations

import os
import time

from jettyctl.core.events import Note
from jettyctl.core.model import ObjectInfo, Stored
from jettyctl.core.possession import answer_of, proof
from jettyctl.engine.shared import Job, Shared
from jettyctl.errors import AlreadyExists, Interrupted, JettyError
from jettyctl.files.fingerprint import blake3_of, sample_of
from jettyctl.files.source import Source
from jettyctl.storage.dedup import Dedup


def clone_known(shared: Shared, job: Job, source: Source) -> ObjectInfo | None:
    """The object at the job's target, made without sending anything; None if the file must be sent.

    Raises Interrupted, and AlreadyExists where the target must not be replaced.
    """
    if job.dedup is None:
        return None
    try:
        return _clone(shared, job, source, job.dedup)
    except (Interrupted, AlreadyExists):
        raise
    except JettyError as error:
        shared.told.append(Note("info", f"{job.path} is sent without looking for a copy of it: {error.message}"))
        return None


def _clone(shared: Shared, job: Job, source: Source, dedup: Dedup) -> ObjectInfo | None:
    if source.size < dedup.smallest:
        return None
    blake3 = shared.cache.blake3(os.path.abspath(job.path), source.identity)
    if not blake3:
        if not dedup.may_be_known(source.size, sample_of(source)):
            return None
        blake3 = _hashed(shared, job, source)
    challenge = dedup.challenge(source.size, blake3)
    answer = answer_of(challenge.seed, source.size, source.read)
    proven = proof(
        answer, nonce=challenge.nonce, user_id=challenge.user_id, size=source.size, blake3=blake3, seed=challenge.seed
    )
    info = dedup.clone(challenge, proven, job.target.key, job.options, if_absent=job.wishes.if_exists == "fail")
    if info is None or info.size != source.size:
        return None
    if info.sha256:
        shared.cache.remember_stored(job.target.place, Stored(info.size, info.etag, info.sha256, info.session_id or ""))
    return info


def _hashed(shared: Shared, job: Job, source: Source) -> str:
    """The file's BLAKE3, computed now and kept. Raises SourceChanged if the file did not hold still."""
    began = time.time_ns()
    found = blake3_of(source, on_bytes=shared.meter.add_hashed, stopped=shared.stop.requested)
    if source.current_identity() != source.identity:
        raise source.changed("changed")
    shared.cache.remember_blake3(os.path.abspath(job.path), source.identity, found, began)
    return found

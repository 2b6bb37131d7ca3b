"""The commit point: Complete, and the proof that the object is there and is the file.

Complete cannot be repeated blindly: after a lost reply the store may answer that it knows no such upload, or that the
key is taken. Then the object itself is asked whether it is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from jettyctl.core.model import Digests, ObjectInfo, Receipt, Upload
from jettyctl.core.names import printable
from jettyctl.core.session import Session
from jettyctl.engine.shared import Job
from jettyctl.errors import AccessError, AlreadyExists, IntegrityError, NetworkError, UploadGone


def complete_and_verify(job: Job, session: Session, upload: Upload, receipts: Sequence[Receipt], digests: Digests) -> ObjectInfo:
    """Make the object and look at it. Blocks. Raises IntegrityError if it is not the file that was sent."""
    absent = job.wishes.if_exists == "fail"
    try:
        info = job.store.complete(
            upload, receipts, size=session.size, crc64=digests.crc64, sha256=digests.sha256, if_absent=absent
        )
    except (UploadGone, NetworkError, AlreadyExists):
        ours = find_finished(job, session)
        if ours is None:
            raise
        info = ours
    try:
        seen = job.store.head(job.target.key)
    except AccessError:
        return info  # who may write need not be allowed to look: what Complete itself has checked must do
    if seen is None or seen.size != session.size or seen.crc64 not in (None, digests.crc64):
        what = "is not there after it was completed" if seen is None else "is not the file that was sent"
        raise IntegrityError(f"{printable(job.target.url)} {what}", hint="Run the same command again.")
    return seen if seen.etag else info


def find_finished(job: Job, session: Session) -> ObjectInfo | None:
    """The object, if the target holds the one that this session was making."""
    info = job.store.head(job.target.key)
    return info if info and info.session_id == session.session_id and info.size == session.size else None

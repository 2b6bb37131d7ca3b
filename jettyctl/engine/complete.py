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
from jettyctl.errors import AccessError, AlreadyExists, IntegrityError, NetworkError, UploadGone, WrongObject

_AGAIN = "Run the same command again."


def complete_and_verify(job: Job, session: Session, upload: Upload, receipts: Sequence[Receipt], digests: Digests) -> ObjectInfo:
    """Make the object and look at it. Blocks. Raises WrongObject if it is not the file that was sent."""
    absent = job.wishes.if_exists == "fail"
    try:
        info = job.store.complete(
            upload, receipts, size=session.size, crc64=digests.crc64, sha256=digests.sha256, if_absent=absent
        )
    except (UploadGone, NetworkError, AlreadyExists):
        ours = find_finished(job, session, digests.crc64)
        if ours is None:
            raise
        info = ours
    try:
        seen = job.store.head(job.target.key)
    except AccessError:
        return info  # who may write need not be allowed to look: what Complete itself has checked must do
    if seen is None:
        raise IntegrityError(f"{printable(job.target.url)} is not there after it was completed", hint=_AGAIN)
    _check(job, session, seen, digests.crc64)
    return seen if seen.etag else info


def find_finished(job: Job, session: Session, crc64: int | None) -> ObjectInfo | None:
    """The object, if the target holds the one that this session was making; its CRC64 must be `crc64`, if that is known.

    Raises WrongObject if it is not the file.
    """
    info = job.store.head(job.target.key)
    if info is None or info.session_id != session.session_id:
        return None
    _check(job, session, info, crc64)
    return info


def _check(job: Job, session: Session, seen: ObjectInfo, crc64: int | None) -> None:
    if seen.size != session.size or (crc64 is not None and seen.crc64 not in (None, crc64)):
        raise WrongObject(f"{printable(job.target.url)} is not the file that was sent", hint=_AGAIN)

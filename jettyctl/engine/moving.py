"""A session of another machine goes on here, if the bytes are here: each part that is stored is compared with the file.

Nothing is sent, taken or written down before that. What a store verified, or an MD5 that an ETag is, decides; a part that
nothing speaks for is left out, and will be sent again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from os import path as ospath

from jettyctl.core.model import Chunk, Layout, Receipt, Target
from jettyctl.core.names import printable
from jettyctl.core.session import ChunkRecord, ChunkStatus, Session, SourceRecord
from jettyctl.engine.transfer import crc_of_range
from jettyctl.errors import UsageError
from jettyctl.files.body import FileBody
from jettyctl.files.cache import HashCache
from jettyctl.files.hashing import hash_file
from jettyctl.files.source import Source

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What is known of a session, but not by this machine. `checksum` is how the store verifies parts."""

    session_id: str
    target: Target
    size: int
    chunk_size: int
    threads: int
    file_hash: str
    started_at: float
    parts: Sequence[Receipt]
    checksum: str


@dataclass(frozen=True, slots=True)
class Moved:
    """The session as this machine would keep it."""

    session: Session
    chunks: Sequence[ChunkRecord]


def move_here(found: Elsewhere, path: str, cache: HashCache, now: float) -> Moved:
    """Compare a session with the file at `path`. Blocks. Raises UsageError if that is another file, and SourceError."""
    with Source.open(path) as source:
        if source.size != found.size:
            raise _another(path, f"it has {source.size} bytes, that of the session {found.size}")
        _check_hash(found, source, cache)
        chunks = _proven(found, source, now)
        if source.current_identity() != source.identity:
            raise source.changed("changed")
    session = Session(
        session_id=found.session_id,
        source=SourceRecord(ospath.abspath(path), source.identity),
        target=found.target,
        chunk_size=found.chunk_size,
        threads=found.threads,
        started_at=found.started_at,
        last_updated=now,
        upload_id=found.session_id,
        file_hash=found.file_hash,
        chunks_completed=len(chunks),
        bytes_uploaded=sum(chunk.bytes_uploaded for chunk in chunks),
        imported=len(chunks) < len(found.parts),  # then the engine looks at what is stored once more, as strictly
    )
    return Moved(session, chunks)


def _check_hash(found: Elsewhere, source: Source, cache: HashCache) -> None:
    """Where the session says what the whole file is, the file must be that. What was hashed for it is kept."""
    if not found.file_hash.startswith("sha256:"):
        return
    path = ospath.abspath(source.path)
    digests = cache.hashes(path, source.identity)
    if digests is None:
        began = time.time_ns()
        digests = hash_file(source)
        cache.remember(path, source.identity, digests, began)
    if found.file_hash != f"sha256:{digests.sha256}":
        raise _another(source.path, "its SHA-256 is another")


def _proven(found: Elsewhere, source: Source, now: float) -> list[ChunkRecord]:
    layout, chunks = Layout(found.size, found.chunk_size), []
    for part in found.parts:
        if not 1 <= part.number <= layout.count or part.size != layout.chunk(part.number - 1).length:
            continue
        chunk = layout.chunk(part.number - 1)
        crc = crc_of_range(source, chunk)
        if _fits(part, chunk, crc, source, found.checksum):
            chunks.append(ChunkRecord(chunk.index, ChunkStatus.COMPLETED, now, "", part.size, part.etag, crc))
    return chunks


def _fits(part: Receipt, chunk: Chunk, crc: int, source: Source, checksum: str) -> bool:
    """Whether a part is certainly this range of the file; False where nothing says so. Raises UsageError if it is not."""
    if part.crc64 is not None:
        if part.crc64 != crc:
            raise _another(source.path, f"part {part.number} holds other bytes")
        return checksum == "crc64nvme"
    if not _MD5.fullmatch(part.etag):
        return False
    same = FileBody(source, chunk.offset, chunk.length, crc).digest("md5").hex() == part.etag
    if not same and checksum in ("md5", "etag"):
        raise _another(source.path, f"part {part.number} holds other bytes")
    return same


def _another(path: str, how: str) -> UsageError:
    return UsageError(f"{printable(path)} is not the file of this session: {how}", hint="Name the file that was being sent.")

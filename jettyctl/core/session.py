"""A session and its chunk records, and their JSON: the schema shared by the local journal and the control plane.

The field names are the wire's (`jetty:session:{id}` and `jetty:chunks:{id}`); `source` and `target` are local additions.
No field ever holds a credential or a signed URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from jettyctl.core.model import Identity, Layout, Target


class SessionStatus(StrEnum):
    """Where a session stands. `COMPLETING` is written before Complete is asked for, and only locally."""

    IN_PROGRESS = "in_progress"
    PAUSED = "paused"
    COMPLETING = "completing"
    COMPLETED = "completed"
    FAILED = "failed"


UNFINISHED = frozenset({SessionStatus.IN_PROGRESS, SessionStatus.PAUSED, SessionStatus.COMPLETING})


class ChunkStatus(StrEnum):
    """Where a chunk stands. Only `COMPLETED` carries a receipt."""

    PENDING = "pending"
    UPLOADING = "uploading"
    COMPLETED = "completed"
    FAILED = "failed"


class SourceRecord(NamedTuple):
    """The source as the session first saw it. `path` is absolute; undecodable bytes are surrogate escapes."""

    path: str
    identity: Identity


@dataclass(frozen=True, slots=True)
class Session:
    """One upload of one source to one target. Times are seconds since the epoch (UTC)."""

    session_id: str
    source: SourceRecord
    target: Target
    chunk_size: int
    threads: int
    started_at: float
    last_updated: float
    upload_id: str | None = None
    status: SessionStatus = SessionStatus.IN_PROGRESS
    user_id: str = ""
    file_id: str = ""
    file_hash: str = ""  # "sha256:" + 64 hex digits, once known
    edges_used: tuple[str, ...] = ()
    chunks_completed: int = 0
    bytes_uploaded: int = 0
    completed_at: float | None = None
    error_message: str = ""
    imported: bool = False  # came from another machine: its endpoint must be confirmed before anything is sent there
    options: Mapping[str, Any] = field(default_factory=dict)  # what was asked for, so that a resume needs no flags

    @property
    def size(self) -> int:
        return self.source.identity.size

    @property
    def layout(self) -> Layout:
        return Layout(self.size, self.chunk_size)

    @property
    def unfinished(self) -> bool:
        return self.status in UNFINISHED

    def with_status(self, status: SessionStatus, now: float, **changes: Any) -> Session:  # noqa: ANN401 - fields of this class, checked by replace
        """A copy in another state, stamped `now`."""
        return replace(self, status=status, last_updated=now, **changes)

    def to_json(self) -> dict[str, Any]:
        """The record as the shared schema spells it."""
        identity = self.source.identity
        return {
            "sessionId": self.session_id,
            "userId": self.user_id,
            "fileId": self.file_id,
            "fileName": self.source.path.rsplit("/", 1)[-1],
            "fileHash": self.file_hash,
            "fileSize": self.size,
            "chunkSize": self.chunk_size,
            "threads": self.threads,
            "edgesUsed": list(self.edges_used),
            "chunksTotal": self.layout.count,
            "chunksCompleted": self.chunks_completed,
            "bytesUploaded": self.bytes_uploaded,
            "status": self.status.value,
            "startedAt": self.started_at,
            "lastUpdated": self.last_updated,
            "completedAt": self.completed_at,
            "errorMessage": self.error_message,
            "imported": self.imported,
            "options": dict(self.options),
            "source": {
                "path": self.source.path,
                "dev": identity.dev,
                "ino": identity.ino,
                "size": identity.size,
                "mtimeNs": identity.mtime_ns,
                "ctimeNs": identity.ctime_ns,
            },
            "target": {
                "scheme": self.target.scheme,
                "endpoint": self.target.endpoint,
                "bucket": self.target.bucket,
                "key": self.target.key,
                "uploadId": self.upload_id,
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Session:
        """Read a record back. Raises KeyError, TypeError or ValueError for what is not one."""
        source, target = data["source"], data["target"]
        identity = Identity(*(_whole(source[name]) for name in ("dev", "ino", "size", "mtimeNs", "ctimeNs")))
        chunk_size = _whole(data["chunkSize"])
        if chunk_size < 1 or identity.size < 0:
            raise ValueError("sizes must be positive")
        return cls(
            session_id=_text(data["sessionId"]),
            source=SourceRecord(_text(source["path"]), identity),
            target=Target(*(_text(target[name]) for name in ("scheme", "endpoint", "bucket", "key"))),
            upload_id=None if target["uploadId"] is None else _text(target["uploadId"]),
            chunk_size=chunk_size,
            threads=_whole(data["threads"]),
            started_at=_moment(data["startedAt"]),
            last_updated=_moment(data["lastUpdated"]),
            status=SessionStatus(data["status"]),
            user_id=_text(data.get("userId", "")),
            file_id=_text(data.get("fileId", "")),
            file_hash=_text(data.get("fileHash", "")),
            edges_used=tuple(_text(edge) for edge in data.get("edgesUsed", ())),
            chunks_completed=_whole(data.get("chunksCompleted", 0)),
            bytes_uploaded=_whole(data.get("bytesUploaded", 0)),
            completed_at=None if data.get("completedAt") is None else _moment(data["completedAt"]),
            error_message=_text(data.get("errorMessage", "")),
            imported=bool(data.get("imported", False)),
            options=dict(data.get("options", {})),
        )


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """What is known of one chunk. `etag` and `crc64` are set once it is completed; `edge_id` is "" for the direct route."""

    index: int
    status: ChunkStatus
    timestamp: float
    edge_id: str = ""
    bytes_uploaded: int = 0
    etag: str = ""
    crc64: int | None = None
    error_message: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as the shared schema spells it; the field name (the index) is not part of it."""
        return {
            "chunkHash": "" if self.crc64 is None else f"crc64nvme:{self.crc64:016x}",
            "edgeId": self.edge_id,
            "status": self.status.value,
            "bytesUploaded": self.bytes_uploaded,
            "errorMessage": self.error_message,
            "timestamp": self.timestamp,
            "etag": self.etag,
        }

    @classmethod
    def from_json(cls, index: int, data: Mapping[str, Any]) -> ChunkRecord:
        """Read a record back. Raises KeyError, TypeError or ValueError for what is not one."""
        status = ChunkStatus(data["status"])  # first: what is no mapping is a TypeError here
        algorithm, _, digest = _text(data.get("chunkHash", "")).partition(":")
        return cls(
            index=index,
            status=status,
            timestamp=_moment(data["timestamp"]),
            edge_id=_text(data.get("edgeId", "")),
            bytes_uploaded=_whole(data.get("bytesUploaded", 0)),
            etag=_text(data.get("etag", "")),
            crc64=_crc64(digest) if algorithm == "crc64nvme" else None,
            error_message=_text(data.get("errorMessage", "")),
        )


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"not a whole number: {value!r}")
    return value


def _moment(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a time: {value!r}")
    if not 0 <= value < 1 << 40:  # not a number, infinite, or tens of thousands of years away: nothing can show it
        raise ValueError(f"not a time: {value!r}")
    return float(value)


def _crc64(digest: str) -> int:
    if not re.fullmatch("[0-9a-f]{16}", digest):
        raise ValueError(f"not a CRC-64: {digest!r}")
    return int(digest, 16)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}")
    return value

"""What the engine tells: frozen values, one kind per fact. Sinks (terminal, JSON, the Python API) decide what to show.

Events are delivered on the engine's event loop, in order. `source` is the path as given, `url` the target's address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jettyctl.errors import JettyError

Status = Literal["uploaded", "resumed", "unchanged", "cloned", "skipped"]


class Planned(NamedTuple):
    """A file's cut is decided. `action` follows from what is at the target, and from the journal."""

    source: str
    url: str
    size: int
    chunk_size: int
    chunks: int
    threads: int
    multipart: bool
    checksum: str
    action: Literal["upload", "resume", "skip", "unchanged"] = "upload"
    bytes_reused: int = 0


class SessionStarted(NamedTuple):
    """A multipart session is open (its intent is in the journal). `reused` bytes are at the store already."""

    source: str
    url: str
    session_id: str
    size: int
    reused: int


@dataclass(frozen=True, slots=True)  # not a named tuple: `index` is a method of those
class ChunkDone:
    """A chunk has its receipt."""

    source: str
    session_id: str
    index: int
    length: int


class Progress(NamedTuple):
    """The whole run so far. `bytes_done` counts acknowledged or reused bytes, `bytes_sent` body bytes on the wire.

    `bytes_reused` are those of `bytes_done` that did not have to be sent.
    """

    files_total: int
    files_done: int
    bytes_total: int
    bytes_done: int
    bytes_reused: int
    bytes_sent: int
    bytes_hashed: int
    seconds: float
    in_flight: int
    limit: int

    @property
    def bytes_shown(self) -> int:
        """Progress for display: includes the sent bytes of chunks in flight."""
        return max(self.bytes_done, min(self.bytes_total, self.bytes_reused + self.bytes_sent))


class Retried(NamedTuple):
    """A request failed and is tried again after `delay` seconds."""

    operation: str
    attempt: int
    delay: float
    error: JettyError


class Note(NamedTuple):
    """Something that a person may want to know. `level` decides at which verbosity it is shown."""

    level: Literal["debug", "info", "warning"]
    text: str


class FileDone(NamedTuple):
    """A file arrived, or needed not to be sent. `seconds` is wall time for this file."""

    source: str
    url: str
    status: Status
    size: int
    bytes_sent: int
    bytes_reused: int
    sha256: str | None
    etag: str
    session_id: str | None
    chunks: int
    chunks_reused: int
    seconds: float
    edges: Mapping[str, int] = {}  # chunks sent now, by the id of the route; "" is the direct one


class FileFailed(NamedTuple):
    """A file did not arrive. `session_id` is set where a resume can go on."""

    source: str
    url: str
    error: JettyError
    session_id: str | None = None


Event = Planned | SessionStarted | ChunkDone | Progress | Retried | Note | FileDone | FileFailed

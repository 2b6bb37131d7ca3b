"""The JSON of requests and answers: what a field may hold, and the bodies of the four endpoints of the contract.

Fields that are not known are ignored: clients that exist send some. A wrong type is refused, never converted. Texts are
bounded and hold no NUL; a lone surrogate is no text at all.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]*$"
NO_NUL = r"^[^\x00]*$"

Size = Annotated[int, Field(ge=0, le=2**63 - 1)]  # bytes
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Usd = Annotated[float, Field(ge=0, le=1e12)]
UserId = Annotated[str, Field(min_length=1, max_length=256, pattern=NO_CONTROL)]
Identity = Annotated[str, Field(min_length=1, max_length=256, pattern=NO_CONTROL)]  # a file hash of whatever kind
SessionId = Annotated[str, Field(min_length=1, max_length=64, pattern=NO_CONTROL)]
FileId = Annotated[str, Field(min_length=1, max_length=64, pattern=NO_CONTROL)]
EdgeId = Annotated[str, Field(max_length=63, pattern=NO_CONTROL)]
ChunkHash = Annotated[str, Field(max_length=256, pattern=NO_CONTROL)]
FileName = Annotated[str, Field(min_length=1, max_length=1024, pattern=NO_NUL)]
Talk = Annotated[str, Field(max_length=8192, pattern=NO_NUL)]  # an error message, as a client words it
Status = Literal["pending", "uploading", "completed", "failed"]
Via = Literal["web", "desktop", "api", "cli"]


class Body(BaseModel):
    """Base of requests: camelCase, strict types, finite numbers."""

    model_config = ConfigDict(strict=True, alias_generator=to_camel, allow_inf_nan=False)


class Answer(BaseModel):
    """Base of answers. They document; what is sent is made by the routes, and the contract's tests compare."""

    model_config = ConfigDict(alias_generator=to_camel)


class Failure(Answer):
    """Every failure."""

    error: str
    details: str


class Place(Body):
    """Where a user is, in degrees."""

    lat: Annotated[float, Field(ge=-90, le=90)]
    lng: Annotated[float, Field(ge=-180, le=180)]
    city: Annotated[str, Field(max_length=256, pattern=NO_NUL)] | None = None


class OptimalEdges(Body):
    """A file that is about to be sent. `budget` is in USD."""

    user_id: UserId
    file_size: Size
    file_hash: Identity
    file_name: FileName | None = None
    user_location: Place | None = None
    priority: Literal["speed", "cost", "balanced"] | None = None
    budget: Usd | None = None


class Plan(Answer):
    """Bytes of a chunk, threads, seconds, USD."""

    chunk_size: int
    threads: int
    compression: Literal["none"]
    estimated_time: float
    estimated_cost: float


class Route(Answer):
    """An edge or the direct route. Milliseconds, percent, kilometres; null is what nobody knows."""

    id: str
    url: str
    latency: float | None
    load: float | None
    distance: float | None
    weight: float
    fresh: bool


class Known(Answer):
    """A file that this user has already."""

    file_id: str
    url: str
    saved_bytes: int
    saved_cost: float
    message: str


class OptimalEdgesAnswer(Answer):
    """`message` is there where there is something to say about the choice."""

    strategy: Plan
    edges: list[Route]
    duplicate: Known | None
    message: str | None = None


class CheckDuplicate(Body):
    """A file that the user may have sent before."""

    file_hash: Identity
    user_id: UserId
    file_name: FileName | None = None
    file_size: Size | None = None


class KnownFile(Answer):
    """The user's own record of a file."""

    file_id: str
    url: str
    file_name: str
    file_size: int
    mime_type: str
    upload_count: int
    first_uploaded_at: str


class Savings(Answer):
    """Bytes and USD."""

    bytes: int
    cost: float


class CheckDuplicateAnswer(Answer):
    """`file` and `savings` are there for a duplicate."""

    is_duplicate: bool
    file: KnownFile | None = None
    savings: Savings | None = None
    message: str


class CacheChunk(Body):
    """The state of one chunk."""

    session_id: SessionId
    chunk_index: Count
    status: Status
    chunk_hash: ChunkHash | None = None
    edge_id: EdgeId | None = None
    bytes_uploaded: Size | None = None
    error_message: Talk | None = None


class ChunkKept(Answer):
    """The chunk that was kept."""

    session_id: str
    chunk_index: int
    status: Status


class CacheChunkAnswer(Answer):
    """Durable when it is sent."""

    success: Literal[True]
    message: str
    chunk: ChunkKept


class Chunk(Answer):
    """A chunk's last known state. `timestamp` is in ISO 8601, UTC."""

    chunk_index: int
    chunk_hash: str
    edge_id: str
    status: Status
    bytes_uploaded: int
    error_message: str
    timestamp: str


class ChunksAnswer(Answer):
    """In index order. `message` is there where there is none."""

    chunks: list[Chunk]
    total: int
    message: str | None = None


class TrackStart(Body):
    """An upload begins."""

    action: Literal["start"]
    user_id: UserId
    file_name: FileName
    file_hash: Identity
    file_size: Size
    file_id: FileId | None = None
    chunk_size: Annotated[Size, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    edges_used: Annotated[list[EdgeId], Field(max_length=64)] | None = None
    chunks_total: Annotated[Count, Field(ge=1)] | None = None
    estimated_cost: Usd | None = None
    upload_via: Via | None = None
    jetty_speed_enabled: bool | None = None


class TrackProgress(Body):
    """An upload goes on."""

    action: Literal["progress"]
    session_id: SessionId
    chunks_completed: Count
    bytes_uploaded: Size


class TrackComplete(Body):
    """An upload is done. `actual_cost` is in USD."""

    action: Literal["complete"]
    session_id: SessionId
    actual_cost: Usd | None = None


class TrackFail(Body):
    """An upload has failed."""

    action: Literal["fail"]
    session_id: SessionId
    chunks_completed: Count | None = None
    bytes_uploaded: Size | None = None
    error_message: Talk | None = None


TrackUpload = Annotated[TrackStart | TrackProgress | TrackComplete | TrackFail, Field(discriminator="action")]


class TrackedSession(Answer):
    """`estimated_time` is in seconds."""

    session_id: str
    file_id: str
    chunks_total: int
    estimated_time: float


class Progress(Answer):
    """What was told."""

    chunks_completed: int
    bytes_uploaded: int


class TrackUploadAnswer(Answer):
    """`session` answers start, `progress` progress, `session_id` the other two."""

    success: Literal[True]
    message: str
    session: TrackedSession | None = None
    progress: Progress | None = None
    session_id: str | None = None
    error_message: str | None = None


class Health(Answer):
    """Of this process."""

    status: Literal["ok"]
    version: str


class StoreLimits(Answer):
    """Bytes, but for `max_parts`."""

    max_parts: int
    min_part: int
    max_part: int
    max_object: int
    max_key_bytes: int


class StoreInfo(Answer):
    """What the store behind the service can do. `checksum` is what it verifies parts by."""

    kind: Literal["s3", "local"]
    checksum: Literal["crc64nvme", "sha256", "md5", "etag", "none"]
    limits: StoreLimits


class Dedup(Answer):
    """Among whom content is recognised, and from what size in bytes."""

    scope: Literal["user", "tenant", "all"]
    smallest: int


class Service(Answer):
    """Who the key is, and what to expect."""

    user_id: str
    tenant_id: str
    scopes: list[str]
    version: str
    store: StoreInfo
    dedup: Dedup
    lease_seconds: float

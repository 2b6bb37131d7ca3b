"""The JSON of uploads, sessions, clones and files."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from jettyctl.core.model import SHA256_METADATA
from jettyctl.server.control.bodies import NO_CONTROL, NO_NUL, Answer, Body, EdgeId, FileName, Size

MOST_PARTS = 100  # in one request
MOST_METADATA = 2_048  # bytes of names and values together; what S3 takes


def _canonical(text: str) -> str:
    """A UUID in its usual spelling, so that no session has two names."""
    if str(UUID(text)) != text:
        raise ValueError("write the UUID in lower case, with hyphens")
    return text


NewSessionId = Annotated[str, Field(min_length=36, max_length=36), AfterValidator(_canonical)]
Key = Annotated[str, Field(min_length=1, max_length=1024, pattern=NO_NUL)]
Holder = Annotated[str, Field(min_length=1, max_length=128, pattern=NO_CONTROL)]
Host = Annotated[str, Field(max_length=255, pattern=NO_CONTROL)]
Fence = Annotated[int, Field(ge=1, le=2**63 - 1)]
Number = Annotated[int, Field(ge=1, le=100_000)]
Crc64 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Blake3 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Sample = Annotated[str, StringConstraints(pattern=r"^blake3:[0-9a-f]{64}$")]
Etag = Annotated[str, Field(min_length=1, max_length=256, pattern=NO_CONTROL)]
HeaderText = Annotated[str, Field(max_length=1024, pattern=r"^([!-~]([ -~]*[!-~])?)?$")]
MetadataName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]{1,128}$")]


class Described(Body):
    """What is said of an object."""

    content_type: HeaderText | None = None
    cache_control: HeaderText | None = None
    storage_class: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]{1,64}$")] | None = None
    metadata: Annotated[dict[MetadataName, HeaderText], Field(max_length=100)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Described:
        given = self.metadata or {}
        if sum(len(name) + len(value.encode()) for name, value in given.items()) > MOST_METADATA:
            raise ValueError(f"metadata has more than {MOST_METADATA} bytes")
        if any(name.startswith("jetty-") and name != SHA256_METADATA for name in given):
            raise ValueError("metadata that begins with jetty- is the service's own")
        return self


class NewUpload(Described):
    """An upload that is to begin, or to be gone on with by the same holder."""

    session_id: NewSessionId
    key: Key
    file_name: FileName
    file_size: Size
    chunk_size: Annotated[Size, Field(ge=1)]
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    file_hash: Sha256 | None = None
    if_exists: Literal["overwrite", "fail"] = "overwrite"
    holder: Holder
    host: Host = ""


class UploadBegun(Answer):
    """`checksum` is how the store verifies parts, and so which digests it wants."""

    session_id: str
    file_id: str
    fence: int
    lease_seconds: float
    checksum: str
    chunks_total: int


class PartReceived(Body):
    """A receipt of the store."""

    number: Number
    etag: Etag
    crc64: Crc64
    length: Size
    edge_id: EdgeId = ""


class PartWanted(Body):
    """A part that is to be sent. `md5` in base64, `sha256` in hex, where the store verifies these."""

    number: Number
    length: Size
    crc64: Crc64
    md5: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{22}==$")] | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None


class Parts(Body):
    """Receipts to keep, and parts to sign."""

    fence: Fence
    completed: Annotated[list[PartReceived], Field(max_length=MOST_PARTS, default_factory=list)]
    wanted: Annotated[list[PartWanted], Field(max_length=MOST_PARTS, default_factory=list)]


class SignedPart(Answer):
    """A request that the client may send until `expires_at` (seconds since the epoch)."""

    number: int
    method: Literal["PUT"]
    url: str
    headers: dict[str, str]
    expires_at: float


class SignedParts(Answer):
    """In the order that was asked for."""

    parts: list[SignedPart]
    lease_seconds: float


class StoredPart(Answer):
    """What the store has of a part."""

    number: int
    size: int
    etag: str
    crc64: str | None


class StoredParts(Answer):
    """In order of number."""

    parts: list[StoredPart]


class Finish(Body):
    """The whole file, as it was sent."""

    fence: Fence
    file_hash: Sha256
    crc64: Crc64
    size: Size
    completed: Annotated[list[PartReceived], Field(max_length=MOST_PARTS, default_factory=list)]


class Finished(Answer):
    """The object that came of it."""

    session_id: str
    file_id: str
    url: str
    size: int
    etag: str
    crc64: str
    file_hash: str
    status: Literal["completed"]


class TakeLease(Body):
    """Who wants to work on a session."""

    holder: Holder
    host: Host = ""
    take_over: bool = False


class SessionRecord(Answer):
    """A session. Times are in seconds since the epoch."""

    session_id: str
    user_id: str
    tenant_id: str
    file_id: str
    file_name: str
    file_hash: str
    file_size: int
    chunk_size: int
    threads: int
    edges_used: list[str]
    chunks_total: int
    chunks_completed: int
    bytes_uploaded: int
    status: str
    started_at: float
    last_updated: float
    completed_at: float | None
    error_message: str
    key: str
    host: str
    lease_expires_in: float | None
    file_url: str | None


class LeaseTaken(Answer):
    """The fence that all further calls name."""

    fence: int
    lease_seconds: float
    session: SessionRecord


class SessionsAnswer(Answer):
    """Those changed last come first."""

    sessions: list[SessionRecord]


class Fingerprint(Body):
    """A file that may be known."""

    size: Size
    sample: Sample


class FingerprintAnswer(Answer):
    """Whether it is worth hashing the file before it is sent."""

    may_be_known: bool


class Challenge(Body):
    """Content that the client says it has."""

    size: Size
    blake3: Blake3


class ChallengeAnswer(Answer):
    """What is to be proven; `seed` in hex."""

    nonce: str
    seed: str
    expires_in: int


class Clone(Described):
    """A proof, and what to make of the content. `key` null: a reference to a copy that is shared."""

    nonce: Annotated[str, Field(min_length=1, max_length=64, pattern=NO_CONTROL)]
    proof: Annotated[str, Field(min_length=1, max_length=128, pattern=NO_CONTROL)]
    key: Key | None = None
    file_name: FileName
    session_id: NewSessionId | None = None
    if_exists: Literal["overwrite", "fail"] = "overwrite"


class Cloned(Answer):
    """The object, as if it had been sent. `saved_cost` in USD."""

    file_id: str
    url: str
    size: int
    etag: str
    crc64: str
    file_hash: str
    saved_bytes: int
    saved_cost: float


class FileRecord(Answer):
    """A reference of the user. `key` is "" where it shares a copy, null (as `url`) where the service has no bytes."""

    file_id: str
    file_name: str
    file_hash: str
    file_size: int
    key: str | None
    url: str | None
    mime_type: str
    created_at: str


class FilesAnswer(Answer):
    """Newest first."""

    files: list[FileRecord]


class ObjectRecord(Answer):
    """An object of the user, as the service knows it. `sha256` in hex; null where only somebody claimed one."""

    key: str
    size: int
    etag: str
    crc64: str | None
    sha256: str | None
    metadata: dict[str, str]
    file_id: str
    verified: bool


class Removed(Answer):
    """It is gone."""

    success: Literal[True]



"""What can go wrong between a client and a store, as data, for `RecordingProxy.faults`:
`[Fault("part", 2, reset()), Fault("complete", 1, drop_reply()), Fault("part", 1, stall(), part=3)]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

EVERY = 1 << 60  # as `times`: from the nth on, always


@dataclass(frozen=True, slots=True)
class Reset:
    """RST. `after` None: before anything is forwarded. Otherwise after that many bytes of the body were."""

    after: int | None = None


@dataclass(frozen=True, slots=True)
class DropReply:
    """The server gets the request and applies it; the client gets the connection closed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The proxy reads the whole body and answers in the server's place."""

    code: int
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stall:
    """No answer, ever. Without `read`, the body is not taken either: a black hole."""

    read: bool = True


@dataclass(frozen=True, slots=True)
class Trickle:
    """The server's reply, one byte at a time."""

    interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Delay:
    """The request waits before it is forwarded."""

    seconds: float


Action = Reset | DropReply | Answer | Stall | Trickle | Delay


@dataclass(frozen=True, slots=True)
class Fault:
    """`action` befalls the `nth` request (from 1) of `op`, and the `times - 1` after it.

    With `part`, only requests for that part number count.
    """

    op: str
    nth: int
    action: Action
    part: int | None = None
    times: int = 1

    def covers(self, occurrence: int) -> bool:
        return self.nth <= occurrence < self.nth + self.times


def reset() -> Action:
    return Reset()


def reset_mid_body(after: int) -> Action:
    return Reset(after)


def drop_reply() -> Action:
    return DropReply()


def status(code: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> Action:
    return Answer(code, content, headers or {})


def error(code: int, name: str, message: str = "Injected.", headers: Mapping[str, str] | None = None) -> Action:
    """A status with S3's XML error body: `error(503, "SlowDown", headers={"Retry-After": "1"})`."""
    return Answer(code, _error_xml(name, message), {"Content-Type": "application/xml", **(headers or {})})


def ok_error(name: str = "InternalError") -> Action:
    """200 with an error body, as CompleteMultipartUpload may answer."""
    return error(200, name)


def other_object(size: int, metadata: Mapping[str, str] | None = None) -> Action:
    """What HEAD says of an object whose CRC64NVME is 0."""
    stamps = {f"x-amz-meta-{name}": value for name, value in (metadata or {}).items()}
    return Answer(200, bytes(size), {"ETag": '"0"', "x-amz-checksum-crc64nvme": "AAAAAAAAAAA=", **stamps})


def html() -> Action:
    """200 with a page, as a captive portal answers."""
    page = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in.</body></html>"
    return Answer(200, page, {"Content-Type": "text/html"})


def redirect(code: int, location: str | None) -> Action:
    """None: without a Location, as S3 answers 301 for a bucket of another region."""
    return Answer(code, b"", {"Location": location} if location else {})


def stall(*, read: bool = True) -> Action:
    return Stall(read)


def trickle(interval: float = 1.0) -> Action:
    return Trickle(interval)


def delay(seconds: float) -> Action:
    return Delay(seconds)


def _error_xml(name: str, message: str) -> bytes:
    text = f"<Error><Code>{name}</Code><Message>{message}</Message><RequestId>0</RequestId></Error>"
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()


# Which operation a request is: method, whether the path has a key, and the query parameter that decides.
_OPERATIONS = (
    ("PUT", True, "partNumber", "part"),
    ("PUT", True, None, "put"),
    ("POST", True, "uploads", "create"),
    ("POST", True, "uploadId", "complete"),
    ("DELETE", True, "uploadId", "abort"),
    ("HEAD", True, None, "head"),
    ("GET", True, "uploadId", "list_parts"),
    ("GET", True, None, "get"),
    ("GET", False, "uploads", "list_uploads"),
)


def classify(method: str, target: str) -> str:
    """put | create | part | list_parts | complete | abort | head | get | list_uploads, or `other`; path-style URLs."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    has_key = parts.path.removeprefix("/").partition("/")[2] != ""
    for wanted, keyed, parameter, op in _OPERATIONS:
        if wanted == method and keyed == has_key and (parameter is None or parameter in query):
            return op
    return "other"

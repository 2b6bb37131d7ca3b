"""What is asked and what is answered, apart from how it travels."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from tests.support.judge.hashes import Hashes
from tests.support.wire import Head

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

# Method, whether the path has a key, the query parameter and the header that decide. The first row that fits, does.
_OPERATIONS = (
    ("PUT", True, "partNumber", "x-amz-copy-source", "part_copy"),
    ("PUT", True, "partNumber", None, "part"),
    ("PUT", True, None, "x-amz-copy-source", "copy"),
    ("PUT", True, None, None, "put"),
    ("POST", True, "uploads", None, "create"),
    ("POST", True, "uploadId", None, "complete"),
    ("DELETE", True, "uploadId", None, "abort"),
    ("DELETE", True, None, None, "delete"),
    ("HEAD", True, None, None, "head"),
    ("GET", True, "uploadId", None, "list_parts"),
    ("GET", True, None, None, "get"),
    ("GET", False, "uploads", None, "list_uploads"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request without its body. `path` is as on the wire; bucket, key and query are decoded."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    bucket: str
    key: str

    @classmethod
    def of(cls, head: Head) -> Asked:
        """Path-style only: the bucket is the first segment."""
        method, target = head.words[0], head.words[1]
        path, _, query = target.partition("?")
        bucket, _, key = path.removeprefix("/").partition("/")
        pairs = (item.partition("=") for item in query.split("&") if item)
        decoded = tuple((unquote(name), unquote(value, errors="surrogateescape")) for name, _, value in pairs)
        key = unquote(key, errors="surrogateescape")
        return cls(method, path, decoded, head.headers, unquote(bucket), key)

    def asks(self, name: str) -> str | None:
        """A query parameter; "" for one without a value, None for none."""
        return next((value for found, value in self.query if found == name), None)

    @property
    def op(self) -> str:
        """The operation, or `other`."""
        for method, keyed, parameter, header, op in _OPERATIONS:
            fits = method == self.method and keyed == bool(self.key)
            if fits and (parameter is None or self.asks(parameter) is not None) and (header is None or header in self.headers):
                return op
        return "other"

    @property
    def access(self) -> str:
        """The id of the key that signed the request; "" for none."""
        signed = self.headers.get("authorization", "").partition("Credential=")[2] or self.asks("X-Amz-Credential") or ""
        return signed.partition("/")[0]

    @property
    def part(self) -> int | None:
        """The part number of a part's request."""
        text = self.asks("partNumber") or ""
        return int(text) if self.method == "PUT" and text.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Request:
    """A request with what its body came to."""

    asked: Asked
    body: Hashes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `length` is told to HEAD, which gets no content."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


class Refusal(Exception):
    """S3's answer to what it does not do."""

    def __init__(self, status: int, code: str, message: str = "Refused.", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.reply = error(status, code, message, headers)


def error(status: int, code: str, message: str = "Refused.", headers: Mapping[str, str] | None = None) -> Reply:
    """An answer with S3's error body. To HEAD, only its status gets through."""
    text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><RequestId>0</RequestId></Error>"
    return Reply(status, xml(text), {"Content-Type": "application/xml", **(headers or {})})


def xml(text: str) -> bytes:
    """A document."""
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode("utf-8", "surrogateescape")


def document(root: str, content: str, headers: Mapping[str, str] | None = None) -> Reply:
    """A success in XML."""
    body = xml(f'<{root} xmlns="{_NAMESPACE}">{content}</{root}>')
    return Reply(200, body, {"Content-Type": "application/xml", **(headers or {})})


def element(name: str, value: object) -> str:
    """A text element."""
    return f"<{name}>{escape(str(value))}</{name}>"


def named(key: str, *, url: bool) -> str:
    """A key in a listing."""
    return quote(key, safe="/", errors="surrogateescape") if url else key


def quoted(etag: str) -> str:
    """An ETag as headers and documents have it."""
    return f'"{etag}"'


def iso(seconds: float) -> str:
    """A time as S3's documents have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def http_date(seconds: float) -> str:
    """A time as headers have it."""
    return email.utils.formatdate(seconds, usegmt=True)

"""What is carried, and where to: pure decisions over a request's head. Whatever is not clearly allowed is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from jettyctl.errors import UsageError
from jettyctl.server.edge.digest import parse_digests
from jettyctl.server.edge.heads import Head, malformed
from jettyctl.server.edge.replies import Headers, Refused

PROBE_SIZE = 4 << 20  # bytes: enough to see the bandwidth, too little to hurt
MAX_PARTS = 10_000

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_QUERY = re.compile(r"(?:[A-Za-z0-9\-._~!$'()*+,=:@/&]|%[0-9A-Fa-f]{2})*")  # no `;`: some servers separate there
_SIGNATURE = re.compile(r"[0-9A-Fa-f]{64,512}")
_AUTHORIZATION = re.compile(rb"AWS4-HMAC-SHA256 .*Signature=[0-9A-Fa-f]{64}\b.*")
# The connection's own, not the request's. Expect is answered here.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate te trailer transfer-encoding upgrade "
    b"expect".split()
)
# They make some servers see another request than the one that was judged here.
_OVERRIDES = frozenset(b"x-http-method-override x-http-method x-method-override x-original-url x-rewrite-url".split())


@dataclass(frozen=True, slots=True)
class Limits:
    """What one edge and one request may take. Times are in seconds."""

    max_connections: int = 512
    max_part_size: int = 5 << 30
    head: float = 10.0  # for the whole head
    idle: float = 30.0  # without a byte
    min_rate: float = 1024.0  # bytes a second, over each window
    window: float = 60.0
    whole: float = 3600.0  # for a part from its head to its reply
    connect: float = 10.0
    reply: float = 60.0  # from the last byte of a part to the origin's reply
    grace: float = 10.0  # for the parts in flight when the edge is stopped


@dataclass(frozen=True, slots=True)
class Origin:
    """A store that the operator named."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.names[0]}"

    @property
    def names(self) -> tuple[str, ...]:
        """What a Host header may call it; the shortest first."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        full = f"{host}:{self.port}"
        return (host, full) if self.port == _PORTS[self.scheme] else (full,)


@dataclass(frozen=True, slots=True)
class Health:
    """Somebody asks how the edge is."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A body that is counted and dropped."""

    length: int
    expects: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A part for an origin. `headers` are those that go on."""

    origin: Origin
    target: str
    headers: Headers
    length: int
    expects: bool
    digests: Mapping[str, bytes] = field(repr=False)


def parse_origins(urls: Iterable[str]) -> dict[str, Origin]:
    """The origins by every name that a Host header may use. Raises UsageError."""
    found: dict[str, Origin] = {}
    for url in urls:
        origin = _origin(url)
        for name in origin.names:
            if found.setdefault(name, origin) != origin:
                raise UsageError(f"two origins have the same Host: {name}", hint="Run one edge for each of them.")
    return found


def decide(head: Head, origins: Mapping[str, Origin], limits: Limits) -> Health | Probe | Part:
    """What the request is. Raises Refused for all that is not one of the three."""
    if head.method not in ("PUT", "GET"):
        raise _method()
    host, length = _host(head), head.length
    expects = _expects(head)
    _ = head.closes  # refuses what it cannot mean
    if any(name.lower() in _OVERRIDES for name, _ in head.headers):
        raise malformed("A header asks for another request than this one.")
    if head.target == "/health" and head.method == "GET" and not length:
        return Health()
    if head.method != "PUT":
        raise _method()
    if head.target == "/probe":
        return Probe(_bounded(length, PROBE_SIZE), expects)
    _check_path(head.path)
    _check_part(head)
    if host not in origins:
        raise Refused(403, "EdgeForeignHost", "This edge does not carry to that host.")
    digests = parse_digests(head.values(b"content-digest"))
    headers = tuple(pair for pair in head.headers if pair[0].lower() not in _HOP_BY_HOP)
    return Part(origins[host], head.target, headers, _bounded(length, limits.max_part_size), expects, digests)


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of a reply that are passed back."""
    dropped = _HOP_BY_HOP | {b"content-length"}
    return tuple((name, value) for name, value in headers if name.lower() not in dropped)


class Pace:
    """Tells a slow side from a stalled one. Only time spent waiting for that side is counted."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self._seconds = 0.0

    def too_slow(self, moved: int, seconds: float) -> bool:
        """Account one wait; True when a full window moved less than the least rate."""
        self._bytes += moved
        self._seconds += seconds
        if self._seconds < self._limits.window:
            return False
        slow = self._bytes < self._limits.min_rate * self._seconds
        self._bytes, self._seconds = 0, 0.0
        return slow


def _origin(url: str) -> Origin:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    bare = f"{url} ".partition("//")[2].strip().rstrip("/")  # the authority alone: no user, path or query
    if not _HOST.fullmatch(host) or parts.scheme not in _PORTS or bare != parts.netloc or "@" in bare:
        raise UsageError("--origin is not a scheme and a host", hint="Write it like https://s3.example.com.")
    return Origin(parts.scheme, host.lower(), port or _PORTS[parts.scheme])


def _host(head: Head) -> str:
    host = head.single(b"host")
    if not host:
        raise malformed("There must be one Host header.")
    return host.decode("latin-1").lower()


def _expects(head: Head) -> bool:
    wish = head.single(b"expect")
    if wish is not None and wish.lower() != b"100-continue":
        raise Refused(417, "EdgeExpectation", "Only 100-continue can be expected.")
    return wish is not None


def _bounded(length: int | None, most: int) -> int:
    if length is None:
        raise Refused(411, "EdgeLengthRequired", "The body must have a Content-Length.")
    if length > most:
        raise Refused(413, "EntityTooLarge", f"At most {most} bytes are carried.")
    return length


def _method() -> Refused:
    return Refused(405, "EdgeMethodNotAllowed", "Only parts are carried, by PUT.", [(b"Allow", b"PUT")])


def _check_path(path: str) -> None:
    """An object's path that no server between here and the store takes for another one."""
    decoded = unquote(path, errors="replace")
    if "\0" in decoded or any(segment in (".", "..") for segment in decoded.replace("\\", "/").split("/")):
        raise malformed("The path has dot segments or a null character.")
    if path == "/":
        raise _not_a_part()


def _check_part(head: Head) -> None:
    """Raises Refused unless this is a signed UploadPart."""
    values = _query(head.query or "")
    number = values.get("partNumber", "")
    if not (number.isascii() and number.isdigit() and len(number) <= 5 and 1 <= int(number) <= MAX_PARTS):
        raise _not_a_part()
    names = {name.lower() for name in values}
    if not values.get("uploadId") or not all(n.startswith("x-amz-") or n in ("partnumber", "uploadid", "x-id") for n in names):
        raise _not_a_part()
    copied = [n for n in (*names, *(name.lower().decode() for name, _ in head.headers)) if n.startswith("x-amz-copy-source")]
    if copied:  # UploadPartCopy makes the store read another object
        raise _not_a_part()
    _check_signed(head, values)


def _check_signed(head: Head, values: Mapping[str, str]) -> None:
    presigned = values.get("X-Amz-Signature")
    authorization = head.single(b"authorization")
    if presigned is not None and authorization is not None:
        raise malformed("Two signatures.")
    if presigned is not None and _SIGNATURE.fullmatch(presigned):
        return
    if authorization is None or not _AUTHORIZATION.fullmatch(authorization):
        raise Refused(403, "EdgeNotSigned", "Only requests with a signature of version 4 are carried.")


def _query(query: str) -> dict[str, str]:
    """The parameters. No name may come twice, in no spelling: which of them counts differs between servers."""
    if not _QUERY.fullmatch(query):
        raise malformed("The query has characters that must be escaped.")
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        found[unquote(name)] = unquote(value)
    if len({name.lower() for name in found}) != query.count("&") + 1:
        raise malformed("A parameter is repeated.")
    return found


def _not_a_part() -> Refused:
    return Refused(403, "EdgeNotAPart", "Only parts of multipart uploads are carried.")

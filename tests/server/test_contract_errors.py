"""What every endpoint refuses in the same way: bad JSON, large and slow bodies, other names and origins, unknown paths."""

from __future__ import annotations

import json
import socket
import time
import uuid

import httpx
import pytest

from tests.support.plane import PlaneProcess, lines_of

CHECK = "/api/jetty/check-duplicate"
CHUNK = "/api/jetty/cache-chunk"
TRACK = "/api/jetty/track-upload"
EDGES = "/api/jetty/optimal-edges"
ENDPOINTS = (CHECK, CHUNK, TRACK, EDGES)
JSON = {"Content-Type": "application/json"}
GOOD = b'"userId": "usr_1", "fileHash": "x"'


def failed(reply: httpx.Response, status: int) -> str:
    """The details of a failure, which has the one shape and the headers that every answer has."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    assert len(reply.headers["x-request-id"]) == 16
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert sorted(reply.json()) == ["details", "error"]
    details: str = reply.json()["details"]
    return details


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "required"),
        (b"{", "not JSON"),
        (b"null", "dictionary"),
        (b"[]", "dictionary"),
        (b'"text"', "dictionary"),
        (b"{%s, %s}" % (GOOD, GOOD), "twice"),
        (b'{%s, "x": {"a": 1, "a": 2}}' % GOOD, "twice"),
        (b'{%s, "x": NaN}' % GOOD, "NaN"),
        (b'{%s, "x": -Infinity}' % GOOD, "Infinity"),
        (b'{%s, "x": 1e999}' % GOOD, "too large"),
        (b'{%s, "x": %s}' % (GOOD, b"9" * 5000), "not JSON"),
        (b'{%s, "x": %s}' % (GOOD, b"[" * 33 + b"]" * 33), "deep"),
        (b'{%s, "x": %s}' % (GOOD, b"[" * 100_000 + b"]" * 100_000), "deep"),
        (b"[" * 100_000, "deep"),
        (b'{"a":' * 100_000, "deep"),
        (b"\xff\xfe", "UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{%s}{}" % GOOD, "not JSON"),
    ],
    ids=lambda value: repr(value)[:40],  # pytest hands the whole id to every process that is started
)
def test_what_is_not_strict_json(client: httpx.Client, path: str, content: bytes, why: str) -> None:
    """Anything but one JSON object of unique keys, finite numbers and little depth is a 400 that says why."""
    assert why in failed(client.post(path, content=content, headers=JSON), 400)


def test_depth_that_is_taken(client: httpx.Client) -> None:
    """Unknown fields may be nested as deeply as the limit says."""
    content = b'{%s, "x": %s}' % (GOOD, b"[" * 31 + b"]" * 31)
    assert client.post(CHECK, content=content, headers=JSON).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_other_content_types(client: httpx.Client, kind: str) -> None:
    """A body that does not say that it is JSON is refused."""
    content = b"{%s}" % GOOD
    assert "application/json" in failed(client.post(CHECK, content=content, headers={"Content-Type": kind}), 400)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_large_body(client: httpx.Client, path: str) -> None:
    """A body of one MiB is read; a byte more, declared or not, is a 413."""
    content = b"{%s, %s}" % (GOOD, b'"x": "' + b"y" * ((1 << 20) - len(GOOD) - 11) + b'"')
    assert len(content) == 1 << 20
    assert client.post(path, content=content, headers=JSON).status_code in (200, 400)
    failed(client.post(path, content=content + b" ", headers=JSON), 413)
    failed(client.post(path, content=iter([content, b" "]), headers=JSON), 413)


HOSTILE = {
    "newline": "a\nb",
    "return": "a\rb",
    "escape": "\x1b]52;c;aGk=\x07",
    "nul": "a\0b",
    "rtl": "invoice\u202efdp.exe",
    "emoji": "\U0001f680" * 10,
    "script": "<script>alert(1)</script>",
    "quotes": "'; DROP TABLE file_hashes; --",
    "percent": "%s%n%00{0}${x}",
    "dots": "../../etc/passwd",
    "combining": "e\u0301" * 50,
    "noncharacter": "\uffff\ufdd0",
    "long": "x" * (300 << 10),
    "wide": "\U0001f680" * (75 << 10),
}
SURROGATE = "\\ud800"  # as JSON escapes it; no text


def with_field(name: str, value: object) -> list[tuple[str, dict[str, object]]]:
    """The endpoints that take a field, each with a body that is good but for it."""
    file_hash = f"sha256:{uuid.uuid4().hex * 2}"
    known: dict[str, object] = {"userId": "usr_1", "fileHash": file_hash, "fileSize": 1, "fileName": "a"}
    bodies = {
        CHECK: known,
        EDGES: {**known, "userLocation": {"lat": 0, "lng": 0, "city": "x"}},
        TRACK: {**known, "action": "start", "fileId": "x"},
        CHUNK: {
            "sessionId": uuid.uuid4().hex, "chunkIndex": 0, "status": "failed", "edgeId": "x", "chunkHash": "x",
            "errorMessage": "x",
        },
    }  # fmt: skip
    if name == "city":
        return [(EDGES, {**bodies[EDGES], "userLocation": {"lat": 0, "lng": 0, "city": value}})]
    return [(path, {**body, name: value}) for path, body in bodies.items() if name in body]


FIELDS = ("userId", "fileHash", "fileName", "fileId", "sessionId", "chunkHash", "edgeId", "errorMessage", "status", "city")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", [*HOSTILE, "surrogate", "surrogate pair reversed"])
def test_hostile_text(client: httpx.Client, field: str, kind: str) -> None:
    """Text of any kind is refused or taken, in every field, and never an error inside."""
    mark = "\x7fmark\x7f"
    for path, body in with_field(field, HOSTILE.get(kind, mark)):
        content = json.dumps(body)
        if kind not in HOSTILE:
            content = content.replace(json.dumps(mark)[1:-1], SURROGATE if kind == "surrogate" else "\\ude80\\ud83d")
        reply = client.post(path, content=content, headers=JSON)
        assert reply.status_code in (200, 400, 403), (path, reply.text)
        if kind.startswith("surrogate") or kind in ("nul", "long", "wide"):
            assert reply.status_code == 400
        assert len(reply.content) < 5000  # what was sent is not sent back by the KiB


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind not in ("nul", "long", "wide")])
def test_hostile_names_are_returned_unchanged(client: httpx.Client, kind: str) -> None:
    """A file name or message that was taken comes back as it was."""
    file_hash = f"sha256:{uuid.uuid4().hex * 2}"
    begun = {"action": "start", "userId": "usr_1", "fileName": HOSTILE[kind], "fileHash": file_hash, "fileSize": 1}
    session = client.post(TRACK, json=begun).json()["session"]["sessionId"]
    chunk = {"sessionId": session, "chunkIndex": 0, "status": "failed", "errorMessage": HOSTILE[kind]}
    client.post(CHUNK, json=chunk).raise_for_status()
    client.post(TRACK, json={"action": "complete", "sessionId": session}).raise_for_status()
    known = client.post(CHECK, json={"fileHash": file_hash, "userId": "usr_1"})
    assert known.json()["file"]["fileName"] == HOSTILE[kind]
    assert known.headers["content-type"] == "application/json"
    kept = client.get(CHUNK, params={"sessionId": session}).json()["chunks"]
    assert kept[0]["errorMessage"] == HOSTILE[kind]


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/jetty/", "/api/jetty/nothing", CHECK + "/", "/docs", "/redoc", "/%00", "/\u20ac"]
)
def test_unknown_paths(client: httpx.Client, path: str) -> None:
    """A path that is not there is a 404 in the one shape, whoever asks."""
    failed(client.get(path), 404)
    client.headers.pop("authorization")
    failed(client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", CHECK, "POST"), ("PUT", TRACK, "POST"), ("DELETE", CHUNK, "GET, POST"), ("POST", "/health", "GET")],
)
def test_other_methods(client: httpx.Client, method: str, path: str, allowed: str) -> None:
    """A method that a path does not have is a 405 that names those it has."""
    reply = client.request(method, path)
    failed(reply, 405)
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:53777", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::2]"]
)
@pytest.mark.parametrize("path", [CHECK, "/health", "/metrics", "/openapi.json", "/nothing"])
def test_other_host_names(client: httpx.Client, path: str, host: str) -> None:
    """A page that made its name point here (DNS rebinding) reads nothing, on no path."""
    assert "--allowed-host" in failed(client.get(path, headers={"Host": host}), 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:80", "jetty.example", "other.example:8443"])
def test_own_host_names(client: httpx.Client, host: str) -> None:
    """Loopback, the public URL's name and those that the operator allowed are answered, at any port."""
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "file://", "x"])
def test_foreign_origins(client: httpx.Client, origin: str) -> None:
    """A page of another origin changes nothing, and gets no leave to read."""
    failed(client.post(CHECK, json={"userId": "usr_1", "fileHash": "x"}, headers={"Origin": origin}), 403)
    assert not [name for name in client.get("/health", headers={"Origin": origin}).headers if "access-control" in name]
    preflight = client.options(CHECK, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    failed(preflight, 405)


def test_own_origins(plane: PlaneProcess, client: httpx.Client) -> None:
    """Pages of this service, by its own address or its public URL, may ask."""
    for origin in (plane.url, "https://jetty.example"):
        reply = client.post(CHECK, json={"userId": "usr_1", "fileHash": "x"}, headers={"Origin": origin})
        assert reply.status_code == 200


def test_request_ids(client: httpx.Client) -> None:
    """Every answer has an id of its own; a client's is not taken over."""
    ids = {client.get("/health", headers={"X-Request-Id": "mine"}).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert "mine" not in ids


def raw(plane: PlaneProcess, *pieces: bytes) -> bytes:
    """What the service answers to bytes on a connection, until it closes it."""
    with socket.create_connection(("127.0.0.1", plane.port), timeout=60) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            pass  # it may close before it has read everything
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except OSError:
            pass
        return received


def test_an_endless_head(plane: PlaneProcess, client: httpx.Client) -> None:
    """Headers without end are cut off, and cost no memory."""
    header = b"X-Filler: " + b"x" * 8000 + b"\r\n"
    began = time.monotonic()
    answer = raw(plane, b"GET /health HTTP/1.1\r\nHost: localhost\r\n", *[header] * 2000)
    assert answer[:12] in (b"HTTP/1.1 400", b"")
    assert time.monotonic() - began < 10
    assert client.get("/health").status_code == 200


def test_what_is_not_http(plane: PlaneProcess, client: httpx.Client) -> None:
    """Bytes that are no request are a 400, and the service goes on."""
    no_url = b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10, b"GET\r\n\r\n", no_url):
        assert raw(plane, nonsense)[:12] in (b"HTTP/1.1 400", b"")
    assert client.get("/health").status_code == 200


def test_a_client_that_hangs_up(plane: PlaneProcess, client: httpx.Client) -> None:
    """A connection that ends in the middle of a body is no error of the service."""
    head = f"POST {CHECK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{"
    before = len(lines_of(plane.log))
    with socket.create_connection(("127.0.0.1", plane.port)) as connection:
        connection.sendall(head.encode())
        time.sleep(0.1)
    until = time.monotonic() + 10
    while len(lines_of(plane.log)) == before and time.monotonic() < until:
        time.sleep(0.02)
    (line,) = lines_of(plane.log)[before:]
    assert (line["status"], line["level"], line["route"]) == (499, "info", CHECK)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", b""),
        (b"POST /health HTTP/1.1\r\nHost: loc", b""),
        (b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{" % CHECK.encode(), b"408"),
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_slow_requests(plane: PlaneProcess, sent: bytes, answered: bytes) -> None:
    """A connection that does not send its request within 30 s is closed."""
    began = time.monotonic()
    answer = raw(plane, sent) if sent else raw(plane)
    assert 28 < time.monotonic() - began < 45
    assert answer[9:12] == answered

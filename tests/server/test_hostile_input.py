"""Hostile text, keys and bodies in every field of every operation: refused or taken as they are, and never an error inside."""

from __future__ import annotations

import copy
import gzip
import json
import os
import resource
import socket
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.hosts import Host, hosted, own_backend
from tests.support.uploading import API, MIB, Sender, crc64

pytestmark = pytest.mark.slow  # they are many, and none is quick

HEX = "0" * 64
JSON = {"Content-Type": "application/json"}
PART = {"number": 1, "etag": "e", "crc64": "0" * 16, "length": 10, "edgeId": "e-1"}
WANTED = {"number": 1, "length": 10, "crc64": "0" * 16, "md5": "1B2M2Y8AsgTpgAmY7PhCfg==", "sha256": HEX}
OBJECT = {"contentType": "a/b", "cacheControl": "no-store", "storageClass": "STANDARD", "metadata": {"name": "value"}}
PLACE = {"lat": 1.0, "lng": 1.0, "city": "x"}
KNOWN = {"userId": "usr_1", "fileHash": f"sha256:{HEX}", "fileSize": 10, "fileName": "n"}
TRACK = {"sessionId": "s", "chunksCompleted": 1, "bytesUploaded": 1, "errorMessage": "m", "actualCost": 1.0}
STARTED = {
    "fileId": "f", "chunkSize": 1, "threads": 1, "edgesUsed": ["e-1"], "chunksTotal": 1, "estimatedCost": 1.0,
    "uploadVia": "cli", "jettySpeedEnabled": True, "action": "start",
}

# Of each operation that takes a body, every field.
BODIES: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("post", f"{API}/optimal-edges"): [{**KNOWN, "userLocation": PLACE, "priority": "speed", "budget": 1.0}],
    ("post", f"{API}/check-duplicate"): [KNOWN],
    ("post", f"{API}/cache-chunk"): [
        {
            "sessionId": "s", "chunkIndex": 0, "status": "failed", "chunkHash": "h", "edgeId": "e",
            "bytesUploaded": 1, "errorMessage": "m",
        }
    ],
    ("post", f"{API}/track-upload"): [
        {**KNOWN, **STARTED},
        *({**TRACK, "action": action} for action in ("progress", "complete", "fail")),
    ],
    ("post", f"{API}/uploads"): [
        {
            "sessionId": "{new}", "key": "k", "fileName": "n", "fileSize": 10, "chunkSize": 5 * MIB, "threads": 1,
            "fileHash": f"sha256:{HEX}", "ifExists": "fail", "holder": "h", "host": "h",
            **OBJECT,
        }
    ],
    ("post", f"{API}/uploads/{{id}}/parts"): [{"fence": 1, "completed": [PART], "wanted": [WANTED]}],
    ("post", f"{API}/uploads/{{id}}/finalize"): [
        {"fence": 1, "fileHash": f"sha256:{HEX}", "crc64": "0" * 16, "size": 10, "completed": [PART]}
    ],
    ("post", f"{API}/fingerprint"): [{"size": 10, "sample": f"blake3:{HEX}"}],
    ("post", f"{API}/clones/challenge"): [{"size": 10, "blake3": HEX}],
    ("post", f"{API}/clones"): [
        {
            "nonce": "n", "proof": "p", "key": "k", "fileName": "n", "sessionId": "{new}", "ifExists": "overwrite",
            **OBJECT,
        }
    ],
    ("post", f"{API}/sessions/{{id}}/lease"): [{"holder": "h", "host": "h", "takeOver": True}],
    ("put", f"{API}/edges/{{edge_id}}"): [
        {
            "url": "https://e.example", "city": "c", "country": "c", "lat": 1.0, "lng": 1.0, "provider": "p",
            "costPerGib": 0.1, "isActive": True,
        }
    ],
}
OPERATIONS = [(operation, body) for operation, bodies in BODIES.items() for body in bodies]
TEXTS = (
    "", " ", "\0", "a\0b", "a\nb", "a\r\nX-Evil: 1", "\x1b]52;c;aGk=\x07", "\x7f", "\u0085", "\u2028", "inv\u202efdp.exe",
    "\ufeff", "\U0001f680" * 20, "e\u0301" * 20, "\uffff", "\U0010ffff", "../../etc/passwd", "/etc/passwd", "..\\..\\x",
    "%2e%2e%2f", ".jetty/x", "' OR 1=1 --", "<script>alert(1)</script>", "%s%n{0}${x}", "NaN", "x" * 2_000, "x" * 100_000,
)  # fmt: skip
OTHERS: tuple[object, ...] = (
    None, True, [], {}, [[]], 0, -1, 1.5, 2**31, 2**63 - 1, 2**63, 10**400, 1e308, -0.0, [None] * 1_000, {"a": {"b": [1]}},
)  # fmt: skip
SURROGATES = ("\\ud800", "\\ude80\\ud83d", "a\\udfff")  # as JSON escapes them; no text
MARK = "\x7fmark\x7f"


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A service whose log is looked at in the end."""
    directory = tmp_path_factory.mktemp("hostile")
    with own_backend(request, directory) as backend, hosted(backend, directory) as host:
        yield host
        log = host.plane.log
    assert not [c for c in log if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\n"]
    lines = [json.loads(line) for line in log.splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    assert not [line for line in lines if line.get("status", 0) >= 500 or "where" in line]


@pytest.fixture(scope="module")
def client(host: Host) -> Iterator[httpx.Client]:
    """Who may do everything."""
    with host.client(scopes=("read", "write", "admin")) as client:
        yield client


@pytest.fixture(scope="module")
def session(client: httpx.Client) -> str:
    """An upload under way."""
    sender = Sender(client, os.urandom(10), f"{uuid.uuid4().hex}.bin")
    sender.begin().raise_for_status()
    return sender.session_id


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - JSON
    """The way to every value in a body, whatever it is."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from places(one, (*path, name))


def replaced(body: dict[str, Any], path: tuple[Any, ...], value: object) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    inside: Any = changed
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = value
    return changed


def named(case: object) -> str:
    if isinstance(case, tuple):
        return str(case[1]).removeprefix(API)
    return str(case.get("action", "")) if isinstance(case, dict) else ""


def ask(
    client: httpx.Client,
    operation: tuple[str, str],
    content: str | bytes | Iterator[bytes],
    session: str,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Send a body to an operation, which is about the session."""
    method, path = operation
    where = path.replace("{id}", session).replace("{edge_id}", f"e-{uuid.uuid4().hex[:8]}")
    if isinstance(content, str):
        content = content.replace("{new}", str(uuid.uuid4())).encode()
    return client.request(method, where, content=content, headers={**JSON, **(headers or {})})


def test_every_field_is_here(client: httpx.Client) -> None:
    """An operation or a field that the service takes and this table does not have fails."""
    described = client.get("/openapi.json").json()

    def fields(schema: dict[str, Any]) -> set[str]:
        """Names of a schema's fields, and of those within."""
        if "$ref" in schema:
            schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        found = set(schema.get("properties", {}))
        inner = [*schema.get("properties", {}).values(), *(schema.get(name) for name in ("items",))]
        inner += [one for name in ("anyOf", "oneOf") for one in schema.get(name, [])]
        return found.union(*(fields(one) for one in inner if isinstance(one, dict)))

    seen = {}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                seen[method, path] = fields(operation["requestBody"]["content"]["application/json"]["schema"])
    assert seen.keys() == BODIES.keys()
    for operation, names in seen.items():
        have = {name for body in BODIES[operation] for path in places(body) for name in path if isinstance(name, str)}
        assert names <= have, operation


Values = Callable[[int], Sequence[object]]


def breaks(client: httpx.Client, session: str, operation: tuple[str, str], body: dict[str, Any], values: Values) -> None:
    """Put `values(n)` into the body's nth place, one at a time: no error inside, and little is sent back."""
    for number, path in enumerate(places(body)):
        for value in values(number):
            surrogate = isinstance(value, str) and value in SURROGATES
            content = json.dumps(replaced(body, path, MARK if surrogate else value))
            if surrogate:
                content = content.replace(json.dumps(MARK)[1:-1], str(value))
            reply = ask(client, operation, content, session)
            assert reply.status_code < 500, (path, value, reply.text)
            assert len(reply.content) < 5_000, (path, str(value)[:20])
            assert not (surrogate and reply.is_success), (path, value)
            assert reply.headers["content-type"] == "application/json"


VALUES = (*TEXTS, *OTHERS, *SURROGATES)


@pytest.mark.parametrize(("operation", "body"), OPERATIONS, ids=named)
def test_nothing_breaks(client: httpx.Client, session: str, operation: tuple[str, str], body: dict[str, Any]) -> None:
    """Hostile texts and other types in every field are refused or taken: a share of them in each."""
    breaks(client, session, operation, body, lambda number: VALUES[number % 6 :: 6])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("operation", "body"), OPERATIONS, ids=named)
def test_nothing_breaks_at_all(client: httpx.Client, session: str, operation: tuple[str, str], body: dict[str, Any]) -> None:
    """All of them in each field."""
    breaks(client, session, operation, body, lambda _: VALUES)


def large(client: httpx.Client, session: str, operation: tuple[str, str], body: dict[str, Any], step: int) -> None:
    ten = b" " * (10 * MIB)
    assert ask(client, operation, ten, session).status_code == 413
    assert ask(client, operation, iter([ten]), session).status_code == 413
    small = json.dumps(body)
    deep = small[:-1] + ', "x": ' + "[" * 200_000 + "]" * 200_000 + "}"
    assert ask(client, operation, deep, session).status_code == 400
    for path in [*places(body)][::step]:
        values: tuple[object, ...] = ([0] * 100_000, [{}] * 100_000, {f"{number:x}": "" for number in range(60_000)})
        for value in values:
            began = time.monotonic()
            reply = ask(client, operation, json.dumps(replaced(body, path, value)), session)
            assert not reply.is_success
            assert reply.status_code < 500
            assert time.monotonic() - began < 10
    packed = gzip.compress(small.encode())
    assert ask(client, operation, packed, session, headers={"Content-Encoding": "gzip"}).status_code == 400


def test_large_bodies(client: httpx.Client, session: str) -> None:
    """10 MiB are a 413, announced or not; deep, long and packed bodies are refused, and soon."""
    operation = ("post", f"{API}/uploads/{{id}}/parts")
    large(client, session, operation, BODIES[operation][0], 4)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("operation", "body"), OPERATIONS, ids=named)
def test_large_bodies_of_all(client: httpx.Client, session: str, operation: tuple[str, str], body: dict[str, Any]) -> None:
    """So it is with every operation, and in every field."""
    large(client, session, operation, body, 1)


def test_a_packed_body_is_not_unpacked(host: Host, client: httpx.Client, session: str) -> None:
    """64 MiB in a body of 64 KiB cost no memory."""
    bomb = gzip.compress(bytes(64 * MIB), 9)
    before = memory(host.plane.pid)
    for operation in BODIES:
        reply = ask(client, operation, bomb, session, headers={"Content-Encoding": "gzip"})
        assert reply.status_code == 400
    assert memory(host.plane.pid) - before < 32 * MIB


def memory(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_idle_connections_stop_nobody(host: Host, client: httpx.Client) -> None:
    """While 1,000 connections say nothing, and 100 have said half, others are answered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    idle: list[socket.socket] = []
    try:
        for number in range(1_000):
            idle.append(socket.create_connection(("127.0.0.1", host.plane.port), timeout=5))
            if number % 10 == 0:
                idle[-1].sendall(b"POST /health HTTP/1.1\r\nHost: loc")
        for _ in range(5):
            began = time.monotonic()
            with host.client() as newcomer:
                assert newcomer.get(f"{API}/service").status_code == 200
            assert client.get(f"{API}/service").status_code == 200
            assert time.monotonic() - began < 5
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


KEYS = (
    "..", ".", "../x", "../globex/x", "a/../../globex/x", "a/..", "./a", "a/./b", "/a", "//a", "a//b", "a/", "", "/", "\0",
    "a\0", ".jetty", ".jetty/x", ".JETTY/x", ".Jetty/by-hash/x", "\\..\\x", "..\\globex\\x", "%2e%2e/globex/x",
    "..%2fglobex%2fx", "%2ejetty/x", "C:\\x", "\uff0e\uff0e/x", "..\u200b/x", ".jetty\u200b/x", " ", " a ", "~", "~/x",
    "-rf", "$(x)", "`x`", "a\nb", "a\rb", "\x1b[31m", "\u202egpj", "e\u0301", "\u00e9", "\U0001f680", "x" * 255, "x" * 256,
    "x" * 900, "\u00e9" * 500, "\u00e9" * 513, "x/" * 300+"x", "x" * 1_024, "x" * 1_025, "parts", "upload.json",
    "part-secret", "objects/x", "uploads/x", "meta/x", "CON", "a:b", "a*b?", "&amp;", "a+b c%20d", "%", "%zz", "%00",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["local"])  # moto fails for control characters
def test_hostile_keys(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """A key is refused, or names an object of the tenant: nothing lies anywhere else, and it is read back by its own name."""
    server = None if kind == "local" else request.getfixturevalue(kind)
    with own_backend(request, tmp_path) as backend, hosted(backend, tmp_path, server) as host, host.client() as client:
        kept = {}
        for key in KEYS:
            sender = Sender(client, os.urandom(10), key)
            begun = sender.begin(fileName="n")
            assert begun.status_code in (201, 400), (key, begun.text)
            if begun.status_code == 201:
                sender.send(1)
                done = sender.finalize()
                assert done.status_code in (200, 400), (key, done.text)  # 400: there is an object where it needs a directory
                kept.update({key: sender.content} if done.status_code == 200 else {})
        assert not [key for key in kept if ".." in key.split("/") or key.casefold().startswith(".jetty/") or "\0" in key]
        for key, content in kept.items():
            assert client.get(f"{API}/object", params={"key": key}).json()["key"] == key
            read = client.get(f"{API}/object/content", params={"key": key}, follow_redirects=False)
            if read.has_redirect_location:
                read = httpx.get(read.headers["location"], trust_env=False)
            assert read.content == content, key
        for file in client.get(f"{API}/files", params={"limit": 1_000}).json()["files"]:
            assert client.get(file["url"], follow_redirects=False).status_code in (200, 307)
        assert len(kept) > 25
        if kind == "local":
            root = tmp_path / "objects"
            assert [one.name for one in (root / "objects").iterdir()] == ["acme"]
            assert sum(one.is_file() for one in (root / "objects").rglob("*")) == len(kept)
            assert sorted(one.name for one in root.iterdir()) == ["lock", "meta", "objects", "part-secret", "uploads"]
        assert not [line for line in host.plane.log.splitlines() if '"status": 5' in line]


def test_names_come_back_as_they_are(client: httpx.Client) -> None:
    """File names, hosts, places: what was taken is told unchanged, in JSON."""
    for text in ("../../passwd", "inv\u202efdp.exe", "<script>alert(1)</script>", "' OR 1=1 --", "%s%n", "\U0001f680", "\ufeffx"):
        sender = Sender(client, os.urandom(10), f"{uuid.uuid4().hex}.bin")
        sender.begin(fileName=text, host=text, holder=text).raise_for_status()
        told = client.get(f"{API}/sessions/{sender.session_id}").json()
        assert (told["fileName"], told["host"]) == (text, text)
        held = sender.begin(fileName=text, host="other", holder="other")
        assert (held.status_code, held.json()["host"]) == (409, text)
        sender.send(1)
        sender.finalize().raise_for_status()
        files = client.get(f"{API}/files", params={"limit": 1_000}).json()["files"]
        assert text in [file["fileName"] for file in files if file["key"] == sender.key]
        edge = {"url": "https://e.example", "city": text, "country": text, "provider": text}
        put = client.put(f"{API}/edges/e-{uuid.uuid4().hex[:8]}", json=edge)
        assert [put.json()[name] for name in ("city", "country", "provider")] == [text] * 3


ASKED = (
    ("GET", "sessions/{}"), ("POST", "sessions/{}/lease"), ("GET", "uploads/{}/parts"), ("DELETE", "uploads/{}"),
    ("POST", "uploads/{}/parts"), ("POST", "uploads/{}/finalize"), ("DELETE", "files/{}"), ("PUT", "blobs/{}"),
    ("PUT", "edges/{}"), ("DELETE", "edges/{}"), ("GET", "cache-chunk?sessionId={}"), ("GET", "object?key={}"),
    ("GET", "object?fileId={}"), ("GET", "object/content?key={}"), ("GET", "sessions?userId={}"),
    ("GET", "sessions?status={}"), ("GET", "sessions?limit={}"), ("GET", "files?limit={}"),
)  # fmt: skip
NAMES = (
    "%00", "%0a", "%ff", "%ed%a0%80", "..%2f..%2f", "%2e%2e", "x" * 5_000, "%F0%9F%9A%80", "%u0000", "%25", "'--", "*",
    "9" * 5_000,
)  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_hostile_paths_and_queries(client: httpx.Client, method: str, path: str) -> None:
    """Names in paths and queries: 4xx, or an answer about nothing."""
    finish = {"fence": 1, "fileHash": f"sha256:{HEX}", "crc64": crc64(b""), "size": 0}
    body = {"holder": "h", "url": "https://e.example", **finish}
    for text in NAMES:
        reply = client.request(method, f"{API}/{path.format(text)}", json=body if method in ("POST", "PUT") else None)
        assert reply.status_code < 500, (text, reply.text)
        assert reply.status_code >= 400 or path.startswith(("cache-chunk?", "sessions?"))
        assert len(reply.content) < 2_000

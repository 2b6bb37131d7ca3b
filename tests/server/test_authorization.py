"""Every route, asked by everybody who should not get an answer: it does not tell what is there, and changes nothing.

The table below has an entry for each operation of the service's own description; a route without one fails a test.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from jettyctl.server.control import keys
from jettyctl.server.control.app import create_app
from jettyctl.server.control.settings import Settings
from tests.server.hosts import Host, hosted, own_backend
from tests.support.plane import new_key, with_database
from tests.support.uploading import API, Sender, blake3_of, crc64, sha256

Ask = tuple[str, dict[str, Any]]  # path, and the rest of what httpx is told
CHANGING = {"date", "x-request-id", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "content-length"}


@dataclass(frozen=True, slots=True)
class Things:
    """What a user has, by every name that a request can call it."""

    session: str  # an upload under way
    fence: int
    tracked: str  # an upload that is only told of, with a chunk
    key: str  # of an object
    file: str
    content: bytes
    nonce: str
    proof: str = "0" * 64
    edge: str = field(default_factory=lambda: f"e-{uuid.uuid4().hex[:8]}")

    @property
    def names(self) -> list[str]:
        """What no answer to anybody else may hold, unless they said it themselves."""
        return [self.session, self.tracked, self.key, self.file, sha256(self.content), blake3_of(self.content), self.nonce]


@dataclass(frozen=True, slots=True)
class Probe:
    """A request that is good if the things are the user's own. `scope` None: no key is needed.

    `differs` is why the answer to a stranger tells, and may tell, whether the things are there.
    """

    name: str
    scope: str | None
    ask: Callable[[Things, str], Ask]
    good: int = 200
    differs: str = ""


def _finish(t: Things) -> dict[str, Any]:
    return {"fence": t.fence, "fileHash": sha256(t.content), "crc64": crc64(t.content), "size": len(t.content)}


def _upload(session: str, key: str) -> dict[str, Any]:
    about = {"fileName": "a", "fileSize": 10, "chunkSize": 5 << 20, "holder": "holder-1"}
    return {"sessionId": session, "key": key, **about}


def _own(t: Things, user: str) -> dict[str, Any]:
    return {"userId": user, "fileHash": sha256(t.content), "fileSize": 10}


def _fresh() -> str:
    return str(uuid.uuid4())


EDGE = {"url": "https://edge.example"}
CLONE = {"fileName": "a"}
UNGUESSABLE = "a client names its session, so a name that is taken shows; it is a UUID that nobody guesses"
SHARED_NAMES = "users of a tenant share its names, so one that is taken shows"

PROBES: dict[tuple[str, str], list[Probe]] = {
    ("POST", f"{API}/optimal-edges"): [Probe("hash", "read", lambda t, user: ("/optimal-edges", {"json": _own(t, user)}))],
    ("POST", f"{API}/check-duplicate"): [Probe("hash", "read", lambda t, user: ("/check-duplicate", {"json": _own(t, user)}))],
    ("POST", f"{API}/cache-chunk"): [
        Probe(
            "session",
            "write",
            lambda t, _: ("/cache-chunk", {"json": {"sessionId": t.tracked, "chunkIndex": 0, "status": "failed"}}),
            differs=UNGUESSABLE,
        )
    ],
    ("GET", f"{API}/cache-chunk"): [
        Probe("session", "read", lambda t, _: ("/cache-chunk", {"params": {"sessionId": t.tracked}}))
    ],
    ("POST", f"{API}/track-upload"): [
        Probe(
            "start",
            "write",
            lambda t, user: (
                "/track-upload",
                {"json": {**_own(t, user), "action": "start", "fileName": "a", "fileId": t.file}},
            ),
        ),
        *(
            Probe(
                action,
                "write",
                lambda t, _, action=action: (  # type: ignore[misc]  # bound to the loop's value
                    "/track-upload",
                    {"json": {"action": action, "sessionId": t.tracked, "chunksCompleted": 1, "bytesUploaded": 1}},
                ),
            )
            for action in ("progress", "fail", "complete")
        ),
    ],
    ("POST", f"{API}/uploads"): [
        Probe("session", "write", lambda t, _: ("/uploads", {"json": _upload(t.session, _fresh())}), 409, differs=UNGUESSABLE),
        Probe("key", "write", lambda t, _: ("/uploads", {"json": _upload(_fresh(), t.key)}), 201, differs=SHARED_NAMES),
    ],
    ("POST", f"{API}/uploads/{{id}}/parts"): [
        Probe(
            "sign",
            "write",
            lambda t, _: (
                f"/uploads/{t.session}/parts",
                {"json": {"fence": t.fence, "wanted": [{"number": 1, "length": 10, "crc64": crc64(t.content)}]}},
            ),
        ),
        Probe(
            "receipt",
            "write",
            lambda t, _: (
                f"/uploads/{t.session}/parts",
                {"json": {"fence": t.fence, "completed": [{"number": 1, "length": 10, "crc64": "0" * 16, "etag": "x"}]}},
            ),
        ),
    ],
    ("GET", f"{API}/uploads/{{id}}/parts"): [Probe("parts", "read", lambda t, _: (f"/uploads/{t.session}/parts", {}))],
    ("POST", f"{API}/uploads/{{id}}/finalize"): [
        Probe("finalize", "write", lambda t, _: (f"/uploads/{t.session}/finalize", {"json": _finish(t)}))
    ],
    ("DELETE", f"{API}/uploads/{{id}}"): [Probe("abort", "write", lambda t, _: (f"/uploads/{t.session}", {}))],
    ("PUT", f"{API}/blobs/{{token}}"): [Probe("token", None, lambda t, _: ("/blobs/W10.AAAA", {"content": b""}), 403)],
    ("POST", f"{API}/fingerprint"): [
        Probe(
            "sample",
            "read",
            lambda t, _: ("/fingerprint", {"json": {"size": 10, "sample": f"blake3:{blake3_of(t.content)}"}}),
        )
    ],
    ("POST", f"{API}/clones/challenge"): [
        Probe("hash", "write", lambda t, _: ("/clones/challenge", {"json": {"size": 10, "blake3": blake3_of(t.content)}}))
    ],
    ("POST", f"{API}/clones"): [
        Probe(
            "nonce",
            "write",
            lambda t, _: ("/clones", {"json": {"nonce": t.nonce, "proof": t.proof, "key": _fresh(), **CLONE}}),
            404,
        ),
        Probe(
            "key",
            "write",
            lambda t, _: ("/clones", {"json": {"nonce": t.nonce, "proof": t.proof, "key": t.key, **CLONE}}),
            404,
            differs=SHARED_NAMES,
        ),
        Probe(
            "session",
            "write",
            lambda t, _: (
                "/clones",
                {"json": {"nonce": t.nonce, "proof": t.proof, "key": _fresh(), "sessionId": t.session, **CLONE}},
            ),
            404,
        ),
    ],
    ("GET", f"{API}/sessions"): [
        Probe("own", "read", lambda t, _: ("/sessions", {"params": {"limit": 1000}})),
        Probe("user", "read", lambda t, user: ("/sessions", {"params": {"userId": user}})),
    ],
    ("GET", f"{API}/sessions/{{id}}"): [
        Probe("upload", "read", lambda t, _: (f"/sessions/{t.session}", {})),
        Probe("tracked", "read", lambda t, _: (f"/sessions/{t.tracked}", {})),
    ],
    ("POST", f"{API}/sessions/{{id}}/lease"): [
        Probe(
            "take over",
            "write",
            lambda t, _: (f"/sessions/{t.session}/lease", {"json": {"holder": "thief", "takeOver": True}}),
        )
    ],
    ("GET", f"{API}/files"): [Probe("own", "read", lambda t, _: ("/files", {"params": {"limit": 1000}}))],
    ("DELETE", f"{API}/files/{{fileId}}"): [Probe("file", "write", lambda t, _: (f"/files/{t.file}", {}))],
    ("GET", f"{API}/object"): [
        Probe("key", "read", lambda t, _: ("/object", {"params": {"key": t.key}})),
        Probe("file", "read", lambda t, _: ("/object", {"params": {"fileId": t.file}})),
    ],
    ("GET", f"{API}/object/content"): [
        Probe("key", "read", lambda t, _: ("/object/content", {"params": {"key": t.key}})),
        Probe("file", "read", lambda t, _: ("/object/content", {"params": {"fileId": t.file}})),
    ],
    ("GET", f"{API}/service"): [Probe("who", "read", lambda t, _: ("/service", {}))],
    ("GET", f"{API}/edges"): [Probe("all", "any", lambda t, _: ("/edges", {}))],
    ("PUT", f"{API}/edges/{{edge_id}}"): [Probe("edge", "admin", lambda t, _: (f"/edges/{t.edge}", {"json": EDGE}), 201)],
    ("DELETE", f"{API}/edges/{{edge_id}}"): [Probe("edge", "admin", lambda t, _: (f"/edges/{t.edge}", {}), 204)],
    ("GET", "/health"): [Probe("health", None, lambda t, _: ("/health", {}))],
    ("GET", "/metrics"): [Probe("metrics", None, lambda t, _: ("/metrics", {}))],
}
CASES = [(route, probe) for route, probes in PROBES.items() for probe in probes]
STRANGERS = {
    "colleague": ("usr_2", "acme", ("read", "write")),
    "namesake of another tenant": ("usr_1", "globex", ("read", "write")),
    "other tenant": ("usr_9", "globex", ("read", "write")),
    "admin of another tenant": ("usr_8", "globex", ("read", "write", "admin")),
}


@dataclass(slots=True)
class World:
    """A service, its owner of things, and those who have none."""

    host: Host
    owner: httpx.Client
    admin: httpx.Client
    strangers: dict[str, httpx.Client]
    keyless: dict[str, httpx.Client]
    scoped: dict[str, httpx.Client]
    said: dict[str, str] = field(default_factory=dict)  # by strangers, so far: they may be told so again

    def things(self) -> Things:
        """New things of the owner's."""
        open_upload = Sender(self.owner, os.urandom(10), f"open-{_fresh()}")
        open_upload.begin().raise_for_status()
        open_upload.send(1)
        sender = Sender(self.owner, open_upload.content, f"done-{_fresh()}")
        made = sender.upload()
        start = {**self._known(sender.content), "action": "start", "fileName": f"t-{_fresh()}", "chunksTotal": 3}
        tracked = self.owner.post(f"{API}/track-upload", json=start).raise_for_status().json()["session"]["sessionId"]
        chunk = {"sessionId": tracked, "chunkIndex": 0, "status": "completed", "chunkHash": "x", "bytesUploaded": 5}
        self.owner.post(f"{API}/cache-chunk", json=chunk).raise_for_status()
        asked = {"size": 10, "blake3": blake3_of(sender.content)}
        nonce = self.owner.post(f"{API}/clones/challenge", json=asked).raise_for_status().json()["nonce"]
        edge = f"e-{uuid.uuid4().hex[:8]}"
        return Things(
            open_upload.session_id, open_upload.fence, tracked, sender.key, made["fileId"], sender.content, nonce, edge=edge
        )

    def seen(self, t: Things) -> list[Any]:
        """Everything that the owner sees of the things."""
        paths: list[Ask] = [
            (f"/sessions/{t.session}", {}),
            (f"/uploads/{t.session}/parts", {}),
            (f"/sessions/{t.tracked}", {}),
            ("/cache-chunk", {"params": {"sessionId": t.tracked}}),
            ("/object", {"params": {"key": t.key}}),
        ]
        told: list[dict[str, Any]] = [self.owner.get(API + path, **more).raise_for_status().json() for path, more in paths]
        for one in told:
            one.pop("leaseExpiresIn", None)
            one.pop("verified", None)  # which the service changes by itself, and with it what it knows
            one.pop("sha256", None)
        return told

    @staticmethod
    def _known(content: bytes) -> dict[str, Any]:
        return {"userId": "usr_1", "fileHash": sha256(content), "fileSize": 10}


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("world")
    with own_backend(request, directory) as backend, hosted(backend, directory) as host, ExitStack() as stack:
        url = backend.database_url

        def client(key: str | None) -> httpx.Client:
            return stack.enter_context(host.plane.client(key))

        revoked_id, revoked = new_key(url)
        with_database(url, lambda database: keys.revoke(database, revoked_id))
        expired = new_key(url, expires_at=datetime.now(UTC) - timedelta(seconds=1))[1]
        yield World(
            host,
            owner=client(new_key(url)[1]),
            admin=client(new_key(url, "usr_admin", scopes=("read", "write", "admin"))[1]),
            strangers={name: client(new_key(url, *about)[1]) for name, about in STRANGERS.items()},
            keyless={"none": client(None), "revoked": client(revoked), "expired": client(expired), "unknown": client("jty_x")},
            scoped={
                "read": client(new_key(url, scopes=("read",))[1]),
                "write": client(new_key(url, scopes=("write",))[1]),
            },
        )


def nothing() -> Things:
    """Things that nobody has."""
    content = os.urandom(10)
    return Things(_fresh(), 1, _fresh(), f"done-{_fresh()}", _fresh(), content, os.urandom(32).hex())


def send(client: httpx.Client, method: str, probe: Probe, things: Things, user: str) -> httpx.Response:
    """The request of a probe."""
    path, more = probe.ask(things, user)
    where = path if path in ("/health", "/metrics") else API + path
    return client.request(method, where, follow_redirects=False, **more)


def looks(reply: httpx.Response) -> tuple[int, str, tuple[tuple[str, str], ...]]:
    """Status, body and headers, without what differs from any request to the next."""
    body = re.sub(r'"[0-9a-f]{64}"|"[0-9a-f-]{36}"|"leaseExpiresIn":[0-9.]+', '"#"', reply.text)
    headers = tuple(sorted((name, value) for name, value in reply.headers.items() if name not in CHANGING))
    return reply.status_code, body, headers


def label(case: object) -> str:
    return f"{case[0]} {case[1].removeprefix(API)}" if isinstance(case, tuple) else getattr(case, "name", "")


def test_every_route_is_here() -> None:
    """A route of the service that this table does not have, or a row without a route, fails."""
    described = create_app(Settings("sqlite:////nowhere")).openapi()["paths"]
    assert {(method.upper(), path) for path, operations in described.items() for method in operations} == set(PROBES)


@pytest.fixture(scope="module")
def kept(world: World) -> Iterator[Things]:
    """Things that tests share which must not change them; it is looked at in the end."""
    things = replace(world.things(), edge="sfo-1")
    before = world.seen(things)
    yield things
    assert world.seen(things) == before
    edges = world.admin.get(f"{API}/edges").raise_for_status().json()["edges"]
    assert next(edge["url"] for edge in edges if edge["id"] == things.edge) != EDGE["url"]


OWNED = [(route, probe) for route, probe in CASES if probe.scope in ("read", "write")]


@pytest.mark.slow
@pytest.mark.parametrize(("route", "probe"), OWNED, ids=label)
def test_nobody_else(world: World, kept: Things, route: tuple[str, str], probe: Probe) -> None:
    """Another's things look to everybody else like things that are not there; to their owner they are."""
    method = route[0]
    for name, client in world.strangers.items():
        user = STRANGERS[name][0]
        real, none = (send(client, method, probe, things, user) for things in (kept, nothing()))
        assert real.status_code < 500
        if not probe.differs:
            assert looks(real) == looks(none), name
        elif name == "colleague" or probe.differs == UNGUESSABLE:
            assert real.status_code in (404, 409)
        said = world.said[name] = world.said.get(name, "") + str(probe.ask(kept, user))
        assert not [one for one in kept.names if one in real.text and one not in said]
    mine = kept if probe.scope == "read" else world.things()
    assert send(world.owner, method, probe, mine, "usr_1").status_code == probe.good


@pytest.mark.slow
@pytest.mark.parametrize(("route", "probe"), CASES, ids=label)
def test_without_a_good_key(world: World, kept: Things, route: tuple[str, str], probe: Probe) -> None:
    """No key, a revoked, an expired and an unknown one get one answer, whatever is asked for; public routes ask for none."""
    seen = {looks(send(client, route[0], probe, kept, "usr_1")) for client in world.keyless.values()}
    if probe.scope is None:
        assert {status for status, *_ in seen} == {probe.good}
        assert not [name for name in kept.names for _, body, _ in seen if name in body]
        return
    assert seen == {looks(world.keyless["none"].get(f"{API}/service"))}
    assert next(iter(seen))[0] == 401


@pytest.mark.slow
@pytest.mark.parametrize(("route", "probe"), CASES, ids=label)
def test_scopes(world: World, kept: Things, route: tuple[str, str], probe: Probe) -> None:
    """The owner's own key without the scope of a route gets a 403; routes of no scope answer every key."""
    for scope, client in world.scoped.items():
        reply = send(client, route[0], probe, kept, "usr_1") if scope != probe.scope else None
        if probe.scope in (None, "any"):
            assert reply is not None
            assert reply.status_code == probe.good
        elif reply is not None:
            assert (scope, reply.status_code, reply.json()["error"]) == (scope, 403, "forbidden")
    if probe.scope == "admin":
        assert send(world.owner, route[0], probe, kept, "usr_1").status_code == 403


@pytest.mark.slow
def test_admins_change_edges(world: World) -> None:
    """The admin's routes do for an admin what they refuse to others."""
    mine = nothing()
    for route in (("PUT", f"{API}/edges/{{edge_id}}"), ("DELETE", f"{API}/edges/{{edge_id}}")):
        (probe,) = PROBES[route]
        assert send(world.admin, route[0], probe, mine, "usr_admin").status_code == probe.good

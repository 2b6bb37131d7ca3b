"""Answers of a control plane, or of what is in its place: each is a value of the right type, or one of our errors."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import pytest

from jettyctl.control import api, service
from jettyctl.control.api import AlreadyCompleted, ControlApi, NotThere
from jettyctl.control.keys import ApiKey
from jettyctl.control.lease import Work
from jettyctl.control.store import ControlStore
from jettyctl.core.model import Upload
from jettyctl.errors import (
    AccessError,
    AlreadyExists,
    CorruptedInTransit,
    IntegrityError,
    JettyError,
    NetworkError,
    ServerFault,
    SessionBusy,
    StoreError,
    Throttled,
    UploadGone,
)
from tests.support.bodies import body_of

KEY = ApiKey("jty_canary_never_to_be_seen")


class Scripted(ThreadingHTTPServer):
    """Answers every request in the same way, and keeps the headers of all."""

    daemon_threads = True

    def __init__(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body, self.headers = status, body, headers or {}
        self.seen: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_GET(self) -> None:
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_PUT = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        """Tests read what they ask for."""


@contextmanager
def control_of(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[ControlApi]:
    """A control plane that always answers the same."""
    with Scripted(status, body, headers) as server, closing(ControlApi(server.url, KEY)) as control:
        yield control


def refusal(status: int, body: bytes, headers: dict[str, str] | None = None) -> JettyError:
    """What a call makes of an answer that is none."""
    with control_of(status, body, headers) as control, pytest.raises(JettyError) as caught:
        control.post("/uploads", {"a": 1})
    assert KEY.secret not in f"{caught.value!r} {caught.value.hint}"
    return caught.value


def failure(error: str, **more: object) -> bytes:
    """The body of a refusal."""
    return json.dumps({"error": error, "details": "Words.", **more}).encode()


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "invalid request", StoreError),
        (400, "bad digest", CorruptedInTransit),
        (401, "unauthorized", AccessError),
        (403, "forbidden", AccessError),
        (404, "not found", NotThere),
        (409, "stale lease", SessionBusy),
        (409, "session held", SessionBusy),
        (409, "exists", AlreadyExists),
        (409, "integrity", IntegrityError),
        (409, "parts missing", IntegrityError),
        (409, "already completed", AlreadyCompleted),
        (409, "something else", StoreError),
        (410, "upload gone", UploadGone),
        (413, "too large", StoreError),
        (429, "too many requests", Throttled),
        (500, "internal", ServerFault),
        (503, "not available", ServerFault),
    ],
)
def test_each_refusal_is_an_error_of_ours(status: int, error: str, kind: type[JettyError]) -> None:
    """Status and `error` decide which error it is, and so whether it is tried again and how the run ends."""
    assert type(refusal(status, failure(error))) is kind


def test_a_held_session_names_its_holder() -> None:
    """Who holds it, for how long, and what to do."""
    error = refusal(409, failure("session held", host="other\x1b[31m", expiresIn=12.4))
    assert "held by other" in error.message
    assert "for 12 s" in error.message
    assert "\x1b" not in error.message
    assert "--take-over" in error.hint
    endless = b'{"error": "session held", "details": "", "expiresIn": ' + b"9" * 4000 + b"}"
    assert "another machine" in refusal(409, endless).message


def test_who_was_taken_over_hears_by_whom() -> None:
    """The host that has it now, where there is one; else that it may have been given up."""
    assert "taken over by other" in refusal(409, failure("stale lease", host="other\x1b[31m")).message
    assert "given up" in refusal(409, failure("stale lease", host="")).message


def test_of_all_who_held_a_session_one_has_completed_it() -> None:
    """For who did, the session is gone; who had another fence is told that it was taken over, by whom, and what to do."""
    error = refusal(409, failure("already completed", fence=2, host="other"))
    begun = {"fence": 2, "leaseSeconds": 30.0}
    with control_of(409, failure("already completed", fence=2, host="other")) as control:
        work = [Work(control, "id", {**begun, "fence": fence}, lambda *_: pytest.fail("nothing is signed")) for fence in (2, 3)]
        with pytest.raises(AlreadyCompleted):
            work[0].minting.renew()
        with pytest.raises(SessionBusy, match="taken over, and completed, by other") as caught:
            work[1].minting.renew()
    assert "upload again" in caught.value.hint
    assert work[0].judged(error) is error


def test_an_unknown_key_says_to_log_in() -> None:
    """Credentials that do not count any more are not tried again."""
    error = refusal(401, failure("unauthorized"))
    assert "jettyctl login" in error.hint
    assert not error.retryable


def test_retry_after() -> None:
    """The wait that the control plane asks for is kept; one that makes no sense is not."""
    for value, expected in (("7", 7.0), ("soon", None), ("-1", None), ("9" * 30, None)):
        error = refusal(429, failure("too many requests"), {"Retry-After": value})
        assert isinstance(error, NetworkError)
        assert error.retry_after == expected


def test_redirects_are_not_followed() -> None:
    """The key goes to nobody whom an answer names."""
    with Scripted(200, b"{}") as other:
        for status in (301, 302, 303, 307, 308):
            assert isinstance(refusal(status, b"", {"Location": f"{other.url}/"}), StoreError)
        assert not other.seen


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sign in to the hotel</html>",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"a": ' + b"1" * 5_000 + b"}",
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    """A portal's page, a cut reply, JSON that is ambiguous, or too deep: a fault that may be over later."""
    error = refusal(200, body)
    assert isinstance(error, ServerFault)
    assert error.retryable


def test_an_answer_too_large() -> None:
    """A reply that does not end does not fill the memory."""
    assert isinstance(refusal(200, b'{"a": "' + b"x" * (9 << 20) + b'"}'), ServerFault)


def test_a_portal_in_place_of_a_control_plane() -> None:
    """Where there is no control plane at all, that is said."""
    for body in (b"<h1>nginx</h1>", b'{"message": "no Route matched with those values"}'):
        error = refusal(404, body)
        assert "no control plane" in error.message
        assert "--control" in error.hint


def test_a_name_that_the_service_does_not_go_by() -> None:
    """What is wrong is the address, not an option of the upload."""
    assert "--control" in refusal(421, failure("misdirected request")).hint


@pytest.mark.parametrize("value", [None, 5, "\ud800", "a\udfffb"])
def test_texts_must_be_texts(value: object) -> None:
    """Half a character would fail later, in a file name, a header or the journal."""
    with pytest.raises(ServerFault, match="makes no sense"):
        api.text({"key": value}, "key")


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("https://[::1/part", {}),
        ("https://", {}),
        ("https://host:port/part", {}),
        ("https://host:99999/part", {}),
        ("https://höst/part", {}),
        ("https://host/part\r\nX-Other: 1", {}),
        ("http://host/part", {"x-\u00fc": "1"}),
        ("http://host/part", {"x-half": "\ud800"}),
        ("http://host/part", {"x-number": 1}),
    ],
)
def test_signed_requests_must_be_requests(url: str, headers: dict[str, object]) -> None:
    """What cannot be sent is the control plane's fault, and is not tried."""
    with control_of(200, everything("s3", url, headers)) as control:
        store = ControlStore(control, holder="h")
        with pytest.raises(ServerFault, match="the control plane s"):
            store.sign_part(Upload("key", "id", 0.0), 1, body_of(b"content"))


def everything(kind: str, url: str, headers: dict[str, object]) -> bytes:
    """What answers each question of a client that sends one part."""
    limits = {"maxParts": 1, "minPart": 1, "maxPart": 9, "maxObject": 9, "maxKeyBytes": 9}
    answer = {
        "userId": "u", "tenantId": "t", "version": "1", "dedup": {"smallest": 1},
        "store": {"kind": kind, "checksum": "crc64nvme", "limits": limits},
        "fence": 1, "leaseSeconds": 30.0, "session": {},
        "parts": [{"number": 1, "method": "PUT", "url": url, "headers": headers, "expiresAt": 0}],
    }  # fmt: skip
    return json.dumps(answer).encode()


def test_parts_sent_by_another_name_of_the_service() -> None:
    """Its refusals mean the same as those of the name that the user knows, and it is sent no key there."""
    with (
        Scripted(409, failure("stale lease", host="other")) as public,
        control_of(200, everything("local", f"{public.url}/api/jetty/blobs/token", {})) as control,
        closing(ControlStore(control, holder="h")) as store,
    ):
        with pytest.raises(SessionBusy, match="taken over by other"):
            store.put_part(Upload("key", "id", 0.0), 1, body_of(b"content"))
        assert "authorization" not in public.seen[0]


@pytest.mark.parametrize("value", [None, True, -1, 1.5, "1", [], {}, 1 << 63])
def test_numbers_must_be_numbers(value: object) -> None:
    """A field of the wrong type is a fault, never a number of another kind."""
    with pytest.raises(ServerFault, match="makes no sense"):
        api.whole({"size": value}, "size")


@pytest.mark.parametrize("value", ["xyz", "", 5, ["1"]])
def test_checksums_must_be_checksums(value: object) -> None:
    """A CRC is 16 hex digits, or null."""
    with pytest.raises(ServerFault):
        api.crc_in({"crc64": value}, "crc64")
    assert api.crc_in({"crc64": None}, "crc64") is None
    assert api.crc_in({"crc64": "00000000000000ff"}, "crc64") == 255


@pytest.mark.parametrize("answer", [{}, {"store": []}, {"store": {"limits": {"maxParts": 0}}}, {"userId": 5}])
def test_a_service_that_makes_no_sense(answer: dict[str, object]) -> None:
    """What the control plane says of itself is checked before anything is sent."""
    with control_of(200, json.dumps(answer).encode()) as control, pytest.raises(ServerFault):
        service.ask(control)


def test_a_session_that_was_left_is_not_kept() -> None:
    """Its lease is renewed as long as this process works on it, and then runs out."""
    answer = json.dumps({"fence": 1, "leaseSeconds": 0.3, "session": {}, "parts": []}).encode()
    with Scripted(200, answer) as server, closing(ControlStore(ControlApi(server.url, KEY), holder="h")) as store:
        store.take("id")
        deadline = time.monotonic() + 10
        while len(server.seen) < 3:  # the lease itself, and two renewals
            assert time.monotonic() < deadline
            time.sleep(0.01)
        store.leave("id")
        time.sleep(0.1)
        asked = len(server.seen)
        time.sleep(1.2)
        assert len(server.seen) == asked
        store.list_parts(Upload("key", "id", 0.0))
        while len(server.seen) < asked + 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def answering() -> Iterator[Scripted]:
    """A server that answers well."""
    with Scripted(200, b'{"ok": true}') as server:
        yield server


def test_what_is_sent(answering: Scripted) -> None:
    """A call carries the key, asks for no compression, and says what it sends."""
    with closing(ControlApi(answering.url, KEY)) as control:
        assert control.post("/x", {"a": "ü"}) == {"ok": True}
    headers = answering.seen[0]
    assert headers["authorization"] == f"Bearer {KEY.secret}"
    assert headers["accept-encoding"] == "identity"
    assert headers["content-type"] == "application/json"

"""The checksum probe against real servers, and against small ones that verify what they say they do."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from jettyctl.core.events import Note
from jettyctl.core.model import ObjectOptions, Upload
from jettyctl.errors import AccessError, NetworkError, NoSuchBucket
from jettyctl.files.crc import crc64, to_base64
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.credentials import Keys, StaticKeys
from jettyctl.storage.s3.memory import LIFETIME, ChecksumMemory, RememberedChecksums
from jettyctl.storage.s3.sign import UNSIGNED, Signer
from tests.support import servers
from tests.support.bodies import body_of
from tests.support.faults import EVERY, Fault, error
from tests.support.proxy import RecordingProxy
from tests.support.servers import MotoServer, Server

PLAIN = ObjectOptions()
HARD_ID = "a/b+c==&d %41"  # an upload id with all that a query may break

CHECKS: dict[str, tuple[str, Callable[[bytes], str]]] = {
    "crc64nvme": ("x-amz-checksum-crc64nvme", lambda data: to_base64(crc64(data))),
    "sha256": ("x-amz-content-sha256", lambda data: hashlib.sha256(data).hexdigest()),
    "md5": ("content-md5", lambda data: base64.b64encode(hashlib.md5(data).digest()).decode()),
}


class Verifier(BaseHTTPRequestHandler):
    """An S3 server as far as the probe looks. `verifies` are the checksums that it really compares."""

    protocol_version = "HTTP/1.1"
    verifies: ClassVar[frozenset[str]] = frozenset()
    etags: ClassVar[bool] = False
    strict: ClassVar[bool] = False  # refuses a header that it does not know
    log: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.headers.get("x-amz-checksum-algorithm") and "crc64nvme" not in self.verifies:
            self.answer(400, b"<Error><Code>InvalidRequest</Code><Message>Unknown algorithm</Message></Error>")
            return
        self.log.append("create")
        escaped = HARD_ID.replace("&", "&amp;").encode()
        self.answer(200, b"<InitiateMultipartUploadResult><UploadId>" + escaped + b"</UploadId></InitiateMultipartUploadResult>")

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length", "0")))
        kind = "part" if self.known() else "stray"
        self.log.append(kind if data != b"data" else f"{kind} with {' '.join(filter(self.states, sorted(CHECKS)))}")
        if self.strict and self.states("crc64nvme"):
            self.answer(400, b"<Error><Code>InvalidRequest</Code></Error>")
        elif all(self.matches(name, data) for name in self.verifies):
            etag = hashlib.md5(data).hexdigest() if self.etags else "opaque"
            self.answer(200, b"", {"ETag": f'"{etag}"'})
        else:
            self.answer(400, b"<Error><Code>BadDigest</Code></Error>")

    def do_DELETE(self) -> None:
        self.log.append("abort" if self.known() else "stray")
        self.answer(204, b"")

    def known(self) -> bool:
        return parse_qs(urlsplit(self.path).query).get("uploadId") == [HARD_ID]

    def states(self, name: str) -> bool:
        """Whether the request states this checksum."""
        return self.headers.get(CHECKS[name][0], UNSIGNED) != UNSIGNED

    def matches(self, name: str, data: bytes) -> bool:
        """Whether the checksum is not stated, or right."""
        header, compute = CHECKS[name]
        return not self.states(name) or self.headers[header] == compute(data)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def verifier(*verifies: str, etags: bool = False, strict: bool = False) -> Iterator[tuple[str, list[str]]]:
    """A server on loopback that verifies these checksums; its URL, and what it was asked."""
    log: list[str] = []
    handler = type("Handler", (Verifier,), {"verifies": frozenset(verifies), "etags": etags, "strict": strict, "log": log})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", log
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def opened(
    url: str, bucket: str = "bucket", *, memory: ChecksumMemory | None = None, note: Callable[[Note], None] = lambda _: None
) -> Iterator[S3Store]:
    keys = StaticKeys(Keys(servers.ACCESS_KEY, servers.SECRET_KEY))
    store = S3Store(S3Config(bucket, servers.REGION, url), Signer(keys, servers.REGION), memory=memory, note=note)
    try:
        yield store
    finally:
        store.close()


def test_real_servers(s3_server: Server) -> None:
    """moto verifies nothing but answers with the MD5, rclone verifies Content-MD5; neither keeps anything of the probe."""
    notes: list[Note] = []
    with opened(s3_server.endpoint, note=notes.append) as store:
        assert store.checksum == "auto"
        upload_id = store.create("probed", PLAIN, 1, 1)
        assert store.checksum == ("etag" if isinstance(s3_server, MotoServer) else "md5")
    assert len(notes) == 1
    ours = [found for found in servers.list_uploads(s3_server) if found[0].startswith("probed")]  # other tests use it too
    assert ours == [("probed", upload_id)]
    assert servers.head(s3_server, "probed.jettyctl-probe") is None
    with servers.client(s3_server) as s3:
        s3.abort_multipart_upload(Bucket=s3_server.bucket, Key="probed", UploadId=upload_id)


@pytest.mark.parametrize(
    ("verifies", "etags", "found"),
    [
        (("crc64nvme", "sha256", "md5"), True, "crc64nvme"),
        (("crc64nvme",), False, "crc64nvme"),
        (("sha256", "md5"), True, "sha256"),
        (("sha256",), False, "sha256"),
        (("md5",), False, "md5"),
        ((), True, "etag"),
        ((), False, "none"),
    ],
)
def test_the_strongest_is_found(verifies: tuple[str, ...], etags: bool, found: str) -> None:
    """The strongest checksum that a server really compares is found, and the upload of the probe is aborted. An upload that
    was begun meanwhile, for the checksum that is likely, is used, or aborted and begun anew.
    """
    with verifier(*verifies, etags=etags) as (url, log), opened(url) as store:
        store.create("k", PLAIN, 1, 1)
        assert store.checksum == found
    parts = 3 if "crc64nvme" in verifies else 2
    assert log.count("part") == parts
    assert log.count("create") - log.count("abort") == 1
    assert len(log) - parts <= (3 if found in ("crc64nvme", "none") else 5)


@pytest.mark.parametrize("verifies", ["crc64nvme", "sha256", "md5"])
def test_what_was_found_is_sent(verifies: str) -> None:
    """After the probe, good parts carry the checksum that was found and are accepted."""
    with verifier(verifies, etags=True) as (url, log), opened(url) as store:
        upload = Upload("k", store.create("k", PLAIN, 4, 4), 0.0)
        assert store.put_part(upload, 1, body_of(b"data")).size == 4
        assert store.put("k", body_of(b"data"), PLAIN).size == 4
        assert [one for one in log if "with" in one][-2:] == [f"part with {verifies}", f"stray with {verifies}"]


@pytest.mark.parametrize(
    ("verifies", "etags", "strict", "sent"),
    [
        (("crc64nvme",), False, False, ["crc64nvme"]),
        ((), False, False, ["crc64nvme"]),  # nothing else could be sent
        ((), True, False, ["crc64nvme"]),
        (("md5",), True, False, ["crc64nvme"]),  # the ETag tells what arrived
        (("md5",), False, False, ["crc64nvme", "md5"]),
        (("sha256",), False, False, ["crc64nvme", "sha256"]),
        (("md5",), True, True, ["crc64nvme", "md5"]),
        ((), False, True, ["crc64nvme", ""]),
    ],
)
def test_far_away_the_first_parts_do_not_wait(
    monkeypatch: pytest.MonkeyPatch, verifies: tuple[str, ...], etags: bool, strict: bool, sent: list[str]
) -> None:
    """A part is sent before anything was asked. It counts if the store checked it, or could not have; else it is sent again
    with what the store does check.
    """
    monkeypatch.setattr(S3Store, "farther_than", lambda *_: True)
    with verifier(*verifies, etags=etags, strict=strict) as (url, log), opened(url) as store:
        upload = Upload("k", HARD_ID, 0.0)
        assert store.put_part(upload, 1, body_of(b"data")).size == 4
        assert log[0] == "part with crc64nvme"
        assert [one.removeprefix("part with ") for one in log if "with" in one] == sent
        store.put_part(upload, 2, body_of(b"data"))
        expected = store.checksum if store.checksum in CHECKS else ""
        assert [one for one in log if "with" in one][-1] == f"part with {expected}"


def test_far_away_an_upload_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it begun anew where something else is verified than was likely."""
    monkeypatch.setattr(S3Store, "farther_than", lambda *_: True)
    with verifier("crc64nvme") as (url, log), opened(url) as store:
        assert store.create("k", PLAIN, 1, 1) == HARD_ID
        assert log == ["create"]


def test_one_probe_for_all_threads() -> None:
    """Many threads that begin at once wait for one probe."""
    with verifier("md5") as (url, log), opened(url) as store:
        threads = [threading.Thread(target=store.create, args=(f"k{n}", PLAIN, 1, 1)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.checksum == "md5"
    assert log.count("abort") == 1


def test_the_result_is_remembered(tmp_path: Path) -> None:
    """What was found is known to the next run, for this endpoint alone, and is probed again after a month."""
    path = tmp_path / "new" / "endpoints.json"
    with verifier("sha256") as (url, log):
        for _ in range(2):
            with opened(url, memory=RememberedChecksums(str(path))) as store:
                store.create("k", PLAIN, 1, 1)
                assert store.checksum == "sha256"
    assert log.count("abort") == 1
    assert path.stat().st_mode & 0o777 == 0o600
    memory = RememberedChecksums(str(path))
    assert memory.recall("https://other.example") is None
    found, when = json.loads(path.read_text())[url]
    for later, expected in ((LIFETIME - 60, "sha256"), (LIFETIME + 60, None), (-3600, None)):
        path.write_text(json.dumps({url: [found, when - later]}))
        assert memory.recall(url) == expected


@pytest.mark.parametrize("content", ["", "[]", "nonsense", '{"https://e": 5}', '{"https://e": ["md5", "x"]}'])
def test_damaged_memory(tmp_path: Path, content: str) -> None:
    """A memory that cannot be read knows nothing, and learns again."""
    path = tmp_path / "endpoints.json"
    path.write_text(content)
    memory = RememberedChecksums(str(path))
    assert memory.recall("https://e") is None
    memory.learn("https://e", "md5")
    assert RememberedChecksums(str(path)).recall("https://e") == "md5"


def test_no_permission(proxied: Callable[..., RecordingProxy], moto: Server) -> None:
    """Where uploads are not allowed the probe says so, and nothing is remembered."""
    proxy, memory = proxied(moto, faults=[Fault("create", 1, error(403, "AccessDenied"), times=EVERY)]), ChecksumMemory()
    with opened(proxy.endpoint, memory=memory) as store, pytest.raises(AccessError):
        store.create("k", PLAIN, 1, 1)
    assert memory.recall(proxy.endpoint) is None


def test_no_bucket(moto: Server) -> None:
    """A bucket that is not there is named as that."""
    with opened(moto.endpoint, "no-such-bucket") as store, pytest.raises(NoSuchBucket):
        store.create("k", PLAIN, 1, 1)


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (429, "TooManyRequests")])
def test_a_busy_server_is_asked_later(proxied: Callable[..., RecordingProxy], moto: Server, status: int, code: str) -> None:
    """A server too busy to begin the probe is not taken for one that knows no CRC64: the call may be tried again."""
    proxy, memory = proxied(moto, faults=[Fault("create", 1, error(status, code))]), ChecksumMemory()
    with opened(proxy.endpoint, memory=memory) as store:
        with pytest.raises(NetworkError):
            store.create("k", PLAIN, 1, 1)
        assert (store.checksum, memory.recall(proxy.endpoint)) == ("auto", None)
        store.create("k", PLAIN, 1, 1)
        assert memory.recall(proxy.endpoint) == "etag"


def test_a_doubtful_result_is_not_remembered(proxied: Callable[..., RecordingProxy], rclone: Server) -> None:
    """If a question got no answer, what was found serves this run only: the server may verify more than that."""
    proxy, memory = proxied(rclone, faults=[Fault("part", 1, error(503, "SlowDown"), part=2)]), ChecksumMemory()
    with opened(proxy.endpoint, memory=memory) as store:
        store.create("k", PLAIN, 1, 1)
        assert store.checksum in ("etag", "none")
    assert memory.recall(proxy.endpoint) is None
    with opened(proxy.endpoint, memory=memory) as store:
        store.create("k", PLAIN, 1, 1)
    assert memory.recall(proxy.endpoint) == "md5"

"""The proxy is an oracle of other tests, so what it passes on, counts and breaks is checked here."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import faults
from tests.support.faults import EVERY, Action, Fault, classify
from tests.support.proxy import RecordingProxy
from tests.support.relay import Request
from tests.support.servers import Server, client, fetch, head, list_uploads, store

PART = "/bucket/key?partNumber=2&uploadId=u1"
MIB = 1 << 20


class _Upstream(http.server.ThreadingHTTPServer):
    """Keeps the bodies that it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.bodies: list[bytes] = []


class _Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the body's length and the Host that it came with."""

    protocol_version = "HTTP/1.1"
    server: _Upstream

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        answer = f"{len(body)} {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        """A chunked reply."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n")

    def log_message(self, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def upstream() -> Iterator[_Upstream]:
    server = _Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxy(upstream: _Upstream, proxied: Callable[..., RecordingProxy]) -> RecordingProxy:
    return proxied(f"http://127.0.0.1:{upstream.server_port}")


def ask(proxy: RecordingProxy, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    try:
        connection.request(method, target, body or None)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def settled(proxy: RecordingProxy, index: int = -1) -> Request:
    """A request's record once the proxy is done with it."""
    deadline = time.monotonic() + 5
    while not proxy.requests or proxy.requests[index].ended is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return proxy.requests[index]


def test_passes_request_and_reply_on_unchanged(proxy: RecordingProxy, upstream: _Upstream) -> None:
    """Body and Host header reach the server as the client sent them, and its reply comes back."""
    body = bytes(range(256)) * 5000
    assert ask(proxy, "PUT", PART, body) == (200, f"{len(body)} 127.0.0.1:{proxy.port}".encode())
    assert upstream.bodies == [body]


def test_passes_chunked_replies_on(proxy: RecordingProxy) -> None:
    """A chunked reply with extensions and trailers arrives whole."""
    assert ask(proxy, "GET", "/bucket/key") == (200, b"abcdefg")


def test_records_a_part(proxy: RecordingProxy) -> None:
    """A part's record has its number, its upload id, its size, and that both directions were whole."""
    ask(proxy, "PUT", PART, b"x" * 1000)
    request = settled(proxy)
    assert (request.op, request.part, request.upload_id) == ("part", 2, "u1")
    assert (request.body_bytes, request.body_complete, request.succeeded) == (1000, True, True)
    assert proxy.parts_sent() == proxy.completed_parts() == {2: 1}
    assert (proxy.count("part"), proxy.count("put")) == (1, 0)


def test_serves_many_requests_on_one_connection(proxy: RecordingProxy) -> None:
    """A kept-alive connection carries one request after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    for number in (1, 2, 3):
        connection.request("PUT", f"/bucket/key?partNumber={number}&uploadId=u", b"x" * number)
        assert connection.getresponse().read().startswith(b"%d " % number)
    connection.close()
    assert proxy.parts_sent() == {1: 1, 2: 1, 3: 1}


def test_records_a_client_that_leaves_in_the_middle(proxy: RecordingProxy) -> None:
    """A request that ends before its body does is begun, but not whole."""
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        connection.sendall(f"PUT {PART} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf".encode())
    request = settled_at_close(proxy)
    assert (request.body_bytes, request.body_complete, request.succeeded) == (4, False, False)
    assert proxy.completed_parts() == {}


def settled_at_close(proxy: RecordingProxy) -> Request:
    """The only record, after the proxy ended: nothing can change any more."""
    deadline = time.monotonic() + 5
    while not proxy.requests or not proxy.requests[0].body_bytes:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    proxy.close()
    return proxy.requests[0]


def test_reset_forwards_nothing(proxy: RecordingProxy, upstream: _Upstream) -> None:
    """`reset` answers with RST and the server sees no request."""
    proxy.faults.append(Fault("part", 1, faults.reset()))
    with pytest.raises(ConnectionError):
        ask(proxy, "PUT", PART, b"body")
    assert upstream.bodies == []
    assert ask(proxy, "PUT", PART, b"body")[0] == 200


def test_reset_mid_body_comes_after_so_many_bytes(proxy: RecordingProxy) -> None:
    """`reset_mid_body` breaks a request that the server has begun to read, never one that it has whole."""
    proxy.faults.append(Fault("part", 1, faults.reset_mid_body(100_000)))
    with pytest.raises(ConnectionError):
        ask(proxy, "PUT", PART, b"x" * 8 * MIB)
    request = settled_at_close(proxy)
    assert 100_000 <= request.body_bytes < 8 * MIB
    assert not request.body_complete


def test_drop_reply_lets_the_server_act(proxy: RecordingProxy, upstream: _Upstream) -> None:
    """After `drop_reply` the server has the body, and the client no answer."""
    proxy.faults.append(Fault("part", 1, faults.drop_reply()))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(proxy, "PUT", PART, b"body")
    assert upstream.bodies == [b"body"]
    request = settled(proxy)
    assert (request.status, request.succeeded) == (200, False)


@pytest.mark.parametrize(
    ("action", "code", "content"),
    [
        (faults.status(503, b"later", {"Retry-After": "1"}), 503, b"later"),
        (faults.error(400, "RequestTimeout"), 400, b"<Code>RequestTimeout</Code>"),
        (faults.ok_error(), 200, b"<Code>InternalError</Code>"),
        (faults.html(), 200, b"<html>"),
        (faults.redirect(307, "http://127.0.0.1:1/"), 307, b""),
    ],
)
def test_answers_in_the_servers_place(
    proxy: RecordingProxy, upstream: _Upstream, action: Action, code: int, content: bytes
) -> None:
    """An answer of the proxy's own comes after the whole body, and the server sees nothing."""
    proxy.faults.append(Fault("part", 1, action))
    answer = ask(proxy, "PUT", PART, b"x" * MIB)
    assert answer[0] == code
    assert content in answer[1]
    assert proxy.requests[0].body_complete
    assert upstream.bodies == []


@pytest.mark.parametrize("read", [True, False])
def test_stall_never_answers(proxy: RecordingProxy, read: bool) -> None:
    """`stall` keeps the connection open in silence, and still ends with the proxy."""
    proxy.faults.append(Fault("put", 1, faults.stall(read=read)))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.2) as connection:
        connection.sendall(b"PUT /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert proxy.requests[0].body_complete is read
        proxy.close()
        connection.settimeout(5)
        assert connection.recv(1) == b""


def test_trickle_sends_single_bytes(proxy: RecordingProxy) -> None:
    """`trickle` spreads a reply over as many intervals as it has bytes."""
    proxy.faults.append(Fault("put", 1, faults.trickle(0.05)))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
        connection.sendall(b"PUT /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
        begun = time.monotonic()
        assert b"".join(connection.recv(100) for _ in range(8)) == b"HTTP/1.1"
    assert time.monotonic() - begun >= 0.3


def test_delay_waits_before_it_forwards(proxy: RecordingProxy) -> None:
    """`delay` only costs time."""
    proxy.faults.append(Fault("put", 1, faults.delay(0.2)))
    begun = time.monotonic()
    assert ask(proxy, "PUT", "/bucket/key", b"body")[0] == 200
    assert time.monotonic() - begun >= 0.2


def test_fault_hits_the_nth_and_so_many_after(proxy: RecordingProxy) -> None:
    """`nth` and `times` choose occurrences of the operation; `part` counts that part alone."""
    proxy.faults += [Fault("put", 2, faults.status(503), times=2), Fault("part", 2, faults.status(500), part=2)]
    assert [ask(proxy, "PUT", "/bucket/key", b"x")[0] for _ in range(4)] == [200, 503, 503, 200]
    other = PART.replace("=2", "=1")
    assert [ask(proxy, "PUT", target, b"x")[0] for target in (other, PART, other, PART)] == [200, 200, 200, 500]


def test_fault_can_last(proxy: RecordingProxy) -> None:
    """`times=EVERY` never ends."""
    proxy.faults.append(Fault("put", 1, faults.status(503), times=EVERY))
    assert {ask(proxy, "PUT", "/bucket/key", b"x")[0] for _ in range(5)} == {503}


def test_rate_limits_all_bodies_together(upstream: _Upstream, proxied: Callable[..., RecordingProxy]) -> None:
    """Two uploads at once take as long as their sum at the rate."""
    slow = proxied(f"http://127.0.0.1:{upstream.server_port}", rate=2 * MIB)
    begun = time.monotonic()
    threads = [threading.Thread(target=ask, args=(slow, "PUT", "/bucket/key", b"x" * (MIB // 2))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.4 < time.monotonic() - begun < 2


def test_comes_back_on_the_same_port(proxy: RecordingProxy) -> None:
    """A proxy that was closed refuses connections, and after `start` serves under its old address."""
    ask(proxy, "PUT", "/bucket/key", b"x")
    proxy.close()
    with pytest.raises(ConnectionRefusedError):
        ask(proxy, "PUT", "/bucket/key", b"x")
    proxy.start()
    assert ask(proxy, "PUT", "/bucket/key", b"x")[0] == 200
    assert proxy.count("put") == 2


@pytest.mark.parametrize(
    ("method", "target", "op"),
    [
        ("PUT", "/b/k", "put"),
        ("PUT", "/b/k/", "put"),
        ("PUT", "/b", "other"),
        ("PUT", "/b/k?uploadId=u&partNumber=1", "part"),
        ("POST", "/b/k?uploads", "create"),
        ("POST", "/b/k?uploads=", "create"),
        ("POST", "/b/k?uploadId=u", "complete"),
        ("DELETE", "/b/k?uploadId=u", "abort"),
        ("DELETE", "/b/k", "other"),
        ("HEAD", "/b/k", "head"),
        ("GET", "/b/k?uploadId=u&max-parts=5", "list_parts"),
        ("GET", "/b/k", "get"),
        ("GET", "/b?uploads&prefix=k", "list_uploads"),
        ("GET", "/b/?uploads=&prefix=k", "list_uploads"),
        ("GET", "/b?list-type=2", "other"),
    ],
)
def test_classifies(method: str, target: str, op: str) -> None:
    """Requests are named by method, path and query."""
    assert classify(method, target) == op


def test_stands_in_front_of_real_servers(s3_server: Server, proxied: Callable[..., RecordingProxy]) -> None:
    """An independent client signs, puts and reads through the proxy; both servers accept it."""
    proxy = proxied(s3_server)
    store(proxy, "dir/proxied key", b"content" * MIB, Metadata={"a": "b"})
    assert fetch(s3_server, "dir/proxied key") == fetch(proxy, "dir/proxied key") == b"content" * MIB
    described = head(proxy, "dir/proxied key")
    assert described is not None
    assert (described["ContentLength"], described["Metadata"]["a"]) == (7 * MIB, "b")
    assert head(proxy, "absent") is None
    assert [request.op for request in proxy.requests] == ["put", "get", "head", "head"]


def test_counts_a_multipart_upload(s3_server: Server, proxied: Callable[..., RecordingProxy]) -> None:
    """Every step of a multipart upload is counted as itself."""
    proxy, key = proxied(s3_server), "multipart"
    where = {"Bucket": s3_server.bucket, "Key": key}
    with client(proxy) as s3:
        where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
        ours = [upload for upload in list_uploads(proxy) if upload[0] == key]  # other tests use the server too
        assert ours == [(key, where["UploadId"])]
        parts = []
        for number, size in ((1, 5 * MIB), (2, 100)):
            answer = s3.upload_part(**where, PartNumber=number, Body=b"p" * size)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        assert len(s3.list_parts(**where)["Parts"]) == 2
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert fetch(s3_server, key) == b"p" * (5 * MIB + 100)
    assert proxy.completed_parts() == {1: 1, 2: 1}
    assert {proxy.count(op) for op in ("create", "list_uploads", "list_parts", "complete")} == {1}

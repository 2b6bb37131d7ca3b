"""`jettyctl edge` carries parts that others signed, as they are, and notices when they are not."""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from jettyctl.cli.app import run
from jettyctl.files.crc import crc64, to_base64
from tests.support.bodies import noise
from tests.support.edge_process import OK, Canary, EdgeProcess, exchange, part_target, presigned_part, send
from tests.support.running import Jettyctl
from tests.support.servers import Server, client, fetch, free_port

MIB = 1 << 20
PART = 5 * MIB


def sha256(data: bytes) -> str:
    """A Content-Digest of these bytes."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def host(server: Server) -> str:
    """What a request to this server has as its Host."""
    return server.endpoint.removeprefix("http://")


@contextmanager
def upload(server: Server, key: str) -> Iterator[str]:
    """A multipart upload's id; aborted at the end if it is still there."""
    with client(server) as s3:
        upload_id = s3.create_multipart_upload(Bucket=server.bucket, Key=key)["UploadId"]
        yield upload_id


def test_an_upload_goes_through(jettyctl: Jettyctl, s3_server: Server) -> None:
    """Parts that botocore presigned for the store arrive through the edge, and the object is identical."""
    content = noise(2 * PART + 12_345)
    pieces = [content[at : at + PART] for at in range(0, len(content), PART)]
    digests = [sha256(pieces[0]), f"crc64nvme=:{to_base64(crc64(pieces[1]))}:", "md5=:AAAA:"]
    with EdgeProcess(jettyctl, s3_server.endpoint) as edge, upload(s3_server, "through an edge") as upload_id:
        parts = []
        for number, piece in enumerate(pieces, 1):
            target = presigned_part(s3_server, "through an edge", upload_id, number)
            headers = {"Host": host(s3_server), "Content-Digest": digests[number - 1]}
            status, answer, _ = send(edge.port, "PUT", target, piece, headers)
            assert status == 200
            parts.append({"PartNumber": number, "ETag": answer["etag"]})
        with client(s3_server) as s3:
            s3.complete_multipart_upload(
                Bucket=s3_server.bucket, Key="through an edge", UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
    assert fetch(s3_server, "through an edge") == content


def test_the_stores_refusal_comes_back(jettyctl: Jettyctl, rclone: Server) -> None:
    """A signature that the store refuses is the store's 403, not the edge's."""
    with EdgeProcess(jettyctl, rclone.endpoint) as edge:
        status, _, body = send(edge.port, "PUT", part_target(), b"x", {"Host": host(rclone)})
    assert status in (400, 403)
    assert b"Edge" not in body


def test_a_wrong_digest_ends_at_the_edge(jettyctl: Jettyctl, moto: Server) -> None:
    """A part that is not what its Content-Digest says is refused, and the store does not have it."""
    wrong = [
        f"{name}=:{base64.b64encode(bytes(n)).decode()}:" for name, n in (("sha-256", 32), ("sha-512", 64), ("crc64nvme", 8))
    ]
    with EdgeProcess(jettyctl, moto.endpoint) as edge, upload(moto, "wrong") as upload_id:
        target = presigned_part(moto, "wrong", upload_id, 1)
        for content, digest in itertools.product((noise(3 * MIB), b"x", b"\0"), wrong):
            headers = {"Host": host(moto), "Content-Digest": digest}
            status, _, body = send(edge.port, "PUT", target, content, headers)
            assert (status, b"<Code>BadDigest</Code>" in body) == (400, True)
        with client(moto) as s3:
            assert "Parts" not in s3.list_parts(Bucket=moto.bucket, Key="wrong", UploadId=upload_id)


def test_what_goes_on_is_what_came(jettyctl: Jettyctl) -> None:
    """Path, query and end-to-end headers reach the origin unchanged; the connection's own headers do not."""
    target = part_target(key="/b%2Fk//%C3%A4%20ö".replace("ö", "%0A"))
    mine = {"X-Amz-Checksum-crc64nvme": "AAAAAAAAAAA=", "Content-MD5": "x", "User-Agent": "t/1", "Content-Digest": "a=:AA==:"}
    theirs = {"Proxy-Authorization": "Basic c2VjcmV0", "TE": "trailers", "Keep-Alive": "timeout=9", "Expect": "100-continue"}
    with Canary() as origin, EdgeProcess(jettyctl, origin.endpoint) as edge:
        status, answer, _ = send(edge.port, "PUT", target, b"body", {"Host": origin.host, **mine, **theirs})
        assert (status, answer["etag"]) == (200, '"e"')
    head, body = origin.heard.split(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")
    assert start == f"PUT {target} HTTP/1.1"
    expected = {"Host": origin.host, **mine, "Content-Length": "4", "Accept-Encoding": "identity"}
    assert sorted(lines) == sorted(f"{name}: {value}" for name, value in expected.items())
    assert body == b"body"


def test_connections_are_kept(jettyctl: Jettyctl) -> None:
    """Parts that follow each other use one connection on both sides."""
    with Canary() as origin, EdgeProcess(jettyctl, origin.endpoint) as edge:
        request = f"PUT {part_target()} HTTP/1.1\r\nHost: {origin.host}\r\nContent-Length: 3\r\n\r\nabc".encode()
        with socket.create_connection(("127.0.0.1", edge.port), timeout=20) as sock:
            for _ in range(5):
                sock.sendall(request)
                assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert origin.connections == 1


def test_continue_comes_after_the_verdict(jettyctl: Jettyctl) -> None:
    """A client that waits is told to go on only for a request that is carried."""
    with Canary() as origin, EdgeProcess(jettyctl, origin.endpoint) as edge:
        form = "PUT {} HTTP/1.1\r\nHost: {}\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        refused = exchange(edge.port, form.format("/bucket/key", origin.host).encode())
        assert refused.startswith(b"HTTP/1.1 403 ")
        with socket.create_connection(("127.0.0.1", edge.port), timeout=20) as sock:
            sock.sendall(form.format(part_target(), origin.host).encode())
            assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"abc")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_redirects_are_passed_back(jettyctl: Jettyctl) -> None:
    """A redirect is the client's to judge; the edge goes nowhere it was not told to."""
    with Canary() as elsewhere:
        reply = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere.endpoint}/x\r\nContent-Length: 2\r\n\r\nhi".encode()
        with Canary(partial(Canary.answer, reply=reply)) as origin, EdgeProcess(jettyctl, origin.endpoint) as edge:
            status, headers, body = send(edge.port, "PUT", part_target(), b"x", {"Host": origin.host})
        assert (status, headers["location"], body) == (307, f"{elsewhere.endpoint}/x", b"hi")
        assert not elsewhere.connections


def test_an_early_refusal_is_passed_back(jettyctl: Jettyctl) -> None:
    """An origin may refuse a part before it has all of it; the client gets to know why."""

    def refuse(canary: Canary, sock: socket.socket) -> None:
        canary.receive(sock)
        sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ndenied")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 20):
            pass

    with Canary(refuse) as origin, EdgeProcess(jettyctl, origin.endpoint) as edge:
        head = f"PUT {part_target()} HTTP/1.1\r\nHost: {origin.host}\r\nContent-Length: {64 * MIB}\r\n\r\n".encode()
        answer = exchange(edge.port, head + bytes(MIB))
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert answer.endswith(b"denied")


def test_an_early_success_is_a_lie(jettyctl: Jettyctl) -> None:
    """An origin that calls a part good before it has all of it is not believed."""

    def lie(canary: Canary, sock: socket.socket) -> None:
        canary.receive(sock)
        sock.sendall(OK)
        while sock.recv(1 << 20):
            pass

    with Canary(lie) as origin, EdgeProcess(jettyctl, origin.endpoint) as edge:
        head = f"PUT {part_target()} HTTP/1.1\r\nHost: {origin.host}\r\nContent-Length: {64 * MIB}\r\n\r\n".encode()
        assert exchange(edge.port, head + bytes(MIB)).startswith(b"HTTP/1.1 502 ")


def test_an_origin_that_dies(jettyctl: Jettyctl) -> None:
    """An origin that goes away in the middle of a part, or is not there, is a 502 that names the edge."""

    def die(canary: Canary, sock: socket.socket) -> None:
        while len(canary.heard) < MIB:
            canary.receive(sock)

    with Canary(die) as origin:
        nobody = f"http://127.0.0.1:{free_port()}"
        with EdgeProcess(jettyctl, origin.endpoint, nobody) as edge:
            status, _, body = send(edge.port, "PUT", part_target(), bytes(8 * MIB), {"Host": origin.host})
            assert (status, b"<Code>EdgeOriginLost</Code>" in body) == (502, True)
            status, _, body = send(edge.port, "PUT", part_target(), b"x", {"Host": nobody[7:]})
            assert (status, b"<Code>EdgeOriginUnreachable</Code>" in body) == (502, True)


def test_a_slow_origin_slows_the_client(jettyctl: Jettyctl) -> None:
    """256 MiB for a slow origin wait at the client, not in the edge's memory."""
    size = 256 * MIB
    taken = 0

    def slow(canary: Canary, sock: socket.socket) -> None:
        nonlocal taken
        while taken < size:
            taken += len(sock.recv(4 * MIB))
            time.sleep(0.002)
            if taken < size // 16:
                time.sleep(0.05)
        sock.sendall(OK)

    with Canary(slow) as origin, EdgeProcess(jettyctl, origin.endpoint) as edge:
        ahead, sent, block = 0, 0, bytes(MIB)
        with socket.create_connection(("127.0.0.1", edge.port), timeout=60) as sock:
            sock.sendall(f"PUT {part_target()} HTTP/1.1\r\nHost: {origin.host}\r\nContent-Length: {size}\r\n\r\n".encode())
            while sent < size:
                sock.sendall(block)
                sent += MIB
                ahead = max(ahead, sent - taken)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert ahead < 48 * MIB  # what four socket buffers of the kernel hold, and one block of ours
        assert edge.peak_memory() < 80 * MIB


def test_health_and_probe(jettyctl: Jettyctl) -> None:
    """An edge says how it is, counts what it carries, and drops probes."""
    with Canary() as origin, EdgeProcess(jettyctl, origin.endpoint, args=("--max-connections", "7")) as edge:
        assert send(edge.port, "PUT", "/probe", bytes(4 * MIB))[0] == 204
        assert send(edge.port, "PUT", "/probe", bytes(4 * MIB + 1))[0] == 413
        assert send(edge.port, "PUT", part_target(), b"x", {"Host": origin.host})[0] == 200
        status, headers, body = send(edge.port, "GET", "/health")
        health = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (health["status"], health["active"], health["accepted"]) == ("ok", 0, 1)
    assert health["limits"] == {"max_connections": 7, "max_part_size": 5 << 30}
    assert 0 <= health["load"] <= 100
    assert health["version"]


def test_too_many_clients(jettyctl: Jettyctl) -> None:
    """A client beyond the limit is asked to come back, and the next one is served when there is room."""
    with Canary() as origin, EdgeProcess(jettyctl, origin.endpoint, args=("--max-connections", "2")) as edge:
        held = [socket.create_connection(("127.0.0.1", edge.port)) for _ in range(2)]
        time.sleep(0.2)
        status, headers, _ = send(edge.port, "GET", "/health")
        assert (status, headers["retry-after"]) == (503, "1")
        for sock in held:
            sock.close()
        time.sleep(0.2)
        assert send(edge.port, "GET", "/health")[0] == 200


def test_the_access_log(jettyctl: Jettyctl) -> None:
    """One line a request: time, method, path without query, bytes, status, seconds, client."""
    with Canary() as origin, EdgeProcess(jettyctl, origin.endpoint) as edge:
        send(edge.port, "PUT", part_target(signature="5ec2e7" * 12), b"12345", {"Host": origin.host})
        send(edge.port, "POST", "/a?secret=5ec2e7")
        lines = edge.requests(2)
        assert edge.log().startswith(f"listening on http://127.0.0.1:{edge.port} for {origin.endpoint}\n")
    fields = [line.split(" ") for line in lines]
    assert [[*f[1:5], f[6]] for f in fields] == [
        ["PUT", "/bucket/key", "5", "200", "127.0.0.1"],
        ["POST", "/a", "0", "405", "127.0.0.1"],
    ]
    assert "5ec2e7" not in "".join(lines)


def test_quiet(jettyctl: Jettyctl) -> None:
    """`--quiet` leaves out the access log."""
    with Canary() as origin, EdgeProcess(jettyctl, origin.endpoint, args=("--quiet",)) as edge:
        send(edge.port, "GET", "/health")
        assert len(edge.log().splitlines()) == 1


@contextmanager
def half_sent(edge: EdgeProcess, origin: Canary) -> Iterator[Callable[[], bytes]]:
    """A part of which a half is under way; call the value to send the rest and get the reply."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=20) as sock:
        sock.sendall(f"PUT {part_target()} HTTP/1.1\r\nHost: {origin.host}\r\nContent-Length: 6\r\n\r\nabc".encode())
        while not origin.heard.endswith(b"abc"):
            time.sleep(0.01)

        def rest() -> bytes:
            sock.sendall(b"def")
            return sock.recv(65536)

        yield rest


def test_a_stop_lets_parts_end(jettyctl: Jettyctl) -> None:
    """SIGTERM: nobody new is accepted, the part in flight gets its reply, the exit status is 0."""
    with Canary() as origin, EdgeProcess(jettyctl, origin.endpoint) as edge, half_sent(edge, origin) as rest:
        idle = socket.create_connection(("127.0.0.1", edge.port))
        edge.process.send_signal(signal.SIGTERM)
        idle.settimeout(5)
        assert idle.recv(1) == b""
        idle.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", edge.port))
        answer = rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in answer
        assert edge.process.wait(5) == 0


def test_a_second_signal_ends_at_once(jettyctl: Jettyctl) -> None:
    """Two interrupts: the part in flight is cut, and the origin does not have it whole."""
    with Canary() as origin, EdgeProcess(jettyctl, origin.endpoint) as edge, half_sent(edge, origin):
        edge.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert edge.process.poll() is None
        edge.process.send_signal(signal.SIGINT)
        assert edge.process.wait(3) == 0
    assert origin.heard.endswith(b"abc")


def test_a_client_that_goes_away(jettyctl: Jettyctl) -> None:
    """The part of a client that vanished never becomes whole at the origin."""
    ended = threading.Event()

    def watch(canary: Canary, sock: socket.socket) -> None:
        try:
            while canary.receive(sock):
                pass
        finally:
            ended.set()

    with Canary(watch) as origin, EdgeProcess(jettyctl, origin.endpoint) as edge:
        with half_sent(edge, origin):
            pass
        assert ended.wait(5)
        assert origin.heard.endswith(b"abc")
        assert " 3 499 " in edge.requests(1)[0]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    files = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=edge",
               "-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return files


def test_tls_on_both_sides(jettyctl: Jettyctl, certificate: tuple[str, str]) -> None:
    """Clients speak TLS with the edge, the edge with the origin, and it checks the origin's certificate."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*certificate)
    flags = ("--tls-cert", certificate[0], "--tls-key", certificate[1])
    trusting = ssl.create_default_context(cafile=certificate[0])
    body = noise(3 * MIB)
    with Canary(wrap=lambda raw: server.wrap_socket(raw, server_side=True)) as origin:
        url = f"https://{origin.host}"
        headers = {"Host": origin.host, "Content-Digest": sha256(body)}
        for trusted, expected in (({"SSL_CERT_FILE": certificate[0]}, 200), ({}, 502)):
            with EdgeProcess(jettyctl, url, args=flags, env=trusted) as edge:
                secure = http.client.HTTPSConnection("127.0.0.1", edge.port, context=trusting, timeout=20)
                assert send(0, "PUT", part_target(), body, headers, connection=secure)[0] == expected
    assert origin.heard.endswith(body)


WRONG_FLAGS = [
    "",
    "--origin s3.example.com",
    "--origin https://user:password@s3.example.com",
    "--origin https://a.example --listen nowhere",
    "--origin https://a.example --tls-cert x",
    "--origin https://a.example --tls-cert missing --tls-key missing",
    "--origin https://a.example --max-part-size big",
    "--origin https://a.example --max-connections 0",
]


@pytest.mark.parametrize("flags", WRONG_FLAGS)
def test_wrong_flags(capfd: pytest.CaptureFixture[str], flags: str) -> None:
    """What cannot be is refused before anything listens, with one line that says what to do."""
    assert run(["edge", *flags.split()]) == 2
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1
    assert "password" not in said

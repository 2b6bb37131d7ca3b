"""Requests that a proxy in front may read differently: each gets one reply, or a 400 and an end, and never two.

Every vector hides a request for /metrics where some server has found one. It must not be answered.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.plane import PlaneProcess, lines_of, new_key

pytestmark = pytest.mark.slow  # they are many, and none is quick

WAIT = 1.0  # seconds without a byte until nothing more is expected
HIDDEN = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHECK = b"/api/jetty/check-duplicate"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(HIDDEN)
ZERO = b"0\r\n\r\n"


def post(head: bytes, body: bytes, *, line: bytes = b"POST %s HTTP/1.1" % CHECK) -> bytes:
    """A request with these header lines."""
    return line + b"\r\nHost: localhost\r\nContent-Type: application/json\r\n" + head + b"\r\n" + body


BOTH = ZERO + HIDDEN
VECTORS: dict[str, bytes | tuple[bytes, ...]] = {
    "CL.TE": post(LENGTH + CHUNKED, BOTH),
    "TE.CL": post(CHUNKED + b"Content-Length: 4\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "CL and TE of 0": post(b"Content-Length: 0\r\n" + CHUNKED, BOTH),
    "two CL": post(b"Content-Length: 0\r\n" + LENGTH, HIDDEN),
    "two CL, reversed": post(LENGTH + b"Content-Length: 0\r\n", HIDDEN),
    "CL list": post(b"Content-Length: 0, %d\r\n" % len(HIDDEN), HIDDEN),
    "CL with plus": post(b"Content-Length: +%d\r\n" % len(HIDDEN), HIDDEN),
    "CL negative": post(b"Content-Length: -1\r\n", HIDDEN),
    "CL hex": post(b"Content-Length: 0x%x\r\n" % len(HIDDEN), HIDDEN),
    "CL empty": post(b"Content-Length:\r\n", HIDDEN),
    "CL with a space inside": post(b"Content-Length: 0 %d\r\n" % len(HIDDEN), HIDDEN),
    "CL overflow": post(b"Content-Length: 18446744073709551616\r\n", HIDDEN),
    "CL without end": post(b"Content-Length: " + b"9" * 5000 + b"\r\n", HIDDEN),
    "CL with other digits": post("Content-Length: ٤٢\r\n".encode(), HIDDEN),
    "space before colon": post(b"Content-Length : 0\r\n" + LENGTH, HIDDEN),
    "space before colon of TE": post(LENGTH + b"Transfer-Encoding : chunked\r\n", BOTH),
    "tab before colon": post(LENGTH + b"Transfer-Encoding\t: chunked\r\n", BOTH),
    "vertical tab": post(LENGTH + b"Transfer-Encoding:\x0bchunked\r\n", BOTH),
    "TE quoted": post(LENGTH + b'Transfer-Encoding: "chunked"\r\n', BOTH),
    "TE xchunked": post(b"Transfer-Encoding: xchunked\r\n", BOTH),
    "TE identity": post(LENGTH + b"Transfer-Encoding: identity\r\n", HIDDEN),
    "TE chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n", BOTH),
    "TE gzip, chunked": post(LENGTH + b"Transfer-Encoding: gzip, chunked\r\n", BOTH),
    "TE twice": post(b"Transfer-Encoding: identity\r\n" + CHUNKED + LENGTH, BOTH),
    "TE with NUL": post(LENGTH + b"Transfer-Encoding: chunked\x00\r\n", BOTH),
    "TE folded": post(LENGTH + b"Transfer-Encoding:\r\n chunked\r\n", BOTH),
    "folded header": post(b"X: a\r\n Content-Length: %d\r\n" % len(HIDDEN) + b"Content-Length: 0\r\n", HIDDEN),
    "bare LF": post(b"X: a\nContent-Length: %d\r\n" % len(HIDDEN), HIDDEN),
    "bare LF everywhere": (b"POST %s HTTP/1.1\nHost: localhost\n%s\n" % (CHECK, LENGTH.strip() + b"\n")) + HIDDEN,
    "bare CR": post(b"X: a\rContent-Length: %d\r\n" % len(HIDDEN), HIDDEN),
    "CR CR LF": post(LENGTH.strip() + b"\r\r\n", HIDDEN),
    "header without colon": post(b"Nothing\r\n" + LENGTH, HIDDEN),
    "header without name": post(b": x\r\n" + LENGTH, HIDDEN),
    "chunk size 0x": post(CHUNKED, b"0x0\r\n\r\n" + HIDDEN),
    "chunk size with sign": post(CHUNKED, b"+0\r\n\r\n" + HIDDEN),
    "chunk size with space": post(CHUNKED, b" 0\r\n\r\n" + HIDDEN),
    "chunk size negative": post(CHUNKED, b"-1\r\n\r\n" + HIDDEN),
    "chunk size overflow": post(CHUNKED, b"10000000000000000\r\n" + HIDDEN),
    "chunk ended by LF": post(CHUNKED, b"0\n\n" + HIDDEN),
    "chunk longer than said": post(CHUNKED, b"1\r\n{}\r\n0\r\n\r\n" + HIDDEN),
    "LF in an extension": post(CHUNKED, b"2;x\n%s\r\n{}\r\n" % HIDDEN + ZERO),
    "HTTP/1.0 with TE": post(CHUNKED, BOTH, line=b"POST %s HTTP/1.0" % CHECK),
    "HTTP/0.9": b"GET /health\r\n" + HIDDEN,
    "HTTP/1.2": post(LENGTH, HIDDEN, line=b"POST %s HTTP/1.2" % CHECK),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "GET with a body": post(LENGTH, HIDDEN, line=b"GET /health HTTP/1.1"),
    "HEAD with a body": post(LENGTH, HIDDEN, line=b"HEAD /health HTTP/1.1"),
    "unread body": post(LENGTH, HIDDEN, line=b"PUT /api/jetty/blobs/x HTTP/1.1"),
    "body of nobody": post(LENGTH, HIDDEN, line=b"POST /nothing HTTP/1.1"),
    "refused by its Host": b"POST / HTTP/1.1\r\nHost: evil.example\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "CONNECT": post(LENGTH, HIDDEN, line=b"CONNECT localhost:1 HTTP/1.1"),
    "CONNECT in two": (post(LENGTH, b"", line=b"CONNECT localhost:1 HTTP/1.1"), HIDDEN),
    "upgrade": post(LENGTH + b"Upgrade: h2c\r\nConnection: Upgrade\r\n", HIDDEN),
    "upgrade in two": (post(LENGTH + b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b""), HIDDEN),
    "websocket": post(LENGTH + b"Upgrade: websocket\r\nConnection: Upgrade\r\n", HIDDEN, line=b"GET /health HTTP/1.1"),
    "websocket in two": (
        post(LENGTH + b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"", line=b"GET /health HTTP/1.1"),
        HIDDEN,
    ),
    "upgrade, chunked, in two": (
        post(CHUNKED + b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b""),
        b"%x\r\n" % len(HIDDEN),
        HIDDEN,
        b"\r\n0\r\n\r\n",
    ),
    "expect": post(b"Expect: 100-continue\r\n" + LENGTH, HIDDEN),
    "space in the path": post(LENGTH, HIDDEN, line=b"POST /a HTTP/1.1\x20HTTP/1.1"),
    "no path": post(LENGTH, HIDDEN, line=b"POST  HTTP/1.1"),
    "star": post(LENGTH, HIDDEN, line=b"OPTIONS * HTTP/1.1"),
    "absolute path": post(LENGTH, HIDDEN, line=b"POST http://evil.example/health HTTP/1.1"),
    "two Hosts": post(b"Host: evil.example\r\n" + LENGTH, HIDDEN),
    "no Host": b"GET /health HTTP/1.1\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "Host with a path": b"GET / HTTP/1.1\r\nHost: localhost/evil\r\n" + LENGTH + b"\r\n" + HIDDEN,
    "Host with credentials": b"GET / HTTP/1.1\r\nHost: localhost@evil.example\r\n" + LENGTH + b"\r\n" + HIDDEN,
}


def replies(plane: PlaneProcess, vector: bytes | tuple[bytes, ...]) -> tuple[list[int], bool]:
    """Statuses of the final replies, and whether the service ended the connection."""
    received, ended = b"", True
    with socket.create_connection(("127.0.0.1", plane.port), timeout=WAIT) as connection:
        try:
            for packet in (vector,) if isinstance(vector, bytes) else vector:
                connection.sendall(packet)
                time.sleep(0.1)
            while piece := connection.recv(65536):
                received += piece
        except TimeoutError:
            ended = False
        except OSError:
            pass
    statuses = [int(piece[:3]) for piece in received.split(b"HTTP/1.1 ")[1:]]
    return [status for status in statuses if status >= 200], ended


def test_no_request_hides_in_another(plane: PlaneProcess, client: httpx.Client) -> None:
    """Whatever the framing: at most one reply, what cannot be read ends its connection, and nothing hidden is answered."""
    before = len(lines_of(plane.log))
    with ThreadPoolExecutor(24) as pool:
        seen = dict(zip(VECTORS, pool.map(lambda vector: replies(plane, vector), VECTORS.values()), strict=True))
    bad = {name: told for name, told in seen.items() if len(told[0]) > 1 or any(status >= 500 for status in told[0])}
    assert not bad
    answered = [line["route"] for line in lines_of(plane.log)[before:] if "route" in line]
    assert "/metrics" not in answered
    assert client.get("/health").status_code == 200


REFUSED = [
    *("CL.TE", "TE.CL", "CL and TE of 0", "two CL", "two CL, reversed", "CL list", "CL with plus", "CL negative", "CL hex"),
    *("CL with a space inside", "CL overflow", "CL without end", "CL with other digits", "space before colon"),
    *("space before colon of TE", "tab before colon", "TE xchunked", "TE identity", "TE chunked, identity", "TE with NUL"),
    *("chunk size 0x", "chunk size with sign", "chunk size negative", "chunk size overflow", "header without name"),
    *("no path", "HTTP/2 preface", "bare CR", "bare LF", "bare LF everywhere", "TE folded", "folded header"),
]


def test_doubtful_framing_is_a_400_and_an_end(plane: PlaneProcess) -> None:
    """What two servers could read as different requests is refused, and its connection closed."""
    with ThreadPoolExecutor(24) as pool:
        seen = dict(zip(REFUSED, pool.map(lambda name: replies(plane, VECTORS[name]), REFUSED), strict=True))
    assert {name: told for name, told in seen.items() if told != ([400], True)} == {}


@pytest.mark.parametrize("good", [b"{}", b'{"userId": "usr_1", "fileHash": "x"}'])
def test_two_requests_that_are_two(plane: PlaneProcess, good: bytes) -> None:
    """Requests that follow each other on a connection are both answered: the tests above would see one that is hidden."""
    key = new_key(plane.settings.database_url)[1].encode()
    head = b"Authorization: Bearer %s\r\nContent-Length: %d\r\n" % (key, len(good))
    statuses, _ = replies(plane, post(head, good) + HIDDEN)
    assert statuses in ([400, 200], [200, 200])

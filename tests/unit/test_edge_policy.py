"""What an edge carries and what it refuses, as a truth table over heads."""

from __future__ import annotations

import base64
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jettyctl.errors import UsageError
from jettyctl.server.edge.digest import Checks, parse_digests
from jettyctl.server.edge.heads import MAX_HEADERS, MAX_TARGET, parse
from jettyctl.server.edge.log import Entry
from jettyctl.server.edge.policy import Limits, Pace, Part, decide, parse_origins
from jettyctl.server.edge.replies import Refused

SIGNED = f"X-Amz-Signature={'0123456789abcdef' * 4}"
GOOD = f"/b/k?partNumber=1&uploadId=u&{SIGNED}"
AUTHORIZATION = f"Authorization: AWS4-HMAC-SHA256 Credential=A/b, SignedHeaders=host, Signature={'a' * 64}"
ORIGINS = parse_origins(["https://s3.example.com", "http://127.0.0.1:9000", "http://[::1]:9000"])


def judge(target: str = GOOD, *lines: str, method: str = "PUT", host: str = "s3.example.com", length: str = "5") -> object:
    """What the policy says: `part`, `probe`, `health`, or the status of the refusal."""
    fields = [f"Host: {host}"] if host else []
    fields += [f"Content-Length: {length}"] if length else []
    raw = "\r\n".join([f"{method} {target} HTTP/1.1", *fields, *lines, "", ""]).encode("latin-1")
    try:
        return type(decide(parse(raw), ORIGINS, Limits(max_part_size=100))).__name__.lower()
    except Refused as refused:
        return refused.reply.status


@pytest.mark.parametrize(
    ("expected", "target"),
    [
        ("part", GOOD),
        ("part", f"/k?uploadId=u&{SIGNED}&partNumber=10000&x-id=UploadPart"),
        ("part", f"/b/k%0A%C3%A4//k?partNumber=1&uploadId=u%2B/=&X-Amz-SignedHeaders=host&{SIGNED}"),
        ("part", f"/probe?partNumber=1&uploadId=u&{SIGNED}"),  # an object may have that name
        ("part", f"/b/..k/k..?partNumber=1&uploadId=u&{SIGNED}"),
        ("probe", "/probe"),
        (403, "/probe?"),
        (403, "/b/k"),
        (403, f"/?partNumber=1&uploadId=u&{SIGNED}"),
        (403, "/b/k?partNumber=1&uploadId=u"),
        (403, "/b/k?partNumber=1&uploadId=u&X-Amz-Signature=short"),
        (403, "/b/k?partNumber=1&uploadId=u&X-Amz-Signature="),
        (403, f"/b/k?partNumber=1&uploadId=u&Signature={'a' * 64}"),
        (403, f"/b/k?partNumber=0&uploadId=u&{SIGNED}"),
        (403, f"/b/k?partNumber=10001&uploadId=u&{SIGNED}"),
        (403, f"/b/k?partNumber=-1&uploadId=u&{SIGNED}"),
        (403, f"/b/k?partNumber=%D9%A1&uploadId=u&{SIGNED}"),  # a digit, not an ASCII one
        (403, f"/b/k?partNumber=1&uploadId=&{SIGNED}"),
        (403, f"/b/k?partNumber=1&{SIGNED}"),
        (403, f"/b/k?uploadId=u&{SIGNED}"),
        (403, f"/b/k?acl&partNumber=1&uploadId=u&{SIGNED}"),
        (403, f"/b/k?PARTNUMBER=1&uploadId=u&{SIGNED}"),
        (403, f"/b/k?partNumber=1&uploadId=u&{SIGNED}&x-amz-copy-source=/b/other"),
        (400, f"/b/k?partNumber=1&partNumber=2&uploadId=u&{SIGNED}"),
        (400, f"/b/k?partNumber=1&part%4Eumber=2&uploadId=u&{SIGNED}"),
        (400, f"/b/k?partNumber=1&PARTNUMBER=2&uploadId=u&{SIGNED}"),
        (400, f"/b/k?partNumber=1&uploadId=u&uploadId=u&{SIGNED}"),
        (400, f"/b/k?partNumber=1&uploadId=u&{SIGNED}&{SIGNED}"),
        (400, f"/b/k?partNumber=1;uploadId=u&{SIGNED}"),
        (400, f"/b/k?partNumber=1&uploadId=u%&{SIGNED}"),
        (400, f"/b/../k?partNumber=1&uploadId=u&{SIGNED}"),
        (400, f"/b/%2e%2E/k?partNumber=1&uploadId=u&{SIGNED}"),
        (400, f"/b/..%2fk?partNumber=1&uploadId=u&{SIGNED}"),
        (400, f"/b/..%5ck?partNumber=1&uploadId=u&{SIGNED}"),
        (400, f"/b/./k?partNumber=1&uploadId=u&{SIGNED}"),
        (400, f"/b/k%00?partNumber=1&uploadId=u&{SIGNED}"),
        (400, f"/b/k%zz?partNumber=1&uploadId=u&{SIGNED}"),
        (400, f"/b\\k?partNumber=1&uploadId=u&{SIGNED}"),
        (400, f"/b/k#f?partNumber=1&uploadId=u&{SIGNED}"),
        (400, f"http://s3.example.com{GOOD}"),
        (400, "*"),
        (400, "s3.example.com:443"),
        (414, f"/{'k' * MAX_TARGET}?partNumber=1&uploadId=u&{SIGNED}"),
    ],
)
def test_targets(expected: object, target: str) -> None:
    """Only an object's path with the parameters of a signed UploadPart, each once, is a part."""
    assert judge(target) == expected


@pytest.mark.parametrize(
    ("expected", "lines"),
    [
        ("part", ["Connection: keep-alive", "Expect: 100-continue", "x-amz-checksum-crc64nvme: AAAAAAAAAAA="]),
        ("part", ["Empty:", "Content-Digest: unknown=:AA==:"]),
        (400, ["Host: s3.example.com"]),
        (400, ["Content-Length: 5"]),
        (400, ["Transfer-Encoding: chunked"]),
        (400, ["Transfer-Encoding:"]),
        (400, ["Connection: upgrade", "Upgrade: h2c"]),
        (400, ["Upgrade: websocket"]),
        (400, ["Connection: close, host"]),
        (400, ["Content_Length: 9"]),
        (400, ["Name : value"]),
        (400, [" folded"]),
        (400, ["X: a", "\tb"]),
        (400, ["X: a\rb"]),
        (400, ["X: a\0b"]),
        (400, ["X: \x7f"]),
        (400, [": nameless"]),
        (400, ["no colon"]),
        (400, ["X-HTTP-Method-Override: DELETE"]),
        (400, ["X-Original-URL: /admin"]),
        (400, [AUTHORIZATION]),
        (400, ["Content-Digest: sha-256=:AA==:"]),
        (400, ["Content-Digest: nonsense"]),
        (403, ["x-amz-copy-source: /b/other"]),
        (417, ["Expect: the unexpected"]),
        (431, [f"X-{n}: 1" for n in range(MAX_HEADERS)]),
    ],
)
def test_headers(expected: object, lines: list[str]) -> None:
    """Headers that some server could read in another way are refused."""
    assert judge(GOOD, *lines) == expected


@pytest.mark.parametrize(
    ("expected", "host"),
    [
        ("part", "S3.Example.COM"),
        ("part", "s3.example.com:443"),
        ("part", "127.0.0.1:9000"),
        ("part", "[::1]:9000"),
        (403, "s3.example.com:80"),
        (403, "127.0.0.1"),
        (403, "s3.example.com."),
        (403, "s3.example.com@evil.example"),
        (403, "evil.s3.example.com"),
        (403, "169.254.169.254"),
        (400, ""),
    ],
)
def test_hosts(expected: object, host: str) -> None:
    """The Host must be one of the origins, in one of its spellings."""
    assert judge(host=host) == expected


@pytest.mark.parametrize(
    ("expected", "method", "target", "length"),
    [
        ("health", "GET", "/health", ""),
        ("health", "GET", "/health", "0"),
        (405, "GET", "/health", "1"),
        (405, "GET", "/health?x", ""),
        (403, "PUT", "/health", "1"),
        (405, "GET", GOOD, ""),
        *((405, method, GOOD, "") for method in ("POST", "DELETE", "HEAD", "OPTIONS", "TRACE", "put", "PROPFIND")),
        (405, "CONNECT", "/b", ""),
        (411, "PUT", GOOD, ""),
        ("part", "PUT", GOOD, "0"),
        ("part", "PUT", GOOD, "100"),
        (413, "PUT", GOOD, "101"),
        (413, "PUT", "/probe", str((4 << 20) + 1)),
        *((400, "PUT", GOOD, bad) for bad in ("-1", "+5", "5,5", "0x5", "5 5", "\xd9\xa5", "9" * 19)),
    ],
)
def test_methods_and_lengths(expected: object, method: str, target: str, length: str) -> None:
    """Parts come by PUT with a length within the limit."""
    assert judge(target, method=method, length=length) == expected


def test_transfer_encoding_alone() -> None:
    """A chunked body without a length is asked for its length."""
    assert judge(GOOD, "Transfer-Encoding: chunked", length="") == 411


@pytest.mark.parametrize("signature", ["a" * 64, "short", ""])
def test_a_signature_in_the_header(signature: str) -> None:
    """An Authorization header of version 4 is as good as a presigned query."""
    line = f"Authorization: AWS4-HMAC-SHA256 Credential=A/b, SignedHeaders=host, Signature={signature}"
    assert judge("/b/k?partNumber=1&uploadId=u", line) == ("part" if len(signature) == 64 else 403)
    assert judge("/b/k?partNumber=1&uploadId=u", "Authorization: Bearer x") == 403


@pytest.mark.parametrize(
    "start", ["PUT  / HTTP/1.1", "PUT /", "/ HTTP/1.1", "PUT / HTTP/1.1 ", "P:T / HTTP/1.1", " PUT / HTTP/1.1", ""]
)
def test_request_lines(start: str) -> None:
    """A request line has three words with one space in between."""
    with pytest.raises(Refused) as caught:
        parse(f"{start}\r\nHost: a\r\n\r\n".encode())
    assert caught.value.reply.status == 400


@pytest.mark.parametrize("version", ["1.0", "2.0", "0.9"])
def test_versions(version: str) -> None:
    """Only HTTP/1.1 is spoken."""
    with pytest.raises(Refused) as caught:
        parse(f"PUT / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    assert caught.value.reply.status == 505


def test_what_goes_on() -> None:
    """A part knows its origin and keeps its target and end-to-end headers exactly, in their order."""
    lines = [b"HOST: s3.example.com", b"content-length: 5", b"TE: x", b"Proxy-Authorization: y", b"X-A:  \tb c\xe4 "]
    request = decide(parse(b"PUT %s HTTP/1.1\r\n" % GOOD.encode() + b"\r\n".join(lines) + b"\r\n\r\n"), ORIGINS, Limits())
    assert isinstance(request, Part)
    assert (request.origin.url, request.target, request.length) == ("https://s3.example.com", GOOD, 5)
    assert request.headers == ((b"HOST", b"s3.example.com"), (b"content-length", b"5"), (b"X-A", b"b c\xe4"))
    assert not request.expects


@given(st.binary(max_size=300))
def test_anything_else_is_refused(raw: bytes) -> None:
    """Bytes that are no head raise nothing but Refused."""
    with pytest.raises(Refused):
        parse(b"PUT " + raw)


@pytest.mark.parametrize(
    "urls",
    [
        ["s3.example.com"],
        ["ftp://s3.example.com"],
        ["https://user:secret@s3.example.com"],
        ["https://s3.example.com/path"],
        ["https://s3.example.com?query"],
        ["https://s3.example.com#f"],
        ["https://"],
        ["https://a b"],
        ["https://a:b"],
        ["https://[::1"],
        ["https://a.example", "http://a.example"],
    ],
)
def test_wrong_origins(urls: list[str]) -> None:
    """An origin is a scheme and a host, and no two share a Host."""
    with pytest.raises(UsageError) as caught:
        parse_origins(urls)
    assert "secret" not in str(caught.value)


def test_origins_may_share_nothing_but_a_name() -> None:
    """The same origin twice is one; other ports are other origins."""
    found = parse_origins(["https://a.example", "https://A.example:443/", "https://a.example:8443"])
    assert sorted(found) == ["a.example", "a.example:443", "a.example:8443"]
    assert len(set(found.values())) == 2


@pytest.mark.parametrize("text", ["sha-256=:####:", "sha-256=:AAA:", "sha-256=AA==", "SHA-256=:AA==:", ",", "sha-512=:AA==:, x"])
def test_malformed_digests(text: str) -> None:
    """What is not a Content-Digest is refused rather than ignored."""
    with pytest.raises(Refused, match="InvalidDigest"):
        parse_digests([text.encode()])


def test_digests_of_two_headers() -> None:
    """Several headers are one list, in which an algorithm comes once and unknown ones are passed over."""
    eight, whole = base64.b64encode(bytes(8)), base64.b64encode(bytes(32))
    assert parse_digests([b"crc64nvme=:%s:" % eight, b"md5=:AA==: ,  sha-256=:%s:" % whole]) == {
        "crc64nvme": bytes(8),
        "sha-256": bytes(32),
    }
    with pytest.raises(Refused):
        parse_digests([b"crc64nvme=:%s:" % eight, b"crc64nvme=:%s:" % eight])


def test_every_digest_must_be_right() -> None:
    """One wrong digest among right ones is a wrong body."""
    right = base64.b64decode("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")  # the SHA-256 of nothing
    Checks({"sha-256": right, "crc64nvme": bytes(8)}).verify()
    with pytest.raises(Refused, match="BadDigest"):
        Checks({"sha-256": right, "crc64nvme": bytes(7) + b"\1"}).verify()


def test_pace() -> None:
    """A full window below the least rate is too slow; time that is not spent waiting does not count."""
    pace = Pace(Limits(min_rate=10, window=2))
    assert not pace.too_slow(1, 1.9)
    assert pace.too_slow(1, 0.1)
    assert not pace.too_slow(1000, 60)
    assert not pace.too_slow(0, 1.9)


def test_a_line_of_the_log() -> None:
    """A line has seven words whatever the path is."""
    entry = Entry("::1", "PUT", "/a b\x1b[2J\u202e" + "x" * 5000, 5, 200, 1.23456)
    line = entry.line(datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, datetime.UTC))
    assert line.startswith("2026-01-02T03:04:05.678Z PUT /a%20b\\x1b[2J\\u202exxx")
    assert line.endswith("x 5 200 1.235 ::1")
    assert len(line) < 1200

"""What replies of S3 servers are taken for: a table of failures, and nonsense of all kinds."""

from __future__ import annotations

import contextlib
import email.utils
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jettyctl.core.model import Receipt
from jettyctl.errors import (
    AccessError,
    AlreadyExists,
    ClockSkewed,
    CorruptedInTransit,
    JettyError,
    NetworkError,
    NoSuchBucket,
    ServerFault,
    StoreError,
    Throttled,
    UploadGone,
)
from jettyctl.net.http import Reply
from jettyctl.storage.s3 import wire


def failed(status: int, code: str = "", message: str = "Said.", **headers: str) -> Reply:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode() if code else b""
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


TABLE: list[tuple[Reply, type[JettyError], bool]] = [
    (failed(503, "SlowDown"), Throttled, True),
    (failed(503), Throttled, True),
    (failed(503, "ServiceUnavailable"), Throttled, True),
    (failed(429), Throttled, True),
    (failed(400, "RequestLimitExceeded"), Throttled, True),
    (failed(200, "SlowDown"), Throttled, True),
    (failed(500, "InternalError"), ServerFault, True),
    (failed(502), ServerFault, True),
    (failed(504), ServerFault, True),
    (failed(501, "NotImplemented"), StoreError, False),
    (failed(400, "RequestTimeout"), NetworkError, True),
    (failed(408), NetworkError, True),
    (failed(409, "OperationAborted"), NetworkError, True),
    (failed(409, "ConditionalRequestConflict"), NetworkError, True),
    (failed(400, "BadDigest"), CorruptedInTransit, True),
    (failed(400, "XAmzContentSHA256Mismatch"), CorruptedInTransit, True),
    (failed(404, "NoSuchUpload"), UploadGone, False),
    (failed(404, "NoSuchBucket"), NoSuchBucket, False),
    (failed(404, "NoSuchKey"), StoreError, False),
    (failed(404), StoreError, False),
    (failed(412, "PreconditionFailed"), AlreadyExists, False),
    (failed(412), AlreadyExists, False),
    (failed(401), AccessError, False),
    (failed(403), AccessError, False),
    (failed(403, "AccessDenied"), AccessError, False),
    (failed(403, "SignatureDoesNotMatch"), AccessError, False),
    (failed(403, "InvalidAccessKeyId"), AccessError, False),
    (failed(403, "RequestTimeTooSkewed"), ClockSkewed, True),
    (failed(400, "ExpiredToken"), AccessError, False),
    (failed(301, "PermanentRedirect"), StoreError, False),
    (failed(307), StoreError, False),
    (failed(304), StoreError, False),
    (failed(400, "EntityTooSmall"), StoreError, False),
    (failed(413), StoreError, False),
    (failed(199), ServerFault, True),
]


@pytest.mark.parametrize(("reply", "expected", "retryable"), TABLE)
def test_failures(reply: Reply, expected: type[JettyError], retryable: bool) -> None:
    """Each failure is the error that says what to do about it, and names what the store said."""
    error = wire.error_of(reply, "storing key")
    assert type(error) is expected
    assert error.retryable is retryable
    assert error.message.startswith("storing key: ")
    assert (wire.fault_of(reply).code or str(reply.status)) in error.message


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"])
def test_expired_credentials(code: str) -> None:
    """Expired credentials are told from wrong ones: new ones may help."""
    for error in (wire.error_of(failed(400, code), ""), wire.error_of(failed(403, x_amz_error_code=code), "")):
        assert isinstance(error, AccessError)
        assert error.expired
    denied = wire.error_of(failed(403, "AccessDenied"), "")
    assert isinstance(denied, AccessError)
    assert not denied.expired


def test_replies_without_a_body() -> None:
    """HEAD has no body: a header, else the status, says what happened."""
    assert isinstance(wire.error_of(failed(400, x_amz_error_code="ExpiredToken"), ""), AccessError)
    assert isinstance(wire.error_of(failed(404, x_amz_error_code="NoSuchBucket"), ""), NoSuchBucket)
    assert isinstance(wire.error_of(failed(403), ""), AccessError)
    assert wire.error_of(failed(403, x_amz_error_code="X", x_amz_error_message="Because."), "").message == "X Because."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("\u00b2", None),  # a digit to str.isdigit, but no number
        ("Mon", None),
        ("Mon, 99 Foo 2024 99:99:99 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00", 0.0),
        ("9" * 500, float("inf")),
    ],
)
def test_retry_after(text: str, expected: float | None) -> None:
    """Retry-After is a number of seconds or a date; anything else is no wish."""
    error = wire.error_of(failed(503, "SlowDown", retry_after=text), "")
    assert isinstance(error, NetworkError)
    assert error.retry_after == expected


def test_retry_after_a_date() -> None:
    """A date in the future is waited for."""
    for status in (503, 500, 408):
        error = wire.error_of(failed(status, retry_after=email.utils.formatdate(time.time() + 100, usegmt=True)), "")
        assert isinstance(error, NetworkError)
        assert error.retry_after is not None
        assert 97 < error.retry_after <= 100


def test_messages_are_one_short_line() -> None:
    """Whatever a server says fits on one line."""
    error = wire.error_of(failed(400, "Odd", "a\nb\r\n" + "c" * 9000), "storing")
    assert "\n" not in error.message
    assert len(error.message) < 400


BOMB = '<!DOCTYPE r [<!ENTITY a "boom">]><Result><Key>&a;</Key></Result>'
NO_REPLIES = [
    b"",
    b" ",
    b"<html><body>Please log in</body></html>",
    b"<!DOCTYPE html><html></html>",
    b'{"ok": true}',
    b"<Result>",
    b"<Result><Key>x</Key>",
    b"<Result></Result><Result></Result>",
    b"<Other/>",
    b"\xff\xfe\x00",
    b'<?xml version="1.0" encoding="nonsense"?><Result/>',
    b'<?xml version="1.0" encoding="utf-32"?><Result/>',
    b'<?xml version="1.0" encoding="cp932"?><Result/>',
    BOMB.encode(),
    b"<!-- " + b"x" * 5000 + b" -->" + BOMB.encode(),
    BOMB.encode("utf-16"),
    BOMB.encode("utf-16-le"),
    BOMB.encode("utf-16-be"),
    b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><Result/>',
    b"<a>" * 200_000,
]


@pytest.mark.parametrize("body", NO_REPLIES, ids=range(len(NO_REPLIES)))
@pytest.mark.parametrize("read", [lambda r: wire.root_of(r, "Result"), wire.upload_id_of], ids=["root", "upload"])
def test_no_reply_is_no_success(read: Callable[[Reply], object], body: bytes) -> None:
    """A page, a truncated reply, and anything with a DOCTYPE or entities is never taken for an answer."""
    with pytest.raises(ServerFault) as raised:
        read(Reply(200, {}, body))
    assert raised.value.retryable


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_no_redirect_is_a_success(status: int) -> None:
    """A redirect is an error, though it may have all that a success has: clients have taken one for an object that was stored."""
    with pytest.raises(StoreError, match="served elsewhere"):
        wire.must(Reply(status, {"etag": '"0123"'}, b""), "storing", "key")


def test_error_after_the_status_line() -> None:
    """A 200 whose body is an error is that error."""
    with pytest.raises(ServerFault, match="InternalError"):
        wire.root_of(failed(200, "InternalError"), "Result")
    with pytest.raises(UploadGone):
        wire.root_of(failed(200, "NoSuchUpload"), "Result")
    with pytest.raises(AccessError):
        wire.root_of(failed(200, "AccessDenied"), "Result")
    with pytest.raises(AlreadyExists):
        wire.root_of(failed(200, "PreconditionFailed"), "Result")


def test_missing_fields() -> None:
    """A reply without what it is asked for is a server's fault."""
    root = wire.root_of(Reply(200, {}, b"<R><Part><PartNumber>x</PartNumber><Size>1</Size></Part></R>"), "R")
    with pytest.raises(ServerFault):
        wire.text_of(root, "UploadId")
    with pytest.raises(ServerFault):
        wire.part_of(next(wire.children(root, "Part")))
    for body in (
        b"<InitiateMultipartUploadResult/>",
        b"<InitiateMultipartUploadResult><UploadId/></InitiateMultipartUploadResult>",
    ):
        with pytest.raises(ServerFault):
            wire.upload_id_of(Reply(200, {}, body))


@pytest.mark.parametrize(
    ("listed", "asked", "expected"),
    [
        ("<ChecksumCRC64NVME>AAAAAAAAAAE=</ChecksumCRC64NVME>", True, 1),
        ("<ChecksumCRC64NVME>AAAAAAAAAAE=</ChecksumCRC64NVME>", False, None),  # where it is an echo
        ("<ChecksumCRC64NVME>AAAAAAAAAAE=-2</ChecksumCRC64NVME>", True, None),
        ("<ChecksumCRC64NVME>?</ChecksumCRC64NVME>", True, None),
        ("<ChecksumCRC32>AAAAAQ==</ChecksumCRC32>", True, None),
        ("", True, None),
    ],
)
def test_checksums_in_listings(listed: str, asked: bool, expected: int | None) -> None:
    """A part's CRC64 is taken from a listing where the server computes it, and only if it is a whole one."""
    part = f"<PartNumber>3</PartNumber><Size>7</Size><ETag>&quot;e&quot;</ETag>{listed}"
    body = f"<ListPartsResult><Part>{part}</Part></ListPartsResult>".encode()
    root = wire.root_of(Reply(200, {}, body), "ListPartsResult")
    (found,) = (wire.part_of(item, crc64=asked) for item in wire.children(root, "Part"))
    assert found == Receipt(3, 7, "e", expected)


def test_namespaces_and_encodings() -> None:
    """The namespace, a declaration and white space in front (S3 sends it to keep a connection open) make no difference."""
    inner = '<Part><PartNumber>2</PartNumber><Size>3</Size><ETag>"e"</ETag></Part>'
    for body in (
        f"<L>{inner}</L>",
        f' \n<?xml version="1.0" encoding="UTF-8"?>\n<L xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</L>',
        f'<?xml version="1.0" encoding="ISO-8859-1"?><L>{inner}</L>',
    ):
        root = wire.root_of(Reply(200, {}, body.encode()), "L")
        assert [wire.part_of(item) for item in wire.children(root, "Part")] == [Receipt(2, 3, "e")]


@pytest.mark.parametrize(
    ("key", "encoding", "prefix", "found", "same"),
    [
        ("a b", "url", "a+b", "a+b", True),  # AWS and Go's servers
        ("a+b", "url", "a%2Bb", "a%2Bb", True),
        ("a b", "url", "a+b", "a%2Bb", False),
        ("a b", "url", "a%20b", "a%20b", True),
        ("a+b", "url", "a+b", "a+b", True),  # a server that leaves plus signs alone
        ("a+b", "url", "a+b", "a%20b", False),
        ("ü\n", "url", "%C3%BC%0A", "%C3%BC%0A", True),
        ("100%25", "", "100%25", "100%25", True),
        ("100%", "", "100%", "100%25", False),
        ("a", "url", "a", "ab", False),
    ],
)
def test_keys_in_listings(key: str, encoding: str, prefix: str, found: str, same: bool) -> None:
    """A listing's item is found by its key, however the server encodes keys."""
    encoded = f"<EncodingType>{encoding}</EncodingType>" if encoding else ""
    body = f"<L><Prefix>{prefix}</Prefix>{encoded}<U><Key>{found}</Key></U></L>"
    root = wire.root_of(Reply(200, {}, body.encode()), "L")
    assert wire.is_named(next(wire.children(root, "U")), key, root) is same


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1970-01-01T00:00:10.000Z", 10.0), ("1970-01-01T01:00:00+01:00", 0.0), ("", 0.0), ("yesterday", 0.0), ("0001-01-01", None)],
)
def test_times(text: str, expected: float | None) -> None:
    """A listing's time is seconds since the epoch; one that is none is long ago."""
    found = wire.epoch_of(text)
    assert found == expected if expected is not None else found <= 0


def test_complete_body_is_escaped() -> None:
    """An ETag cannot break out of the request's XML."""
    body = wire.complete_body([Receipt(1, 1, 'a"b<c>&d')])
    assert b"<ETag>&quot;a" in body
    assert b"b&lt;c&gt;&amp;d" in body


XMLISH = st.lists(
    st.sampled_from(
        [
            "<Error>",
            "</Error>",
            "<Code>",
            "</Code>",
            "SlowDown",
            "<R>",
            "</R>",
            "&amp;",
            "&x;",
            "\x00",
            "<!--",
            "é",
            "]]>",
            "<?x ?>",
        ]
    )
).map(lambda pieces: "".join(pieces).encode())
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "x-amz-error-code", "x-amz-error-message", "date"]), st.text(max_size=40)
)


@settings(max_examples=400, deadline=None)
@given(status=st.integers(100, 599), body=st.one_of(st.binary(), XMLISH, st.binary().map(lambda b: b"<" + b)), headers=HEADERS)
def test_nonsense(status: int, body: bytes, headers: dict[str, str]) -> None:
    """No reply, of any bytes, status and headers, raises anything but our errors."""
    reply = Reply(status, headers, body)
    assert isinstance(wire.error_of(reply, "x"), JettyError)
    for read in (lambda: wire.root_of(reply, "R"), lambda: wire.upload_id_of(reply)):
        with contextlib.suppress(JettyError):
            read()


@settings(max_examples=400, deadline=None)
@given(st.text())
def test_nonsense_dates(text: str) -> None:
    """No text raises as a date."""
    assert isinstance(wire.epoch_of(text), float)
    assert wire.http_date(text) is None or isinstance(wire.http_date(text), float)

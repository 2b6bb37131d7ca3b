"""S3's replies: XML in, values out; failures in, our errors out. Nothing that is not an S3 reply counts as success."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, unquote_plus

from jettyctl.core.model import Receipt
from jettyctl.core.names import printable
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
from jettyctl.files.crc import from_base64
from jettyctl.net.http import Reply

if TYPE_CHECKING:  # what parses XML is imported while the first answer is on its way
    from xml.etree import ElementTree as ET

MISMATCH_CODES = frozenset(
    {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest", "IncompleteBody"}
)
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
_THROTTLE_CODES = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "ServiceUnavailable"}
)
_ACCESS_HINTS = {
    "InvalidAccessKeyId": "The access key is not known there: check AWS_ACCESS_KEY_ID or --profile.",
    "SignatureDoesNotMatch": "The secret key does not fit: check AWS_SECRET_ACCESS_KEY or --profile.",
    "RequestTimeTooSkewed": "The clock of this machine is off: set it, and run the same command again.",
    "AccessDenied": "Ask for s3:PutObject and s3:AbortMultipartUpload on this bucket and prefix.",
    "ExpiredToken": "Log in again, then run the same command.",
}
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Fault(NamedTuple):
    """What a failed reply says of itself. HEAD replies have no body, only a status and sometimes a header."""

    status: int
    code: str
    message: str


def must(reply: Reply, what: str, key: str) -> Reply:
    """The reply, if its status is a success. 3xx is none. Raises the error in it; `what` and `key` are for people."""
    if 200 <= reply.status < 300:
        return reply
    raise error_of(reply, f"{what} {printable(key)}")


def root_of(reply: Reply, *tags: str) -> ET.Element:
    """The reply's XML if its root is one of `tags`. Raises the error in the body, or ServerFault for what is no S3 reply."""
    element = _parse(reply.body)
    if element is not None and _local(element) in tags:
        return element
    if element is not None and _local(element) == "Error":  # a 200 that failed after its status line was sent
        raise error_of(reply, "")
    raise ServerFault(
        "the reply is not one of an S3 server",
        hint="Check --endpoint-url, and whether a proxy or portal is in between.",
    )


def text_of(element: ET.Element, tag: str, default: str | None = None) -> str:
    """The text of a direct child. Raises ServerFault if it is missing and there is no default."""
    for child in element:
        if _local(child) == tag:
            return child.text or ""
    if default is None:
        raise ServerFault(f"the reply has no {tag}")
    return default


def children(element: ET.Element, tag: str) -> Iterator[ET.Element]:
    """The direct children of one kind."""
    return (child for child in element if _local(child) == tag)


def upload_id_of(reply: Reply) -> str:
    """The id in the answer to CreateMultipartUpload."""
    upload_id = text_of(root_of(reply, "InitiateMultipartUploadResult", "InitiateMultipartUpload"), "UploadId")  # gofakes3's
    if not upload_id:
        raise ServerFault("the reply has no UploadId")
    return upload_id


def part_of(element: ET.Element, *, crc64: bool = False) -> Receipt:
    """A part in a listing. `crc64`: the server computes it, so that what it lists is more than an echo."""
    try:
        number, size = int(text_of(element, "PartNumber")), int(text_of(element, "Size"))
        listed = from_base64(text_of(element, "ChecksumCRC64NVME", "")) if crc64 else None
        return Receipt(number, size, text_of(element, "ETag", "").strip('"'), listed)
    except ValueError:
        raise ServerFault("the list of parts is not readable") from None


def is_named(element: ET.Element, key: str, listing: ET.Element) -> bool:
    """Whether an item of a listing is `key`. Some servers that encode keys write a space as `+`, some leave plus signs alone:
    the listing's own Prefix, which is the key that was asked for, shows which."""
    found, prefix = text_of(element, "Key"), text_of(listing, "Prefix", "")
    if text_of(listing, "EncodingType", "") != "url":
        return found == key
    return (unquote(found) if unquote(prefix) == key else unquote_plus(found)) == key


def epoch_of(text: str) -> float:
    """Seconds since the epoch from an ISO 8601 time; 0 if it is not one."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def complete_body(receipts: Sequence[Receipt]) -> bytes:
    """The XML of CompleteMultipartUpload."""
    parts = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{part.etag.translate(_ESCAPED)}&quot;</ETag></Part>"
        for part in receipts
    )
    return f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>'.encode()


def fault_of(reply: Reply) -> Fault:
    """Code and message of a failed reply, from its body, or from headers where there is no body."""
    element = _parse(reply.body)
    if element is not None and _local(element) == "Error":
        return Fault(reply.status, text_of(element, "Code", ""), text_of(element, "Message", ""))
    return Fault(reply.status, reply.headers.get("x-amz-error-code", ""), reply.headers.get("x-amz-error-message", ""))


def error_of(reply: Reply, what: str) -> JettyError:
    """The error for a reply that is not a success. `what` names the operation and its object, for people."""
    fault = fault_of(reply)
    said = f"{what}: " if what else ""
    said += " ".join(filter(None, (fault.code or f"HTTP {fault.status}", _one_line(fault.message))))
    return _transient(fault, said, reply) or _final(fault, said)


def _transient(fault: Fault, said: str, reply: Reply) -> JettyError | None:
    wait = _retry_after(reply.headers.get("retry-after", ""))
    if fault.status == 429 or fault.code in _THROTTLE_CODES or (fault.status == 503 and not fault.code):
        return Throttled(said, retry_after=wait)
    if fault.code in MISMATCH_CODES:
        return CorruptedInTransit(said, hint="If it repeats, suspect this machine's memory, or a proxy in between.")
    if fault.status >= 500 and fault.status != 501:
        return ServerFault(said, retry_after=wait)
    if fault.code in ("RequestTimeout", "OperationAborted", "ConditionalRequestConflict") or fault.status == 408:
        return NetworkError(said, retry_after=wait)
    return None


def _final(fault: Fault, said: str) -> JettyError:
    if fault.code in ("NoSuchUpload", "InvalidPart"):  # the latter: it lost a part of it
        return UploadGone(said)
    if fault.code == "NoSuchBucket":
        return NoSuchBucket(said, hint="Create the bucket, or check its name and --endpoint-url.")
    if fault.status == 412 or fault.code == "PreconditionFailed":
        return AlreadyExists(said, hint="Leave --if-exists out to replace the object.")
    if fault.status in (401, 403) or fault.code in _ACCESS_HINTS or fault.code in _EXPIRED_CODES:
        hint = _ACCESS_HINTS.get(fault.code, "Check the credentials and what they may do.")
        if fault.code == "RequestTimeTooSkewed":
            return ClockSkewed(said, hint=hint)
        return AccessError(said, hint=hint, expired=fault.code in _EXPIRED_CODES)
    if 300 <= fault.status < 400:
        return StoreError(
            f"{said}: the bucket is served elsewhere", hint="Set --region, or --endpoint-url, to where the bucket is."
        )
    if fault.status < 300:
        return ServerFault(said if fault.code else f"{said}: not the reply of an S3 server")
    return StoreError(said, hint="Check --endpoint-url and the options of the command.")


def _parse(body: bytes) -> ET.Element | None:
    if body.lstrip()[:1] != b"<" or b"<!DOCTYPE" in body or b"<!ENTITY" in body or b"\0" in body:
        return None  # HTML of a portal or proxy; entities are never expanded, in UTF-16 (zero bytes) neither
    from xml.etree import ElementTree as ET

    try:
        return ET.fromstring(body.strip())  # noqa: S314 - no entity reaches the parser, and the reply's size is bounded
    except (ET.ParseError, ValueError, LookupError):  # the latter two: an encoding that is not known here
        return None


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _retry_after(text: str) -> float | None:
    """Seconds to wait, from a number or an HTTP date."""
    if text.isdecimal():
        return float(text)
    date = http_date(text)
    return None if date is None else max(0.0, date - time.time())


def http_date(text: str) -> float | None:
    """Seconds since the epoch from a date header; None if it is no date."""
    if not text:
        return None
    import email.utils  # few replies have dates that are looked at

    try:
        fields = email.utils.parsedate_tz(text)
        return float(email.utils.mktime_tz((*fields[:9], fields[9] or 0))) if fields else None
    except (ValueError, TypeError, IndexError, OverflowError):  # what the standard library makes of nonsense
        return None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]

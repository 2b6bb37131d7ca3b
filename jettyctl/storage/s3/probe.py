"""Which checksum does an endpoint verify? Asked once, by parts whose declared checksum is wrong on purpose.

An echo proves nothing: servers exist that return whatever checksum header they were sent. The parts go into a multipart
upload that is aborted, so no object is ever made.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlencode

from jettyctl.errors import AccessError, Interrupted, JettyError, Throttled
from jettyctl.files.crc import crc64, to_base64
from jettyctl.net.http import Headers, Reply
from jettyctl.storage.s3.sign import UNSIGNED
from jettyctl.storage.s3.wire import MISMATCH_CODES, error_of, fault_of, upload_id_of

CHECKSUMS = (
    "crc64nvme",
    "sha256",
    "md5",
    "etag",
    "none",
)  # strongest first; `etag`: the reply's ETag is the part's MD5
PROBE_SUFFIX = ".jettyctl-probe"
_BYTES = b"jettyctl asks which checksum is verified here"
_OTHER = b"these bytes are never sent"

Call = Callable[[str, str, Headers, bytes, str], Reply]  # method, query, headers, body, payload hash


class Finding(NamedTuple):
    """A probe's result. Not `sure`: an answer was missing, so that the next run had better ask again."""

    checksum: str
    sure: bool


def probe_checksum(call: Call, in_background: Callable[[Callable[[], object]], None]) -> Finding:
    """The strongest of CHECKSUMS that the endpoint enforces. `call` speaks to a key that no object has.

    The end of the probe's own upload is left to `in_background`: nothing depends on it.
    Raises AccessError when multipart uploads are not allowed there, and NetworkError.
    """
    crc_known = True
    reply = call("POST", "uploads=", [("x-amz-checksum-algorithm", "CRC64NVME"), ("x-amz-checksum-type", "FULL_OBJECT")], b"", "")
    if reply.status >= 400 and not _passing(reply) and not isinstance(error_of(reply, ""), AccessError):
        crc_known = False
        reply = call("POST", "uploads=", [], b"", "")
    if reply.status != 200:
        raise error_of(reply, "beginning a multipart upload")
    upload_id = upload_id_of(reply)
    try:
        return _judge(call, upload_id, crc_known)
    finally:
        in_background(lambda: call("DELETE", urlencode({"uploadId": upload_id}), [], b"", ""))


def _judge(call: Call, upload_id: str, crc_known: bool) -> Finding:
    wrong_md5 = base64.b64encode(hashlib.md5(_OTHER, usedforsecurity=False).digest()).decode()
    wrong_sha256 = hashlib.sha256(_OTHER).hexdigest()
    questions: dict[str, tuple[Headers, str]] = {
        "sha256": ([], wrong_sha256),
        "md5": ([("content-md5", wrong_md5)], UNSIGNED),
    }
    if crc_known:
        questions["crc64nvme"] = ([("x-amz-checksum-crc64nvme", to_base64(crc64(_OTHER)))], UNSIGNED)

    def ask(item: tuple[int, tuple[Headers, str]]) -> Reply | None:
        number, (headers, payload) = item
        try:
            return call("PUT", urlencode({"partNumber": number, "uploadId": upload_id}), headers, _BYTES, payload)
        except Interrupted:
            raise
        except JettyError:
            return None  # no answer is no proof

    with ThreadPoolExecutor(len(questions)) as pool:
        replies = dict(zip(questions, pool.map(ask, enumerate(questions.values(), 1)), strict=True))
    refused = {
        name for name, reply in replies.items() if reply and reply.status >= 400 and fault_of(reply).code in MISMATCH_CODES
    }
    etag = f'"{hashlib.md5(_BYTES, usedforsecurity=False).hexdigest()}"'
    if any(reply and reply.status == 200 and reply.headers.get("etag") == etag for reply in replies.values()):
        refused.add("etag")
    found = next((name for name in CHECKSUMS if name in refused), "none")
    return Finding(found, sure=not any(reply is None or _passing(reply) for reply in replies.values()))


def _passing(reply: Reply) -> bool:
    """A failure that has nothing to do with what was asked, and will pass."""
    return reply.status in (429, 502, 503, 504) or (reply.status >= 400 and isinstance(error_of(reply, ""), Throttled))

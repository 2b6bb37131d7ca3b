"""The answers that are given instead of the true one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.support.judge.faults import Strike
from tests.support.judge.replies import Asked, Reply, error, http_date

_GONE = {"put": "NoSuchBucket", "create": "NoSuchBucket", "copy": "NoSuchKey", "head": "NoSuchKey", "get": "NoSuchKey"}
_ETAG = re.compile(rb"(<ETag>(?:&quot;|\")?)[0-9a-f]{8}")
_PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in.</body></html>"
_HTML = {"Content-Type": "text/html"}

Answer = Callable[[Asked, Strike, str, float], Reply]  # request, fault, where redirects lead, the server's time


def _throttled_503(asked: Asked, strike: Strike, trap: str, now: float) -> Reply:
    wishes: list[dict[str, str]] = [{}, {"Retry-After": "1"}, {"Retry-After": http_date(now + 1)}]
    return error(503, "SlowDown", "Please reduce your request rate.", wishes[strike.pick("wish", 3)])


def _gateway(asked: Asked, strike: Strike, trap: str, now: float) -> Reply:
    return Reply((502, 504)[strike.pick("status", 2)], b"<html><body><h1>Bad gateway</h1></body></html>", _HTML)


def _expired(asked: Asked, strike: Strike, trap: str, now: float) -> Reply:
    return error((400, 403)[strike.pick("status", 2)], "ExpiredToken", "The provided token has expired.")


def _moved(status: int) -> Answer:
    """As often with a Location as without: S3 answers 301 without one."""

    def answer(asked: Asked, strike: Strike, trap: str, now: float) -> Reply:
        headers = {"Location": trap + asked.path} if strike.pick("location", 2) else {}
        return error(status, "PermanentRedirect" if status == 301 else "TemporaryRedirect", "Use another endpoint.", headers)

    return answer


ANSWERS: Mapping[str, Answer] = {
    "throttle-429": lambda asked, strike, trap, now: error(429, "TooManyRequests", "Slow down.", {"Retry-After": "1"}),
    "throttle-503": _throttled_503,
    "error-500": lambda asked, strike, trap, now: error(500, "InternalError", "We encountered an internal error."),
    "bad-gateway": _gateway,
    "timeout-400": lambda asked, strike, trap, now: error(
        400, "RequestTimeout", "Your socket connection was not read from or written to in time.", {"Connection": "close"}
    ),
    "skew-403": lambda asked, strike, trap, now: error(403, "RequestTimeTooSkewed", "The difference is too large."),
    "expired": _expired,
    "gone-404": lambda asked, strike, trap, now: error(404, _GONE.get(asked.op, "NoSuchUpload"), "It does not exist."),
    "moved-301": _moved(301),
    "moved-307": _moved(307),
    "ok-error": lambda asked, strike, trap, now: error(200, "InternalError", "We encountered an internal error."),
    "portal": lambda asked, strike, trap, now: Reply(200, _PAGE, _HTML),
}


def with_wrong_etag(reply: Reply) -> Reply:
    """The same answer with another ETag, in its header or its document."""
    headers = {name: '"00000000' + value[9:] if name == "ETag" else value for name, value in reply.headers.items()}
    return replace(reply, headers=headers, body=_ETAG.sub(rb"\g<1>00000000", reply.body))

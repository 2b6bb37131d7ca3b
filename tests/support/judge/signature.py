"""Is a request signed by who it says? Signature Version 4 as AWS describes it, with nothing but hmac and hashlib.

Both forms: the Authorization header, and presigned query parameters. The hash of the body is checked by whoever has it;
here only what was promised about it is returned.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes

from tests.support.judge.replies import Asked, Refusal, http_date

UNSIGNED = "UNSIGNED-PAYLOAD"
SKEW = 900.0  # seconds
LONGEST = 604_800  # seconds that a presigned request may live
_ALGORITHM = "AWS4-HMAC-SHA256"
_SAFE = "-_.~"
_HEX = re.compile("[0-9a-f]{64}")
_SPACES = re.compile(" +")


@dataclass(frozen=True, slots=True)
class Key:
    """What belongs to an access key."""

    secret: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What the signing part of a request says."""

    access: str
    scope: str
    signed: tuple[str, ...]
    signature: str
    stamp: str
    presigned: bool


@dataclass(frozen=True, slots=True)
class Verifier:
    """Knows who may ask. All failures are Refusals, with the codes of S3."""

    keys: Mapping[str, Key]
    region: str
    service: str = field(default="s3")

    def payload(self, asked: Asked, now: float) -> str:
        """What was signed as the hash of the body: hex, or UNSIGNED. `now` is in seconds since the epoch."""
        claims = _presigned(asked) if asked.asks("X-Amz-Algorithm") is not None else _in_header(asked)
        key = self._key(asked, claims)
        self._in_time(asked, claims, now)
        self._scope(claims)
        self._covered(asked, claims)
        payload = _payload(asked, claims)
        if not hmac.compare_digest(self._signature(key, asked, claims, payload), claims.signature):
            raise Refusal(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
        return payload

    def _key(self, asked: Asked, claims: Claims) -> Key:
        key = self.keys.get(claims.access)
        if key is None:
            raise Refusal(403, "InvalidAccessKeyId", "The access key does not exist in our records.")
        name = "X-Amz-Security-Token"
        token = asked.asks(name) if claims.presigned else asked.headers.get(name.lower())
        if token != key.token:
            raise Refusal(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
        return key

    def _in_time(self, asked: Asked, claims: Claims, now: float) -> None:
        try:
            signed_at = datetime.strptime(claims.stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise Refusal(403, "AccessDenied", "The date of the signature is not one.") from None
        if claims.presigned:
            text = asked.asks("X-Amz-Expires") or ""
            if not text.isdecimal() or not 0 < int(text) <= LONGEST:
                raise Refusal(400, "AuthorizationQueryParametersError", "X-Amz-Expires must be from 1 to 604800.")
            if now > signed_at + int(text) or now < signed_at - SKEW:
                raise Refusal(403, "AccessDenied", "Request has expired")
        elif abs(now - signed_at) > SKEW:
            raise Refusal(403, "RequestTimeTooSkewed", "The difference is too large.", {"Date": http_date(now)})

    def _scope(self, claims: Claims) -> None:
        wanted = f"{claims.stamp[:8]}/{self.region}/{self.service}/aws4_request"
        if claims.scope != wanted:
            code = "AuthorizationQueryParametersError" if claims.presigned else "AuthorizationHeaderMalformed"
            raise Refusal(400, code, f"The scope is wrong; expecting {wanted!r}.")

    def _covered(self, asked: Asked, claims: Claims) -> None:
        """The host, and everything that S3 obeys, must be signed: else somebody on the way could change it."""
        must = {"host"} | {name for name in asked.headers if name.startswith("x-amz-")}
        if not must <= set(claims.signed):
            missing = ", ".join(sorted(must - set(claims.signed)))
            raise Refusal(403, "AccessDenied", f"There were headers present in the request which were not signed: {missing}")

    def _signature(self, key: Key, asked: Asked, claims: Claims, payload: str) -> str:
        canonical = "\n".join(
            (
                asked.method,
                quote(unquote_to_bytes(asked.path), safe="/" + _SAFE),
                _canonical_query(asked),
                *(f"{name}:{_SPACES.sub(' ', asked.headers.get(name, '').strip())}" for name in claims.signed),
                "",
                ";".join(claims.signed),
                payload,
            )
        )
        hashed = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
        to_sign = "\n".join((_ALGORITHM, claims.stamp, claims.scope, hashed))
        secret = ("AWS4" + key.secret).encode()
        for step in claims.scope.split("/"):
            secret = hmac.digest(secret, step.encode(), "sha256")
        return hmac.digest(secret, to_sign.encode(), "sha256").hex()


def _in_header(asked: Asked) -> Claims:
    text = asked.headers.get("authorization")
    if text is None:
        raise Refusal(403, "AccessDenied", "Anonymous requests are not allowed.")
    algorithm, _, rest = text.partition(" ")
    fields = dict(item.strip().partition("=")[::2] for item in rest.split(","))
    if algorithm != _ALGORITHM or set(fields) != {"Credential", "SignedHeaders", "Signature"}:
        raise Refusal(400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
    access, _, scope = fields["Credential"].partition("/")
    signed = tuple(fields["SignedHeaders"].split(";"))
    return Claims(access, scope, signed, fields["Signature"], asked.headers.get("x-amz-date", ""), presigned=False)


def _presigned(asked: Asked) -> Claims:
    names = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Date")
    algorithm, credential, signed, signature, stamp = (asked.asks(name) or "" for name in names)
    if algorithm != _ALGORITHM or not all((credential, signed, signature, stamp)):
        raise Refusal(400, "AuthorizationQueryParametersError", "Query-string authentication needs all its parameters.")
    if "authorization" in asked.headers:
        raise Refusal(400, "InvalidArgument", "Only one auth mechanism allowed.")
    access, _, scope = credential.partition("/")
    return Claims(access, scope, tuple(signed.split(";")), signature, stamp, presigned=True)


def _payload(asked: Asked, claims: Claims) -> str:
    given = asked.headers.get("x-amz-content-sha256")
    if given is None and claims.presigned:
        return UNSIGNED
    if given is None:
        raise Refusal(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if given.startswith("STREAMING-"):
        raise Refusal(501, "NotImplemented", "Bodies in signed chunks are not read here.")
    if given != UNSIGNED and not _HEX.fullmatch(given):
        raise Refusal(400, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or a valid sha256 value.")
    return given


def _canonical_query(asked: Asked) -> str:
    others = (pair for pair in asked.query if pair[0] != "X-Amz-Signature")
    encoded = (tuple(quote(text, safe=_SAFE, errors="surrogateescape") for text in pair) for pair in others)
    return "&".join("=".join(pair) for pair in sorted(encoded))

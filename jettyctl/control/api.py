"""Calls of the control plane: JSON in, JSON out, and every refusal as one of our errors. Blocking, from any thread.

Nothing that comes back is trusted to be what it should: its size is bounded, and each field is read with its type.
Redirects are not followed, so that the key goes to no other host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from jettyctl.control.keys import ApiKey
from jettyctl.core.names import printable
from jettyctl.errors import (
    AccessError,
    AlreadyExists,
    CorruptedInTransit,
    IntegrityError,
    JettyError,
    NetworkError,
    ServerFault,
    SessionBusy,
    StoreError,
    Throttled,
    UploadGone,
)
from jettyctl.net.http import Headers, HttpClient, Reply

BASE = "/api/jetty"
FINALIZE_PATIENCE = 300.0  # seconds of silence while the store assembles or copies an object
DEEPEST = 32  # levels that an answer may nest; ours nest 4
_LATER = "Run the same command again later; what was sent is kept."
_NOT_OURS = "Check the address in --control, and whether a proxy or portal is in between."

Json = Mapping[str, Any]


class ControlApi:
    """One control plane, as one user."""

    def __init__(self, origin: str, key: ApiKey, *, verify: bool = True, ca_file: str | None = None) -> None:
        self.origin = origin
        self.http = HttpClient(origin, verify=verify, ca_file=ca_file)
        self._key = key

    def get(self, path: str, **query: str) -> Json:
        """The answer to a GET. Raises JettyError."""
        return self._call("GET", path + (f"?{urlencode(query)}" if query else ""), None, None)

    def post(self, path: str, body: Json, *, patience: float | None = None) -> Json:
        """The answer to a POST. `patience` is the longest silence, in seconds."""
        return self._call("POST", path, body, patience)

    def delete(self, path: str) -> None:
        """Raises JettyError."""
        self._call("DELETE", path, None, None)

    @contextmanager
    def download(self, path: str, **query: str) -> Iterator[tuple[Reply, Iterator[bytes]]]:
        """A GET whose answer is bytes, or a redirect that is left to the caller. Raises the error in any other answer."""
        with self.http.download(f"{self.origin}{BASE}{path}?{urlencode(query)}", self._headers()) as (reply, pieces):
            if not 200 <= reply.status < 300 and reply.status not in (302, 307):
                raise error_of(reply)
            yield reply, pieces

    def close(self) -> None:
        """Give back connections."""
        self.http.close()

    def _call(self, method: str, path: str, body: Json | None, patience: float | None) -> Json:
        headers = self._headers()
        content: bytes | None = None
        if body is not None:
            content = json.dumps(body, separators=(",", ":")).encode()
            headers += [("content-type", "application/json"), ("content-length", str(len(content)))]
        reply = self.http.request(method, f"{self.origin}{BASE}{path}", headers, content, patience)
        if not 200 <= reply.status < 300:
            raise error_of(reply)
        return _mapping(reply)

    def _headers(self) -> Headers:
        return [
            ("authorization", f"Bearer {self._key.secret}"),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("user-agent", "jettyctl"),
        ]


def text(answer: Json, name: str) -> str:
    """A field that must be a text. Raises ServerFault."""
    value = cast("str", _field(answer, name, str))
    if not encodable(value):
        raise _nonsense(name)
    return value


def encodable(value: object) -> bool:
    """Whether a value is a text that UTF-8 can hold: JSON may escape lone surrogates, which nothing can encode later."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def is_address(url: str) -> bool:
    """Whether a client can be made of it, and a request be sent there."""
    try:
        parts = urlsplit(url)
        return url.isascii() and url.isprintable() and " " not in url and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def whole(answer: Json, name: str) -> int:
    """A field that must be a whole number from 0 on. Raises ServerFault."""
    value = cast("int", _field(answer, name, int))
    if isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise _nonsense(name)
    return value


def number(answer: Json, name: str) -> float:
    """A field that must be a number. Raises ServerFault."""
    value = _field(answer, name, (int, float))
    if isinstance(value, bool) or not -1e15 < value < 1e15:
        raise _nonsense(name)
    return float(value)


def mapping(answer: Json, name: str) -> Json:
    """A field that must be an object. Raises ServerFault."""
    return cast("Json", _field(answer, name, dict))


def listed(answer: Json, name: str) -> list[Json]:
    """A field that must be a list of objects. Raises ServerFault."""
    found = _field(answer, name, list)
    if not all(isinstance(item, dict) for item in found):
        raise _nonsense(name)
    return cast("list[Json]", found)


def crc_in(answer: Json, name: str) -> int | None:
    """A field that is a CRC-64 in 16 hex digits, or null. Raises ServerFault."""
    value = answer.get(name)
    if value is None:
        return None
    try:
        return int(text(answer, name), 16)
    except ValueError:
        raise _nonsense(name) from None


def error_of(reply: Reply) -> JettyError:
    """What a refusal says, as ours."""
    try:
        answer = _mapping(reply)
    except ServerFault:
        answer = {}
    said = str(answer.get("error") or f"HTTP {reply.status}")[:200]
    details = str(answer.get("details") or "")[:500]
    message = printable(f"the control plane: {said}" + (f": {details}" if details else "")).rstrip(".")
    wait = reply.headers.get("retry-after", "")
    seconds = float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else None
    if reply.status == 429:
        return Throttled(message, hint=_LATER, retry_after=seconds)
    if reply.status >= 500 or reply.status == 408:
        return ServerFault(message, hint=_LATER, retry_after=seconds)
    if 300 <= reply.status < 400:
        return StoreError(f"the control plane sends its clients elsewhere (HTTP {reply.status})", hint=_NOT_OURS)
    return _refusal(reply.status, said, message, answer)


def _refusal(status: int, said: str, message: str, answer: Json) -> JettyError:
    if status == 401:
        return AccessError("the control plane does not know this key (any more)", hint="Run `jettyctl login`.")
    if status == 403:
        return AccessError(message, hint="Ask for a key that may do this, then run `jettyctl login`.")
    if status == 409:
        return _conflict(said, message, answer)
    if status == 410:
        return UploadGone(message)
    if said == "bad digest":
        return CorruptedInTransit(message, hint="If it repeats, suspect this machine's memory, or a proxy in between.")
    if status == 404:
        return NotThere(message) if answer.get("error") else StoreError("there is no control plane", hint=_NOT_OURS)
    return StoreError(message, hint=_NOT_OURS if status == 421 else "Check the options of the command.")


def _conflict(said: str, message: str, answer: Json) -> JettyError:
    host = _host(answer) or "another machine"
    if said == "stale lease":
        by = f"by {_host(answer)}" if _host(answer) else "or given up, elsewhere"
        return SessionBusy(
            f"this session was taken over {by}", hint="Let it finish there, or add --take-over to `jettyctl resume`."
        )
    if said == "session held":
        left = answer.get("expiresIn")
        seconds = f" for {left:.0f} s" if isinstance(left, int | float) and abs(left) < 1e9 else ""
        return SessionBusy(
            f"the session is held by {host}{seconds}", hint="Wait until it is free, or add --take-over to `jettyctl resume`."
        )
    if said == "exists":
        return AlreadyExists("the object exists already", hint="Leave --if-exists out to replace it.")
    if said == "integrity":
        return IntegrityError(message, hint="Run the same command again.")
    if said == "already completed":
        return AlreadyCompleted(message, fence=answer.get("fence"), host=_host(answer))
    if said == "parts missing":
        return IntegrityError(message, hint="Run the same command again: it sends what is missing.")
    return StoreError(message, hint="Run the same command again.")


class NotThere(StoreError):
    """The control plane has no such thing, or it is somebody else's."""


class AlreadyCompleted(UploadGone):
    """The session has become an object. Its holder then had this `fence`, on `host`, where that is known."""

    def __init__(self, message: str, *, fence: object = None, host: str = "") -> None:
        super().__init__(message, hint="Run the upload again: it sends only what is missing.")
        self.fence = fence
        self.host = host


def _host(answer: Json) -> str:
    return printable(str(answer.get("host") or ""))[:255]


def _mapping(reply: Reply) -> Json:
    """The JSON object in a reply. Raises ServerFault for anything else."""
    if reply.status == 204 and not reply.body:
        return {}
    try:
        answer = json.loads(reply.body, object_pairs_hook=_unambiguous, parse_constant=_no_constant)
        fine = isinstance(answer, dict) and _shallow(answer, DEEPEST)
    except (ValueError, RecursionError):
        fine = False
    if not fine:
        raise ServerFault("the reply is not one of a control plane", hint=_NOT_OURS)
    return cast("Json", answer)


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _shallow(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(item, levels - 1) for item in inner)


def _field(answer: Json, name: str, kind: type | tuple[type, ...]) -> Any:  # noqa: ANN401 - of `kind`
    value = answer.get(name)
    if not isinstance(value, kind):
        raise _nonsense(name)
    return value


def _nonsense(name: str) -> NetworkError:
    return ServerFault(f"the control plane's answer has no {name}, or one that makes no sense", hint=_NOT_OURS)

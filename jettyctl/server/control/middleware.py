"""What every request passes: an id, a log line, counting, headers, and the check of whom a browser speaks for."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jettyctl.server.control import failures, log
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.metrics import Metrics
from jettyctl.server.control.principal import Principal
from jettyctl.server.control.settings import Settings
from jettyctl.server.control.tickets import Standing

_SEEN = "jetty.seen"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HUNG_UP = 499  # what nginx calls the status of a request whose client did not wait for the answer
UNKNOWN_ROUTE = "(none)"  # what requests of no route are counted as: paths are a client's to make up


@dataclass(slots=True)
class Seen:
    """What becomes known of a request while it is answered."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    who: Principal | None = None
    standing: Standing | None = None
    status: int = 0
    sent: int = 0  # bytes of the answer's body


def seen_in(request: HTTPConnection) -> Seen:
    """The record of this request, for dependencies to add to."""
    return cast("Seen", request.scope[_SEEN])


class Recorded:
    """Outermost: gives each request an id, writes its line, counts it, and turns what nobody expected into a 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics, settings: Settings) -> None:
        self._app = app
        self._metrics = metrics
        self._quiet = settings.quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        seen = scope[_SEEN] = Seen()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                message["headers"] = [*_headers(seen, message["headers"])]
            elif message["type"] == "http.response.body":
                seen.sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ClientDisconnect:
            seen.status = seen.status or HUNG_UP
        except asyncio.CancelledError:  # the service ends, and has waited for this request as long as it waits for any
            if seen.status:
                raise
            await refuse(ApiError(503, "not available", "The service ends. Try again.", headers={"Retry-After": "1"}), noted)
        except Exception as error:  # noqa: BLE001 - the rim: whatever it is, the client gets an answer and the log its place
            log.failure(seen.id, error)
            if not seen.status:
                await refuse(ApiError(500, "internal error", f"Report this id: {seen.id}."), noted)
        finally:
            self._record(scope, seen, time.perf_counter() - began)

    def _record(self, scope: Scope, seen: Seen, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
        method = scope["method"]
        self._metrics.answered(route, method, seen.status, seconds)
        if not self._quiet:
            level = "info" if seen.status < 500 else "error"
            log.write(
                level, requestId=seen.id, method=method, route=route, status=seen.status, ms=round(seconds * 1000, 2),
                userId=seen.who.user_id if seen.who else "", bytes=seen.sent,
            )  # fmt: skip


class Guarded:
    """Refuses what a browser was led to send: another name in Host (DNS rebinding), a foreign Origin that would write."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        public = urlsplit(settings.public_url)
        self._any = "*" in settings.allowed_hosts
        self._hosts = LOOPBACK | {host.lower() for host in (*settings.allowed_hosts, _bracketed(public.hostname))}
        self._origin = f"{public.scheme}://{public.netloc}".lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = self._refusal(scope["method"], Headers(scope=scope))
            if refused:
                await refuse(refused, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> ApiError | None:
        hosts = headers.getlist("host")
        if len(hosts) > 1:
            return failures.bad_request("There is more than one Host.")  # a proxy in front may have believed the other
        host = hosts[0].lower() if hosts else ""
        if not self._any and _name_of(host) not in self._hosts:
            details = "This service does not go by that name. Its operator can add it: jettyctl serve --allowed-host NAME."
            return ApiError(421, "misdirected request", details)
        origin = headers.get("origin")
        if method in SAFE_METHODS or origin is None or origin.lower() == self._origin or _authority(origin) == host:
            return None
        return failures.forbidden("A page of another origin must not do this.")


async def refuse(error: ApiError, send: Send) -> None:
    """Answer with a failure, outside of any route."""
    body = json.dumps(error.body).encode()
    given = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *given]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(seen: Seen, given: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    """The answer's own headers, and ours where it does not say better."""
    own = list(given)
    names = {name for name, _ in own}
    yield from own
    yield b"x-request-id", seen.id.encode()
    yield b"x-content-type-options", b"nosniff"
    if b"cache-control" not in names:
        yield b"cache-control", b"no-store"
    if seen.standing and b"ratelimit-limit" not in names:
        yield from seen.standing.headers


def _authority(origin: str) -> str | None:
    """Host and port of an Origin header; None for one that is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _name_of(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _bracketed(name: str | None) -> str:
    """A host as a Host header spells it."""
    return f"[{name}]" if name and ":" in name else name or ""

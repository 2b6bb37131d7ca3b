"""JSON bodies, read with limits: size, time, depth; no number that is none, no key twice.

`api_router` makes the routers of the service: their routes read bodies by these rules.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from jettyctl.core.model import MIB
from jettyctl.server.control import bodies
from jettyctl.server.control.failures import ApiError

MOST_BYTES = MIB
MOST_SECONDS = 30.0  # from the end of the head to that of the body
MOST_DEPTH = 32
_CLOSE = {"Connection": "close"}  # what is left of the body is not waited for

FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": bodies.Failure, "description": description}
    for status, description in {
        400: "A field is missing or invalid",
        401: "No key, or none that is good",
        403: "Not for this key",
        404: "Not there, or not yours",
        408: "The body did not arrive in time",
        409: "The state does not allow it",
        410: "Gone",
        413: "The body is too large",
        421: "The service does not go by that name",
        429: "Too many requests; see Retry-After",
        500: "A bug",
        502: "The store refuses the service",
        503: "Not now; see Retry-After",
    }.items()
}


class Unreadable:
    """A body that is no JSON. It fails validation like any wrong body: after the key, the scope and the limit are checked."""

    def __init__(self, why: str) -> None:
        self.why = why


class StrictRequest(Request):
    """A request whose body was read already."""

    def __init__(self, request: Request, content: bytes) -> None:
        super().__init__(request.scope, request.receive)
        self._content = content

    async def body(self) -> bytes:
        return self._content

    async def json(self) -> Any:  # noqa: ANN401 - JSON is anything
        return read_json(self._content)


class StrictRoute(APIRoute):
    """A route that reads its body, if it takes one, by the rules of this module."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        if self.body_field is None:
            return answer

        async def strict(request: Request) -> Response:
            return await answer(StrictRequest(request, await _content(request)))

        return strict


def api_router(*statuses: int) -> APIRouter:
    """A router for /api/jetty. `statuses` are failures that its routes answer beside those of every route."""
    usual = (400, 401, 403, 408, 413, 421, 429, 500, 503)
    return APIRouter(prefix="/api/jetty", route_class=StrictRoute, responses=failing(*usual, *statuses))


def failing(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=`: these failures."""
    return {status: FAILURES[status] for status in sorted(set(statuses))}


def read_json(content: bytes) -> Any:  # noqa: ANN401 - JSON is anything
    """What a body says, or Unreadable."""
    try:
        found = _DECODER.decode(content.decode())
    except RecursionError:
        return Unreadable("The JSON is nested too deeply.")
    except ValueError as error:
        return Unreadable(f"The body is not JSON: {_reason(error)}.")
    return found if _shallow(found) else Unreadable("The JSON is nested too deeply.")


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at {error.pos}"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)[:100]


async def _content(request: Request) -> bytes:
    """The body. Raises ApiError 413 and 408."""
    content = bytearray()
    try:
        async with asyncio.timeout(MOST_SECONDS):
            async for piece in request.stream():
                content += piece
                if len(content) > MOST_BYTES:
                    raise ApiError(413, "too large", f"A body has at most {MOST_BYTES} bytes.", headers=_CLOSE)
    except TimeoutError:
        raise ApiError(408, "too slow", f"A body must arrive within {MOST_SECONDS:g} s.", headers=_CLOSE) from None
    return bytes(content)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_float=_finite, parse_constant=_no_number)


def _shallow(found: object) -> bool:
    """Whether no value lies deeper than MOST_DEPTH."""
    level = [found]
    for _ in range(MOST_DEPTH + 1):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return True
    return False


def _inside(value: object) -> list[object]:
    """The lists and objects directly in a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in inner if isinstance(one, dict | list)]

"""Every failure that a client is told of: one JSON shape, `{"error": ..., "details": ...}`, and a status."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil


class ApiError(Exception):
    """`error` is a short stable text, `details` says what to do. `more` are further fields of the body."""

    def __init__(
        self,
        status: int,
        error: str,
        details: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.details = details
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    @property
    def body(self) -> dict[str, object]:
        """The JSON of the reply."""
        return {"error": self.error, "details": self.details, **self.more}


def bad_request(details: str) -> ApiError:
    """400: a field is missing or invalid."""
    return ApiError(400, "invalid request", details)


def unauthorized() -> ApiError:
    """401: the same for a key that is unknown, revoked or expired, and for none at all."""
    return ApiError(
        401, "unauthorized", "Send a valid key: Authorization: Bearer KEY.", headers={"WWW-Authenticate": "Bearer"}
    )


def forbidden(details: str) -> ApiError:
    """403: the key is good, but not for this."""
    return ApiError(403, "forbidden", details)


def not_found(what: str) -> ApiError:
    """404: not there, or somebody else's; the two look alike."""
    return ApiError(404, "not found", f"There is no such {what}.")


def conflict(error: str, details: str, **more: object) -> ApiError:
    """409: the state does not allow it (now)."""
    return ApiError(409, error, details, more=more)


def too_many(seconds: float, limit: int) -> ApiError:
    """429, with the seconds until the next request is answered."""
    wait = str(max(1, ceil(seconds - 0.001)))  # a difference of clocks is never quite the whole number that it means
    headers = {"Retry-After": wait, "RateLimit-Limit": str(limit), "RateLimit-Remaining": "0", "RateLimit-Reset": wait}
    return ApiError(429, "too many requests", f"Try again in {wait} s.", headers=headers)

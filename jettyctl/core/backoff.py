"""How long to wait before trying again, and when to stop: full jitter, and one retry budget for the whole process.

The random draw is an argument, so that the decision can be tested without chance.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_RETRY_AFTER = 300.0  # seconds; what of a store's Retry-After is obeyed at most
FEW = 16  # requests at a time, up to which a retry costs its full price


class RetryPolicy(NamedTuple):
    """At most `attempts` tries of one request; waits of up to `base` * 2**n seconds, never more than `cap`."""

    attempts: int = 8
    base: float = 0.25
    cap: float = 20.0


def delay(policy: RetryPolicy, failures: int, draw: float, retry_after: float | None = None) -> float:
    """Seconds to wait after the `failures`-th failure (from 1). `draw` is uniform in [0, 1).

    Full jitter spreads clients that failed together; the store's own Retry-After is added to it.
    """
    ceiling = min(policy.cap, policy.base * 2.0 ** min(failures - 1, 64))  # 64: past any cap, and short of overflow
    return max(0.0, min(retry_after or 0.0, MAX_RETRY_AFTER)) + draw * ceiling


class RetryBudget:
    """A bucket of tokens for the whole process: each retry takes some, each success gives one back.

    While most requests succeed it never empties; when nothing works it ends the retries of all files together, instead
    of one file after another. A store that is away for a moment fails all requests in flight together. Where these are
    many, each retry costs less in proportion, so that 200 of them survive the moment as well as a few.
    """

    def __init__(self, tokens: float = 500.0, cost: float = 5.0, refund: float = 1.0) -> None:
        self._ceiling = self._tokens = tokens
        self._cost = cost
        self._refund = refund

    def take(self, at_once: int = 1) -> bool:
        """Pay for one retry, while `at_once` requests are on their way. False: the budget is empty."""
        cost = self._cost * min(1.0, FEW / at_once)
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True

    def succeed(self) -> None:
        """A request succeeded."""
        self._tokens = min(self._ceiling, self._tokens + self._refund)

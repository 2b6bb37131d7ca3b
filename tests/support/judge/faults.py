"""What goes wrong, as data, and when: a pure function of seed, operation, key, part and attempt.

No random stream is shared, so that the order in which parallel requests arrive changes nothing: the same seed has the same
schedule in every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

COPIES = frozenset({"copy", "part_copy"})


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. `passing`: whoever tries again gets over it. `slow`: it takes a client's whole patience.

    `only`: the operations that it can befall; None is all.
    """

    name: str
    passing: bool = True
    slow: bool = False
    only: frozenset[str] | None = None

    def befalls(self, op: str) -> bool:
        return self.only is None or op in self.only


_TAGGED = frozenset({"put", "part", "complete", "head", "list_parts", "copy", "part_copy"})  # their replies have an ETag

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("refuse"),  # the connection is reset, and nobody listens for a moment
        Kind("reset"),  # RST after some bytes of the body
        Kind("black-hole", slow=True),  # nothing more is read, nothing is answered
        Kind("delay"),
        Kind("throttle-429"),
        Kind("throttle-503"),  # SlowDown, with Retry-After in seconds, as a date, or without
        Kind("error-500"),
        Kind("bad-gateway"),  # 502 or 504 of a proxy, in HTML
        Kind("timeout-400"),  # RequestTimeout
        Kind("skew-403"),  # RequestTimeTooSkewed
        Kind("expired", passing=False),  # ExpiredToken
        Kind("gone-404", passing=False),  # NoSuchUpload, NoSuchKey or NoSuchBucket
        Kind("moved-301", passing=False),
        Kind("moved-307", passing=False),
        Kind("ok-error"),  # 200 with an error in the body
        Kind("portal"),  # 200 with the page of a captive portal
        Kind("lost-reply"),  # applied, and the connection is closed
        Kind("late-500"),  # applied, and answered 500
        Kind("withheld-reply", slow=True),  # applied, and never answered
        Kind("truncated-reply"),
        Kind("trickle", slow=True),  # the reply comes at a byte a second
        Kind("duplicate"),  # applied twice; the second answer gets through
        Kind("flip-request", passing=False),  # one bit, in the body where there is one
        Kind("flip-reply", passing=False),  # one bit, anywhere in the reply
        Kind("wrong-etag", passing=False, only=_TAGGED),
        Kind("ignored-copy", passing=False, only=COPIES),  # the source header is not looked at: an empty part
    )
}


def draw(seed: int, *words: object) -> int:
    """64 bits that depend on nothing but the arguments."""
    text = "\0".join(map(str, (seed, *words))).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that befalls a request; `chance` decides where in it, and how."""

    kind: Kind
    chance: int

    def pick(self, what: str, below: int) -> int:
        """A number from 0 on, below `below`."""
        return draw(self.chance, what) % max(1, below)


class Schedule(Protocol):
    """What befalls whom."""

    def decide(self, op: str, key: str, part: int | None, attempt: int) -> Strike | None:
        """The fault of one request, or None. Pure."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing goes wrong."""

    def decide(self, op: str, key: str, part: int | None, attempt: int) -> Strike | None:
        return None


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of fault at one operation on one key: its first `times` attempts, of parts those of `part` only if given."""

    seed: int
    kind: str
    op: str
    key: str
    times: int = 1
    part: int | None = None

    def decide(self, op: str, key: str, part: int | None, attempt: int) -> Strike | None:
        if (op, key) != (self.op, self.key) or attempt > self.times or self.part not in (None, part):
            return None
        return Strike(KINDS[self.kind], draw(self.seed, op, key, part, attempt))


@dataclass(frozen=True, slots=True)
class Storm:
    """Every request is struck with probability `rate`, by one of `kinds`; slow kinds come `rarely` times as often as others.

    Complete is spared the slow ones: a client waits for five minutes for it, and a storm has many.
    """

    seed: int
    rate: float
    kinds: Sequence[str]
    rarely: float = 0.05

    def decide(self, op: str, key: str, part: int | None, attempt: int) -> Strike | None:
        chance = draw(self.seed, op, key, part, attempt)
        if draw(chance, "strikes") >= self.rate * 2.0**64:
            return None
        possible = [KINDS[name] for name in self.kinds if KINDS[name].befalls(op)]
        quick = [kind for kind in possible if not kind.slow]
        slow = [kind for kind in possible if kind.slow and op not in {"complete", *COPIES}]
        among = slow if slow and draw(chance, "slow") < self.rarely * 2.0**64 else quick
        return Strike(among[draw(chance, "kind") % len(among)], chance)

"""What kept a run from being faster, told from where its time went. Pure: the engine measures, this judges."""

from __future__ import annotations

from typing import Literal, NamedTuple

Bottleneck = Literal["store", "limit-rate", "disk", "hash", "cpu", "threads", "uplink"]

THROTTLED = 0.2  # share of the requests' time spent waiting because the store asked for it
STARVED = 0.5  # share of the run in which a free request slot waited for the leader to pass a chunk
LED = 0.75  # share of the run in which the leader was at work: what comes after it is a tail
BUSY = 0.85  # share of what all cores together could have done
LIMITED = 0.75  # share of the rate that the user allows; the first and last moments of a short run send nothing
SMALL = 1 << 20  # bytes of a file, on average: with smaller ones, what is done for each file outweighs its bytes
ONE_CORE = 0.75  # share of the run: what is done for each file is Python, of which one thread runs at a time
FULL = 0.5  # share of the run in which every request that was allowed was in flight

MEANING: dict[Bottleneck, str] = {
    "store": "the store, which asked for fewer requests or was slow to answer",
    "limit-rate": "--limit-rate",
    "disk": "reading the source",
    "hash": "SHA-256, which one core computes",
    "cpu": "the processors of this machine",
    "threads": "the number of requests at a time; a larger --threads may be faster",
    "uplink": "the network",
}


class Work(NamedTuple):
    """Where the time of a run went: seconds, and bytes.

    `in_flight` sums up over requests (two for one second are two), `full` is the time in which as many were in flight as
    the ceiling allows. `asked_threads`: the ceiling is the user's own.
    """

    seconds: float
    files: int
    sent: int
    reading: float
    hashing: float
    starved: float
    throttled: float
    in_flight: float
    full: float
    cpu: float
    cores: int
    limit_rate: float | None = None
    asked_threads: bool = False
    remote: bool = True


def bottleneck(work: Work) -> Bottleneck | None:
    """None if nothing was sent, or for a run too short to say."""
    if not work.sent or work.seconds <= 0:
        return None
    if work.throttled > THROTTLED * work.in_flight:
        return "store"
    if work.limit_rate and work.sent > LIMITED * work.limit_rate * work.seconds:
        return "limit-rate"
    led = work.reading + work.hashing
    if work.starved > STARVED * work.seconds or led > LED * work.seconds:
        return "hash" if work.hashing > work.reading else "disk"
    small = work.sent < SMALL * work.files
    if work.cpu > BUSY * work.seconds * work.cores or (small and work.cpu > ONE_CORE * work.seconds):
        return "cpu"
    if not work.remote:
        return "store"
    if work.asked_threads and work.full > FULL * work.seconds:
        return "threads"
    return "uplink"

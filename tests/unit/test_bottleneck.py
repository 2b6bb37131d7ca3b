"""What limited a run, from where its time went."""

from __future__ import annotations

import pytest

from jettyctl.core.bottleneck import Bottleneck, Work, bottleneck

# Ten seconds on two cores over a network that takes what it can, with 16 requests in flight.
SENDING = Work(
    seconds=10, files=1, sent=1 << 30, reading=0.2, hashing=0.7, starved=0.1, throttled=0, in_flight=160, full=1, cpu=2, cores=2
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "uplink"),
        ({"sent": 0}, None),
        ({"seconds": 0.0}, None),
        ({"hashing": 8.0}, "hash"),
        ({"starved": 6.0}, "hash"),
        ({"reading": 8.0, "starved": 6.0}, "disk"),
        ({"reading": 0.0, "hashing": 0.0, "starved": 9.0}, "disk"),
        ({"throttled": 40.0}, "store"),
        ({"throttled": 40.0, "hashing": 9.0}, "store"),
        ({"cpu": 18.0}, "cpu"),
        ({"cpu": 18.0, "hashing": 9.0}, "hash"),
        ({"cpu": 8.0}, "uplink"),
        ({"cpu": 8.0, "files": 100_000}, "cpu"),
        ({"cpu": 7.0, "files": 100_000}, "uplink"),
        ({"limit_rate": (1 << 30) / 10}, "limit-rate"),
        ({"limit_rate": (1 << 30) / 5}, "uplink"),
        ({"full": 9.0}, "uplink"),
        ({"full": 9.0, "asked_threads": True}, "threads"),
        ({"full": 1.0, "asked_threads": True}, "uplink"),
        ({"remote": False}, "store"),
    ],
)
def test_bottleneck(changes: dict[str, float], expected: Bottleneck | None) -> None:
    """The time tells; what the user or the store asked for comes before what this machine can do."""
    assert bottleneck(SENDING._replace(**changes)) == expected  # type: ignore[arg-type] # numbers by field name


"""The rate limit, with a clock that only moves when someone sleeps."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jettyctl.core.model import ObjectOptions, Upload
from jettyctl.files.crc import crc64
from jettyctl.storage.limit import SLICE_SECONDS, LimitedBody, LimitedStore, RateLimit
from tests.support.bodies import body_of, noise
from tests.support.memory_store import MemoryStore


class Clock:
    """Time that passes in `sleep` alone."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def limit(rate: float) -> tuple[RateLimit, Clock]:
    clock = Clock()
    return RateLimit(rate, clock=clock, sleep=clock.sleep), clock


@pytest.mark.parametrize("rate", [10_000.0, 1e6, 50e6])
def test_the_rate_is_held(rate: float) -> None:
    """Over ten seconds of bytes the rate is the one that was asked for, within five per cent."""
    held, clock = limit(rate)
    data = noise(1 << 20)
    began, sent = clock.now, 0
    while sent < rate * 10:
        sent += sum(map(len, LimitedBody(body_of(data[: min(len(data), int(rate * 10))]), held).slices()))
    assert sent / (clock.now - began) == pytest.approx(rate, rel=0.05)


def test_slices_are_short() -> None:
    """No slice takes longer than a tenth of a second at the limit, so that the flow is even."""
    held, clock = limit(1e6)
    sizes = [len(piece) for piece in LimitedBody(body_of(noise(2 << 20)), held).slices()]
    assert max(sizes) <= 1e6 * SLICE_SECONDS
    assert max(clock.sleeps) <= SLICE_SECONDS * 1.001


def test_idle_time_is_not_saved_up() -> None:
    """After a pause there is no burst: what was not sent then is not sent faster now."""
    held, clock = limit(1000.0)
    held.wait_for(1000)
    clock.now += 60
    before = clock.now
    for _ in range(5):
        held.wait_for(1000)
    assert clock.now - before == pytest.approx(4.0)


@settings(deadline=None)
@given(st.binary(max_size=20_000), st.floats(1.0, 1e9))
def test_the_bytes_are_the_same(data: bytes, rate: float) -> None:
    """A limited body is its inner body: length, checksums and bytes."""
    held, _ = limit(rate)
    body = LimitedBody(body_of(data), held)
    assert (body.length, body.crc64, body.digest("md5")) == (len(data), crc64(data), body_of(data).digest("md5"))
    assert b"".join(body.slices()) == b"".join(body.slices()) == data


def test_one_limit_for_all_threads() -> None:
    """Sixteen threads together keep to the rate: every moment is handed out once."""
    waits: list[float] = []
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            waits.append(seconds)

    held = RateLimit(1000.0, clock=lambda: 5.0, sleep=sleep)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: held.wait_for(10), range(1000)))
    assert sorted(waits) == pytest.approx([n * 0.01 for n in range(1, 1000)])


def test_the_store_limits_puts_and_parts() -> None:
    """Both ways for bytes to leave go through the limit; the store gets exactly them."""
    held, clock = limit(1e6)
    inner = MemoryStore()
    store, data = LimitedStore(inner, held), noise(1_000_000)
    store.put("whole", body_of(data), ObjectOptions())
    upload = Upload("parts", store.create("parts", ObjectOptions(), len(data), len(data)), 0.0)
    store.complete(upload, [store.put_part(upload, 1, body_of(data))], size=len(data), crc64=crc64(data))
    assert clock.now - 1000.0 == pytest.approx(2.0, rel=0.06)
    assert inner.objects["whole"][0] == inner.objects["parts"][0] == data
    assert store.limits == inner.limits
    assert store.checksum == inner.checksum


def test_a_real_clock() -> None:
    """With the default clock, time really passes."""
    held = RateLimit(100_000.0)
    began = time.monotonic()
    for _ in range(4):
        held.wait_for(5_000)
    assert 0.14 < time.monotonic() - began < 0.6

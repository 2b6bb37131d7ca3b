"""Signed requests in few calls: what waits goes together, and nothing is lost when a call fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jettyctl.control.minting import MOST, Minting
from jettyctl.errors import JettyError, NetworkError, SessionBusy
from jettyctl.storage.base import SignedRequest

WAIT = 10  # seconds after which a test hangs


class Plane:
    """Answers calls, each when it is let go; keeps what was asked. Errors in `failing` are raised one by one."""

    def __init__(self, *failing: JettyError, held: bool = False) -> None:
        self.calls: list[tuple[list[Any], list[Any]]] = []
        self.failing = list(failing)
        self.go = threading.Event()
        self.arrived = threading.Semaphore(0)
        if not held:
            self.go.set()

    def __call__(self, completed: Sequence[Any], wanted: Sequence[Any]) -> Sequence[SignedRequest]:
        self.calls.append((list(completed), list(wanted)))
        self.arrived.release()
        assert self.go.wait(WAIT)
        if self.failing:
            raise self.failing.pop(0)
        return [SignedRequest("PUT", f"https://store/{part['number']}", {}, 0.0) for part in wanted]


def sign_all(minting: Minting, pool: ThreadPoolExecutor, numbers: Sequence[int]) -> list[Any]:
    """The futures of many threads that want one part each."""
    return [pool.submit(minting.sign, {"number": number}) for number in numbers]


def wait_for_places(minting: Minting, count: int) -> None:
    """Until so many wait for the next call."""
    for _ in range(WAIT * 1000):
        if len(minting._waiting) == count:
            return
        threading.Event().wait(0.001)
    raise AssertionError(f"{len(minting._waiting)} wait, not {count}")


def test_one_part_is_one_call() -> None:
    """Who comes first does not wait for others."""
    plane = Plane()
    assert Minting(plane).sign({"number": 7}).url == "https://store/7"
    assert plane.calls == [([], [{"number": 7}])]


def test_who_waits_goes_together() -> None:
    """While one call is in flight all others wait, and go into the next one, each with its own answer."""
    plane = Plane(held=True)
    minting = Minting(plane)
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(minting.sign, {"number": 1})
        assert plane.arrived.acquire(timeout=WAIT)
        others = sign_all(minting, pool, range(2, 32))
        wait_for_places(minting, 30)
        plane.go.set()
        assert first.result(WAIT).url == "https://store/1"
        assert [future.result(WAIT).url for future in others] == [f"https://store/{number}" for number in range(2, 32)]
    assert [len(wanted) for _, wanted in plane.calls] == [1, 30]


def test_calls_are_bounded() -> None:
    """No call asks for more than the control plane takes; who did not fit goes with the one after."""
    plane = Plane(held=True)
    minting = Minting(plane)
    with ThreadPoolExecutor(MOST + 60) as pool:
        first = pool.submit(minting.sign, {"number": 0})
        assert plane.arrived.acquire(timeout=WAIT)
        others = sign_all(minting, pool, range(1, MOST + 51))
        wait_for_places(minting, MOST + 50)
        plane.go.set()
        urls = {future.result(WAIT).url for future in [first, *others]}
    assert len(urls) == MOST + 51
    assert [len(wanted) for _, wanted in plane.calls] == [1, MOST, 50]


def test_receipts_ride_along() -> None:
    """A receipt is told with the next call, once."""
    plane = Plane()
    minting = Minting(plane)
    minting.received({"number": 1})
    minting.sign({"number": 2})
    minting.sign({"number": 3})
    assert [completed for completed, _ in plane.calls] == [[{"number": 1}], []]


def test_receipts_survive_a_failed_call() -> None:
    """What a call that failed was to tell is told by the next one."""
    plane = Plane(NetworkError("gone"))
    minting = Minting(plane)
    minting.received({"number": 1})
    with pytest.raises(NetworkError):
        minting.sign({"number": 2})
    minting.sign({"number": 2})
    assert [completed for completed, _ in plane.calls] == [[{"number": 1}], [{"number": 1}]]


def test_the_rest_is_what_one_call_holds() -> None:
    """What is left for the last call is at most what one call may tell; the others are told before."""
    plane = Plane()
    minting = Minting(plane)
    for number in range(2 * MOST + 5):
        minting.received({"number": number})
    assert [part["number"] for part in minting.rest()] == [*range(2 * MOST, 2 * MOST + 5)]
    assert [len(completed) for completed, _ in plane.calls] == [MOST, MOST]
    assert len(minting.rest()) == 5  # until the last call has arrived, they are kept


def test_a_failure_reaches_all_who_waited_for_the_call() -> None:
    """Each raises an error of its own, so that no two threads share a traceback; who comes later may do better."""
    plane = Plane(SessionBusy("taken", hint="wait"), held=True)
    minting = Minting(plane)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(minting.sign, {"number": 1})
        assert plane.arrived.acquire(timeout=WAIT)
        plane.failing.append(SessionBusy("taken", hint="wait"))
        others = sign_all(minting, pool, [2, 3])
        wait_for_places(minting, 2)
        plane.go.set()
        errors = [future.exception(WAIT) for future in [first, *others]]
    assert [str(error) for error in errors] == ["taken"] * 3
    assert [error.hint for error in errors] == ["wait"] * 3
    assert len({id(error) for error in errors}) == 3
    assert minting.sign({"number": 4}).url == "https://store/4"


def test_renewing_is_a_call() -> None:
    """To keep a lease one call is made, also with nothing to tell."""
    plane = Plane()
    Minting(plane).renew()
    assert plane.calls == [([], [])]

"""Retry: bounded, spread out, and out of one budget; with a clock that does not run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from jettyctl.core.backoff import MAX_RETRY_AFTER, RetryBudget, RetryPolicy
from jettyctl.core.events import Retried
from jettyctl.core.model import ObjectOptions, Upload
from jettyctl.errors import (
    AccessError,
    AlreadyExists,
    CorruptedInTransit,
    IntegrityError,
    Interrupted,
    JettyError,
    NetworkError,
    ServerFault,
    SourceChanged,
    Stalled,
    Throttled,
    UntrustedServer,
)
from jettyctl.files.body import FileBody
from jettyctl.files.crc import crc64
from jettyctl.storage.retry import CORRUPTION_ATTEMPTS, LOOK, Retries, RetryingStore
from tests.support.bodies import Bytes, body_of, changed_body
from tests.support.memory_store import MemoryStore, ScriptedFault

POLICY = RetryPolicy(attempts=5, base=1.0, cap=6.0)
PLAIN = ObjectOptions()


@dataclass(slots=True)
class Waits:
    """Waits that take no time. After `stop_at` of them the run is to stop."""

    stop_at: int = 1 << 30
    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return len(self.seconds) >= self.stop_at


def failing(operation: str, times: int, error: Callable[[], JettyError], *, after: bool = False) -> MemoryStore:
    return MemoryStore(faults=[ScriptedFault(operation, nth, error, after) for nth in range(1, times + 1)])


def broken_server() -> JettyError:
    return ServerFault("500")


def retrying(
    inner: MemoryStore,
    waits: Waits,
    *,
    draw: float = 0.5,
    budget: RetryBudget | None = None,
    notify: Callable[[Retried], None] = lambda _: None,
) -> RetryingStore:
    return RetryingStore(inner, Retries(POLICY, budget or RetryBudget(), waits, lambda: draw, notify))


def test_a_call_is_tried_until_it_succeeds() -> None:
    """What fails four times and then succeeds has succeeded."""
    inner, waits = failing("put", 4, lambda: ServerFault("500")), Waits()
    retrying(inner, waits).put("k", body_of(b"data"), PLAIN)
    assert inner.objects["k"][0] == b"data"
    assert inner.calls["put"] == 5
    assert sum(waits.seconds) == 0.5 + 1 + 2 + 3


def test_attempts_are_bounded() -> None:
    """The last error comes out after as many attempts as the policy grants."""
    inner, waits = failing("put", 99, lambda: ServerFault("500")), Waits()
    with pytest.raises(ServerFault):
        retrying(inner, waits).put("k", body_of(b"data"), PLAIN)
    assert inner.calls["put"] == 5
    assert sum(waits.seconds) == 0.5 + 1 + 2 + 3


@pytest.mark.parametrize(
    ("draw", "expected"), [(0.0, [0, 0, 0, 0]), (0.5, [0.5, 1, 2, 3]), (0.999, [0.999, 1.998, 3.996, 5.994])]
)
def test_jitter(draw: float, expected: list[float]) -> None:
    """A wait lies between nothing and a ceiling that doubles up to the cap."""
    waits = Waits()
    with pytest.raises(ServerFault):
        retrying(failing("head", 99, lambda: ServerFault("500")), waits, draw=draw).head("k")
    assert waits.seconds == pytest.approx(expected)


@pytest.mark.parametrize(("asked", "least"), [(7.0, 7.0), (None, 0.0), (1e9, MAX_RETRY_AFTER), (-3.0, 0.0)])
def test_retry_after(asked: float | None, least: float) -> None:
    """The store's wish is the least wait, up to five minutes; jitter comes on top."""
    waits = Waits()
    retrying(failing("head", 1, lambda: Throttled("slow", retry_after=asked)), waits).head("k")
    assert waits.seconds == [least + 0.5]


@pytest.mark.parametrize(
    "error",
    [AccessError("403"), AlreadyExists("412"), SourceChanged("x"), UntrustedServer("x"), IntegrityError("x"), Interrupted("x")],
)
def test_what_cannot_help_is_not_tried(error: JettyError) -> None:
    """An error that a second try cannot mend comes out at once."""
    inner, waits = failing("put", 99, lambda: error), Waits()
    with pytest.raises(type(error)):
        retrying(inner, waits).put("k", body_of(b"x"), PLAIN)
    assert inner.calls["put"] == 1
    assert waits.seconds == []


def test_corruption_is_tried_three_times() -> None:
    """Bytes that arrive damaged three times are damaged here: no more attempts."""
    inner = failing("put_part", 99, lambda: CorruptedInTransit("BadDigest"))
    upload = Upload("k", inner.create("k", PLAIN, 1, 1), 0.0)
    with pytest.raises(CorruptedInTransit):
        retrying(inner, Waits()).put_part(upload, 1, body_of(b"x"))
    assert inner.calls["put_part"] == CORRUPTION_ATTEMPTS == 3


def test_the_budget_ends_all_retries() -> None:
    """When nothing works, the budget of the process is spent once, not once for each file."""
    budget, waits = RetryBudget(tokens=10.0, cost=5.0, refund=1.0), Waits()
    for _ in range(5):
        with pytest.raises(ServerFault):
            retrying(failing("head", 99, lambda: ServerFault("500")), waits, budget=budget).head("k")
    assert len(waits.seconds) == 2
    healthy = retrying(MemoryStore(), waits, budget=budget)
    for _ in range(5):
        healthy.head("k")
    retrying(failing("head", 1, lambda: ServerFault("500")), waits, budget=budget).head("k")
    assert len(waits.seconds) == 3


def test_a_stop_request_ends_the_wait() -> None:
    """A stop while waiting ends the call with Interrupted, without another attempt."""
    inner = failing("put", 99, lambda: Stalled("nothing moved"))
    with pytest.raises(Interrupted) as raised:
        retrying(inner, Waits(stop_at=2)).put("k", body_of(b"x"), PLAIN)
    assert isinstance(raised.value.__cause__, Stalled)
    assert inner.calls["put"] == 2


def test_nobody_waits_for_a_body_any_more() -> None:
    """A wait ends soon once the file failed, or the chunk arrived by another route: minutes may have been asked for."""
    inner, waits = failing("put_part", 99, lambda: Throttled("slow", retry_after=200.0)), Waits()
    body = FileBody(Bytes(b"x"), 0, 1, crc64(b"x"), stopped=lambda: sum(waits.seconds) > 3)
    upload = Upload("k", inner.create("k", PLAIN, 1, 1), 0.0)
    with pytest.raises(Interrupted):
        retrying(inner, waits).put_part(upload, 1, body)
    assert inner.calls["put_part"] == 1
    assert 3 < sum(waits.seconds) <= 3 + LOOK


def test_a_stop_request_wakes_a_real_wait() -> None:
    """With a real event, a wait of minutes ends as soon as the event is set."""
    stop = threading.Event()
    store = RetryingStore(failing("head", 9, lambda: Throttled("slow", retry_after=200.0)), Retries(wait=stop.wait))
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        store.head("k")
    assert time.monotonic() - began < 2


def test_every_call_but_read_is_tried() -> None:
    """All calls with one answer are tried again; a stream that broke is its reader's."""
    inner, waits = MemoryStore(), Waits()
    upload_id = inner.create("k", PLAIN, 1, 1)
    upload, store = Upload("k", upload_id, 0.0), retrying(inner, waits)
    calls: dict[str, Callable[[], object]] = {
        "head": lambda: store.head("k"),
        "put": lambda: store.put("x", body_of(b"x"), PLAIN),
        "put_part": lambda: store.put_part(upload, 1, body_of(b"x")),
        "list_parts": lambda: store.list_parts(upload),
        "list_uploads": lambda: store.list_uploads("k"),
        "complete": lambda: store.complete(upload, inner.list_parts(upload), size=1, crc64=None),
        "abort": lambda: store.abort(upload),
        "copy": lambda: store.copy("x", "y", PLAIN, 1),
        "delete": lambda: store.delete("y"),
    }
    for operation, call in calls.items():
        inner._faults = {(operation, inner.calls[operation] + 1): ScriptedFault(operation, 0, lambda: NetworkError("cut"))}
        before = len(waits.seconds)
        call()
        assert len(waits.seconds) == before + 1, operation
    inner._faults = {
        ("create", 2): ScriptedFault("create", 2, lambda: NetworkError("cut")),
        ("read", 1): ScriptedFault("read", 1, lambda: NetworkError("cut")),
    }
    assert store.create("k", PLAIN, 1, 1) != upload_id
    with pytest.raises(NetworkError):
        list(store.read("x"))


def test_what_a_store_asked_to_wait_is_told() -> None:
    """As long as it took, after it; other waits are not the store's wish."""
    took: list[float] = []
    slow, broken = ScriptedFault("head", 1, lambda: Throttled("slow", retry_after=9.0)), ScriptedFault("head", 2, broken_server)
    never = threading.Event()
    retries = Retries(POLICY, wait=lambda _: never.wait(0.02), throttled=took.append)
    RetryingStore(MemoryStore(faults=[slow, broken]), retries).head("k")
    assert len(took) == 1
    assert 0.02 <= took[0] < 9


def test_a_body_is_read_anew() -> None:
    """Each attempt sends the whole body, and a source that changed meanwhile is found."""
    inner = failing("put", 2, lambda: ServerFault("500"), after=True)
    retrying(inner, Waits()).put("k", body_of(b"whole"), PLAIN)
    assert inner.objects["k"][0] == b"whole"
    with pytest.raises(SourceChanged):
        retrying(MemoryStore(), Waits()).put("k", changed_body(b"whole", b"other"), PLAIN)


def test_retries_are_told() -> None:
    """Each wait is announced with the operation, the number of failures and the error."""
    told: list[Retried] = []
    retrying(failing("list_uploads", 2, lambda: Throttled("slow")), Waits(), notify=told.append).list_uploads("k")
    assert [(event.operation, event.attempt, event.delay) for event in told] == [
        ("list uploads", 1, 0.5),
        ("list uploads", 2, 1.0),
    ]
    assert all(isinstance(event.error, Throttled) for event in told)

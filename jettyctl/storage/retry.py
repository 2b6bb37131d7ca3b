"""Retry, as a wrapper of any store: bounded, with full jitter, out of one budget for the whole process."""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from jettyctl.core.backoff import RetryBudget, RetryPolicy, delay
from jettyctl.core.events import Retried
from jettyctl.core.model import Limits, ObjectInfo, ObjectOptions, Receipt, Upload
from jettyctl.errors import IntegrityError, Interrupted, JettyError, NetworkError, SessionBusy, Throttled
from jettyctl.storage.base import Body, Store
from jettyctl.storage.wrapper import StoreWrapper

T = TypeVar("T")
LOOK = 0.5  # seconds between two looks whether a body is still wanted
CORRUPTION_ATTEMPTS = 3  # bytes that arrive damaged this often are damaged here, or on purpose


@dataclass(slots=True)
class Retries:
    """What all wrapped stores of a process share. `wait` sleeps, and returns True when the run is to stop. `notify` is told of
    each wait before, and `throttled` after one that a store asked for, how many seconds it took.
    """

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    budget: RetryBudget = field(default_factory=RetryBudget)
    wait: Callable[[float], bool] = field(default_factory=lambda: threading.Event().wait)
    draw: Callable[[], float] = random.random
    notify: Callable[[Retried], None] = lambda _: None
    throttled: Callable[[float], None] = lambda _: None
    calling: set[int] = field(default_factory=set)  # the threads whose calls have not ended


class RetryingStore(StoreWrapper):
    """Tries each call of `inner` again while its error says that this may help.

    `read` is not among them: a stream cannot be taken up half-way, its reader starts over.
    """

    def __init__(self, inner: Store, retries: Retries) -> None:
        super().__init__(inner)
        self._retries = retries

    @functools.cached_property  # asked for each file, and a control plane has to be asked for them
    def limits(self) -> Limits:
        return self._try("limits", lambda: self._inner.limits)

    @property
    def checksum(self) -> str:
        return self._try("checksum", lambda: self._inner.checksum)

    def head(self, key: str) -> ObjectInfo | None:
        return self._try("head", lambda: self._inner.head(key))

    def put(self, key: str, body: Body, options: ObjectOptions, *, if_absent: bool = False) -> ObjectInfo:
        return self._try("put", lambda: self._inner.put(key, body, options, if_absent=if_absent), body.halted)

    def create(self, key: str, options: ObjectOptions, size: int | None, chunk_size: int) -> str:
        return self._try("create", lambda: self._inner.create(key, options, size, chunk_size))

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        return self._try(f"part {number}", lambda: self._inner.put_part(upload, number, body), body.halted)

    def list_parts(self, upload: Upload) -> list[Receipt]:
        return self._try("list parts", lambda: self._inner.list_parts(upload))

    def complete(
        self,
        upload: Upload,
        receipts: Sequence[Receipt],
        *,
        size: int,
        crc64: int | None,
        sha256: str | None = None,
        if_absent: bool = False,
    ) -> ObjectInfo:
        def call() -> ObjectInfo:
            return self._inner.complete(upload, receipts, size=size, crc64=crc64, sha256=sha256, if_absent=if_absent)

        return self._try("complete", call)

    def abort(self, upload: Upload) -> None:
        self._try("abort", lambda: self._inner.abort(upload))

    def list_uploads(self, key: str) -> list[Upload]:
        return self._try("list uploads", lambda: self._inner.list_uploads(key))

    def copy(self, source_key: str, key: str, options: ObjectOptions, size: int, *, if_absent: bool = False) -> ObjectInfo:
        return self._try("copy", lambda: self._inner.copy(source_key, key, options, size, if_absent=if_absent))

    def delete(self, key: str) -> None:
        self._try("delete", lambda: self._inner.delete(key))

    def _try(self, operation: str, call: Callable[[], T], halted: Callable[[], bool] | None = None) -> T:
        self._retries.calling.add(threading.get_ident())
        try:
            return self._until_done(operation, call, halted)
        finally:
            self._retries.calling.discard(threading.get_ident())

    def _until_done(self, operation: str, call: Callable[[], T], halted: Callable[[], bool] | None) -> T:
        failures = 0
        while True:
            try:
                result = call()
            except JettyError as error:
                failures += 1
                if not self._worth_it(error, failures):
                    raise
                self._pause(operation, failures, error, halted)
            else:
                self._retries.budget.succeed()
                return result

    def _worth_it(self, error: JettyError, failures: int) -> bool:
        attempts = CORRUPTION_ATTEMPTS if isinstance(error, IntegrityError) else self._retries.policy.attempts
        if not error.retryable or isinstance(error, Interrupted | SessionBusy) or failures >= attempts:
            return False
        return self._retries.budget.take(len(self._retries.calling))

    def _pause(self, operation: str, failures: int, error: JettyError, halted: Callable[[], bool] | None) -> None:
        asked = error.retry_after if isinstance(error, NetworkError) else None
        seconds = delay(self._retries.policy, failures, self._retries.draw(), asked)
        self._retries.notify(Retried(operation, failures, seconds, error))
        began = time.monotonic()
        try:
            if self._stopped_within(seconds, halted):
                raise Interrupted("stopped on request") from error
        finally:
            if isinstance(error, Throttled):
                self._retries.throttled(time.monotonic() - began)

    def _stopped_within(self, seconds: float, halted: Callable[[], bool] | None) -> bool:
        """Wait; True as soon as the run is to stop, or nobody waits for the body any more."""
        step = LOOK if halted else seconds
        while True:
            if self._retries.wait(min(step, seconds)) or (halted and halted()):
                return True
            if (seconds := seconds - step) <= 0:
                return False

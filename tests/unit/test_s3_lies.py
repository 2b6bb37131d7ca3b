"""Answers that are no answers, from a server that judges: none of them is a success, and most are worth another try."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from jettyctl.core.model import ObjectOptions, Upload
from jettyctl.errors import AccessError, JettyError
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.credentials import Keys, StaticKeys
from jettyctl.storage.s3.sign import Signer
from tests.support.bodies import body_of, noise
from tests.support.judge import Cell, JudgeThread, Storm
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY

BODY = noise(1000)
PLAIN = ObjectOptions()

CALLS: dict[str, Callable[[S3Store, Upload], object]] = {
    "put": lambda store, upload: store.put("key", body_of(BODY), PLAIN),
    "part": lambda store, upload: store.put_part(upload, 1, body_of(BODY)),
    "head": lambda store, upload: store.head("key"),
    "create": lambda store, upload: store.create("key", PLAIN, 1000, 1000),
    "list_parts": lambda store, upload: store.list_parts(upload),
}


def store_at(judge: JudgeThread) -> S3Store:
    keys = StaticKeys(Keys(ACCESS_KEY, SECRET_KEY))
    return S3Store(S3Config("bucket", REGION, judge.endpoint, checksum="crc64nvme"), Signer(keys, REGION))


@pytest.mark.parametrize("op", CALLS)
@pytest.mark.parametrize("kind", ["portal", "ok-error", "timeout-400", "bad-gateway", "error-500"])
def test_no_answer_is_not_success(kind: str, op: str) -> None:
    """A portal's page, an error under a 200, and a 400 that HEAD cannot explain are failures that another try gets over."""
    with JudgeThread(schedule=Cell(1, kind, op, "key")) as judge:
        judge.shelf.begin("key", {}, judge.clock())
        upload = Upload("key", next(iter(judge.shelf.uploads)), 0.0)
        store = store_at(judge)
        with pytest.raises(JettyError) as caught:
            CALLS[op](store, upload)
        assert caught.value.retryable
        CALLS[op](store, upload)
        store.close()


def test_clock_is_corrected_as_often_as_the_store_asks() -> None:
    """A request that was long on its way is signed anew; a second such answer is an AccessError that names the clock."""
    with JudgeThread(schedule=Cell(1, "skew-403", "put", "key", times=4)) as judge:
        store = store_at(judge)
        for _ in range(2):
            with pytest.raises(AccessError, match="RequestTimeTooSkewed") as caught:
                store.put("key", body_of(BODY), PLAIN)
            assert caught.value.retryable
        store.put("key", body_of(BODY), PLAIN)
        store.close()
        assert len(judge.log.of("put")) == 5


def test_clock_that_is_off() -> None:
    """A store whose clock is an hour ahead is served after one refusal; all later requests are signed by its clock."""
    with JudgeThread(clock=lambda: time.time() + 3600) as judge:
        store = store_at(judge)
        for _ in range(3):
            store.put("key", body_of(BODY), PLAIN)
        store.close()
        assert [entry.code for entry in judge.log.of("put")] == ["RequestTimeTooSkewed", "", "", ""]


def test_schedule_of_a_storm_is_kept_by_real_requests() -> None:
    """I9: two runs of the same requests under the same seed meet the same faults."""

    def faults() -> list[tuple[str, int]]:
        with JudgeThread(schedule=Storm(5, 0.5, ["error-500", "portal", "throttle-429", "ok-error"])) as judge:
            store = store_at(judge)
            for number in range(30):
                try:
                    store.put(f"key{number % 7}", body_of(BODY), PLAIN)
                except JettyError:
                    continue
            store.close()
            return [(entry.fault, entry.status) for entry in judge.log.entries]

    first = faults()
    assert first == faults()
    assert len({fault for fault, _ in first}) > 3

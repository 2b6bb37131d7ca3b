"""The judge and the two servers that it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.judge import JudgeThread
from tests.support.servers import client

MIB = 1 << 20


@pytest.fixture
def judge() -> Iterator[JudgeThread]:
    """With AWS's rules; it keeps bytes."""
    with JudgeThread(keep=64 * MIB) as found:
        yield found


@pytest.fixture
def s3(judge: JudgeThread) -> Iterator[Any]:
    """botocore's client for it."""
    with client(judge) as found:
        yield found


@pytest.fixture
def strict() -> Iterator[Callable[..., tuple[JudgeThread, Any]]]:
    """`strict(profile="r2")` is another judge, and a client for it."""
    opened: list[Any] = []

    def start(**options: Any) -> tuple[JudgeThread, Any]:  # noqa: ANN401 - JudgeThread's
        judge = JudgeThread(keep=64 * MIB, **options).__enter__()
        context = client(judge)
        opened.extend((context, judge))
        return judge, context.__enter__()

    yield start
    for item in opened:
        item.__exit__(None, None, None)

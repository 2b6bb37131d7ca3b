"""The stores that the contract is held against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jettyctl.storage.base import Store
from jettyctl.storage.local import LocalStore
from tests.support.memory_store import MemoryStore
from tests.support.stores import SUBJECTS, Subject, s3_store


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    name = request.param
    opened: list[Store] = []

    def again() -> Store:
        if name == "memory":
            opened.append(opened[0] if opened else MemoryStore())
        elif name == "local":
            opened.append(LocalStore(str(tmp_path / "store")))
        else:
            opened.append(s3_store(request.getfixturevalue(name)))
        return opened[-1]

    yield Subject(name, SUBJECTS[name], again(), again)
    for store in opened:
        store.close()

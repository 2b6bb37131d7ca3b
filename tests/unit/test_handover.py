"""What another process does with a file that it is handed, and gives back."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from jettyctl.connection import Connection
from jettyctl.core.model import MIB, Digests, ObjectOptions, Target
from jettyctl.engine.handover import READY, line_of
from jettyctl.engine.shared import Job, Wishes
from jettyctl.files.hashing import Leader
from jettyctl.files.source import Source
from jettyctl.stores import Stores
from jettyctl.wiring import Runtime


class _Growing(Runtime):
    """A run whose file is large once it is opened."""

    def job(self, path: str, target: Target, options: ObjectOptions, wishes: Wishes, *, follow: bool = True) -> Job:
        os.truncate(path, 128 * MIB)
        return super().job(path, target, options, wishes, follow=follow)


def test_a_file_that_grew_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given back, and closed when nobody reads it any more: its descriptor may be another file's then."""
    monkeypatch.setenv("JETTY_DATA_DIR", str(tmp_path / "data"))
    reading: set[Leader] = set()
    read_at_close: list[bool] = []
    lead, close = Leader.run, Source.close

    def noted_lead(leader: Leader) -> Digests:
        reading.add(leader)
        try:
            return lead(leader)
        finally:
            reading.remove(leader)

    def noted_close(source: Source) -> None:
        read_at_close.append(bool(reading))
        close(source)

    monkeypatch.setattr(Leader, "run", noted_lead)
    monkeypatch.setattr(Source, "close", noted_close)
    (tmp_path / "file").write_bytes(b"x")
    answers = io.BytesIO()
    with _Growing(Stores(Connection())) as runtime:
        job = Runtime.job(runtime, str(tmp_path / "file"), Target("local", "", "", "key"), ObjectOptions(), Wishes(5 * MIB))
        runtime.work([line_of([job])], answers)
    ready, answer = answers.getvalue().splitlines(keepends=True)
    assert (ready, json.loads(answer)) == (READY, [None])
    assert read_at_close == [False]

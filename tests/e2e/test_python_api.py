"""`from jettyctl import upload, resume`, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from jettyctl import resume, upload
from jettyctl.core.events import Event, Progress
from jettyctl.errors import SourceError, UsageError
from tests.support.bodies import noise


@pytest.fixture(autouse=True)
def own_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JETTY_DATA_DIR", str(tmp_path / "data"))


def test_a_file_and_the_same_again(tmp_path: Path) -> None:
    """What happened is returned, and the last progress accounts for every byte."""
    path = tmp_path / "file.bin"
    path.write_bytes(noise(11 << 20))
    for status in ("uploaded", "unchanged"):
        events: list[Event] = []
        done = upload(path, "local:", progress=events.append, chunk_size=5 << 20)
        last = [event for event in events if isinstance(event, Progress)][-1]
        assert (done.status, done.size, done in events) == (status, 11 << 20, True)
        assert (last.files_done, last.files_total, last.bytes_done) == (1, 1, done.size)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """It is among the files that were taken up, and among those that ended."""
    events: list[Event] = []
    with pytest.raises(SourceError):
        upload(tmp_path / "missing", "local:", progress=events.append)
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert (last.files_done, last.files_total, last.bytes_total) == (1, 1, 0)


def test_nothing_to_resume() -> None:
    """An id that is not known is the caller's mistake."""
    with pytest.raises(UsageError):
        resume("0123")

"""Single cells where bugs like to hide, quick enough to be run by themselves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import matrix
from tests.faults.trial import MIB, Trial
from tests.support.judge import Cell
from tests.support.running import random_file

CHUNK = 5 * MIB


@pytest.mark.parametrize("kind", ["ok-error", "lost-reply"])
def test_complete_is_neither_believed_nor_repeated_blindly(kind: str) -> None:
    """A 200 with an error in it is no success; an object that was made, though nobody heard of it, is found and not made anew."""
    seen = matrix.run(matrix.places([kind], ["complete"], (1,)))
    assert [problem for item in seen for problem in item.wrong] == []
    assert "starting over" not in seen[0].said


def interrupted_and_resumed(directory: Path, change: Callable[[str], None], size: int = CHUNK) -> Trial:
    """An upload whose second part is refused, a change of the file, and the same command with parts of another size."""
    path = str(directory / "file")
    random_file(path, 3 * CHUNK)

    async def resumed() -> Trial:
        async with Trial("resume", str(directory / "trial"), []) as trial:
            args = ["upload", "--threads", "1", path, "s3://bucket/key", "--chunk-size"]
            await trial.runs([*args, str(CHUNK)], Cell(1, "expired", "part", "key", times=1, part=2), 60.0)
            change(path)
            assert (await trial.runs([*args, str(size)], None, 60.0)).status == 0
            return trial

    trial = asyncio.run(resumed())
    assert trial.wrong == []
    assert trial.judge.shelf.objects["key"].holds(Path(path).read_bytes())
    return trial


def test_a_resume_keeps_the_size_of_its_parts(tmp_path: Path) -> None:
    """Another --chunk-size than that of the upload that is gone on with changes nothing: no part is sent twice."""
    trial = interrupted_and_resumed(tmp_path, lambda path: None, CHUNK + MIB)
    assert len(trial.judge.log.of("create")) == 1
    assert [entry.size for entry in trial.judge.log.of("part") if entry.applied] == [CHUNK] * 3


def test_a_resume_knows_a_file_by_more_than_its_time(tmp_path: Path) -> None:
    """Other bytes under the old time stamp, between two runs: nothing of the first is used."""

    def change(path: str) -> None:
        before = os.stat(path)
        with open(path, "r+b") as file:
            file.write(b"other bytes")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    trial = interrupted_and_resumed(tmp_path, change)
    assert len(trial.judge.log.of("create")) == 2

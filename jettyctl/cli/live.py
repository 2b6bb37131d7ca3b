"""Live progress on a terminal: one line for the whole run; among several files, one more for each large one in work."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from jettyctl.core import events
from jettyctl.core.names import printable
from jettyctl.core.units import format_rate

NAME_WIDTH = 32


@dataclass(slots=True)
class _File:
    """A file in parts. It has a line of its own once there are other files."""

    name: str
    size: int
    done: int
    line: TaskID | None = None


class LiveProgress:
    """Keeps the promises of `human.ProgressView`."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            DownloadColumn(binary_units=True),
            _Speed(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        self._total: TaskID | None = None
        self._files: dict[str, _File] = {}

    def update(self, progress: events.Progress) -> None:
        self._bars.start()
        if self._total is None:
            self._total = self._bars.add_task("total", total=None)
        several = progress.files_total > 1
        only = next((file.name for file in self._files.values()), "total")
        name = f"{progress.files_done}/{progress.files_total} files" if several else only
        self._bars.update(self._total, description=name, completed=progress.bytes_shown, total=progress.bytes_total or None)
        for file in self._files.values() if several else ():
            if file.line is None:
                file.line = self._bars.add_task(file.name, total=file.size or None)
            self._bars.update(file.line, completed=file.done)

    def file(self, started: events.SessionStarted) -> None:
        self._files[started.session_id] = _File(_short(started.source), started.size, started.reused)

    def chunk(self, done: events.ChunkDone) -> None:
        file = self._files.get(done.session_id)
        if file is None:
            return
        file.done += done.length
        if file.done == file.size and file.line is not None:
            self._bars.remove_task(file.line)
            del self._files[done.session_id]

    def clear(self) -> None:
        """Take the lines away, because somebody else writes; the next update draws them again."""
        self._bars.stop()

    def close(self) -> None:
        self._bars.stop()


class _Speed(ProgressColumn):
    """The speed in the units of everything else here; rich's own column is decimal."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(format_rate(speed) if speed else "?", style="progress.data.speed")


def _short(name: str) -> str:
    shown = printable(name).rsplit("/", 1)[-1]
    return shown if len(shown) <= NAME_WIDTH else "…" + shown[-NAME_WIDTH + 1 :]

"""Live progress on a terminal: one line for the whole run, and one for each large file in work."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from jettyctl.core import events
from jettyctl.core.names import printable

NAME_WIDTH = 32


class LiveProgress:
    """Keeps the promises of `human.ProgressView`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            expand=True,
        )
        self._total: TaskID | None = None
        self._files: dict[str, tuple[TaskID, int]] = {}

    def update(self, progress: events.Progress) -> None:
        if self._total is None:
            self._bars.start()
            self._total = self._bars.add_task("total", total=None)
        name = f"{progress.files_done}/{progress.files_total} files" if progress.files_total > 1 else "total"
        self._bars.update(self._total, description=name, completed=progress.bytes_done, total=progress.bytes_total or None)

    def file(self, started: events.SessionStarted) -> None:
        task = self._bars.add_task(_short(started.source), total=started.size or None, completed=started.reused)
        self._files[started.session_id] = (task, started.size - started.reused)

    def chunk(self, done: events.ChunkDone) -> None:
        if found := self._files.get(done.session_id):
            task, left = found
            self._bars.advance(task, done.length)
            left -= done.length
            self._files[done.session_id] = (task, left)
            if left == 0:
                self._bars.remove_task(task)

    def clear(self) -> None:
        """Rich's own console would move the bars down; other writers need them gone for a moment."""
        if self._bars.live.is_started:
            self._bars.stop()
            self._bars.start()

    def close(self) -> None:
        self._bars.stop()


def _short(name: str) -> str:
    shown = printable(name).rsplit("/", 1)[-1]
    return shown if len(shown) <= NAME_WIDTH else "…" + shown[-NAME_WIDTH + 1 :]

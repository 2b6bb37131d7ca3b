"""The mode for people: results on standard output, one line for each file; progress and talk on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

from jettyctl.cli.json_lines import summary_of
from jettyctl.cli.output import error_line
from jettyctl.cli.streams import SafeStream, interactive
from jettyctl.core.bottleneck import MEANING
from jettyctl.core.events import ChunkDone, Event, FileDone, FileFailed, Note, Planned, Progress, Retried, SessionStarted
from jettyctl.core.names import printable
from jettyctl.core.units import format_duration, format_rate, format_size
from jettyctl.engine.batch import Outcome
from jettyctl.engine.lanes import RouteReport
from jettyctl.errors import Interrupted

PLAIN_PERIOD = 5.0  # seconds between two progress lines where no terminal is


class ProgressView(Protocol):
    """Draws progress: live on a terminal, or as lines."""

    def update(self, progress: Progress) -> None: ...

    def file(self, started: SessionStarted) -> None: ...

    def chunk(self, done: ChunkDone) -> None: ...

    def clear(self) -> None:
        """Take away what is drawn, because a line is to be written."""

    def close(self) -> None: ...


class HumanOutput:
    """Keeps the promises of `cli.output.Output`."""

    def __init__(self, *, progress: bool | None, verbosity: int, local_path: Callable[[str], str]) -> None:
        self._results = SafeStream(sys.stdout)
        self._talk = SafeStream(sys.stderr)
        self._verbosity = verbosity
        self._local_path = local_path
        self._view = _view(self._talk, progress)
        self._kept: Progress | None = None

    def event(self, event: Event) -> None:
        match event:
            case Progress():
                self._kept = event
                self._view.update(event)
            case ChunkDone():
                self._view.chunk(event)
                if self._verbosity > 1:
                    self._say(f"chunk {event.index} of session {event.session_id} is there")
            case SessionStarted():
                self._view.file(event)
                self._tell_start(event)
            case FileDone():
                self._result(event)
            case FileFailed(error=Interrupted()):
                pass  # said once for the whole run, by `finish`
            case FileFailed():
                self._view.clear()
                self._talk.line(error_line(event.error, event.source))
            case _:
                self._aside(event)

    def warn(self, text: str) -> None:
        self._say(text)

    def finish(self, outcome: Outcome, resume_command: str | None) -> None:
        self._view.close()
        for planned in outcome.planned:
            self._results.line(_plan_line(planned))
        if outcome.planned:
            self._say(_plan_total(outcome.planned))
        elif len(outcome.done) + len(outcome.failed) > 1:
            self._say(_summary_line(outcome))
        if self._verbosity or any(report.id for report in outcome.routes):
            for report in outcome.routes:
                self._say(_route_line(report))
        if self._verbosity and outcome.bottleneck:
            self._say(f"limited by {MEANING[outcome.bottleneck]}")
        if resume_command:
            kept = (
                f"{format_size(self._kept.bytes_done)} of {format_size(self._kept.bytes_total)} are kept"
                if self._kept
                else "nothing was sent"
            )
            self._talk.line(f"jettyctl: stopped; {kept}. Go on with: {printable(resume_command)}")

    def _aside(self, event: Event) -> None:
        match event:
            case Note() if event.level == "warning" or self._verbosity >= (1 if event.level == "info" else 2):
                self._say(event.text)
            case Retried() if self._verbosity > 1:
                self._say(f"{event.operation} failed ({event.error.message}); once more in {event.delay:.1f} s")
            case Planned() if self._verbosity:
                self._say(_plan_line(event))
            case _:
                pass

    def _tell_start(self, event: SessionStarted) -> None:
        if event.reused:
            there, size = format_size(event.reused), format_size(event.size)
            self._say(f"resumed: {there} of {size} already there ({printable(event.source)})")
        if self._verbosity:
            self._say(f"session {event.session_id}")

    def _result(self, done: FileDone) -> None:
        self._view.clear()
        speed = f"  {format_rate(done.bytes_sent / done.seconds)}" if done.bytes_sent and done.seconds else ""
        reused = f"  {format_size(done.bytes_reused)} reused" if done.bytes_reused and done.bytes_sent else ""
        digest = f"  sha256:{done.sha256}" if done.sha256 else ""
        self._results.line(f"{done.status}  {printable(done.url)}  {format_size(done.size)}{speed}{reused}{digest}")
        if done.url.startswith("local:") and done.status == "uploaded" and self._verbosity:
            self._say(f"it is at {printable(self._local_path(done.url[6:]))}")

    def _say(self, text: str) -> None:
        self._view.clear()
        self._talk.line(f"jettyctl: {printable(text)}")


class _Nothing:
    """No progress."""

    def update(self, progress: Progress) -> None: ...

    def file(self, started: SessionStarted) -> None: ...

    def chunk(self, done: ChunkDone) -> None: ...

    def clear(self) -> None: ...

    def close(self) -> None: ...


class _Lines(_Nothing):
    """A plain line every few seconds: for logs."""

    def __init__(self, talk: SafeStream) -> None:
        self._talk = talk
        self._next = time.monotonic() + PLAIN_PERIOD

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PLAIN_PERIOD
            self._talk.line(f"jettyctl: {progress_text(progress)}")


def progress_text(progress: Progress) -> str:
    """`61.2 GiB of 80.0 GiB (76 %), 112.4 MiB/s, 2:49 left`."""
    done, total = progress.bytes_shown, progress.bytes_total
    rate = progress.bytes_sent / progress.seconds if progress.seconds else 0.0
    if total < done or not total:  # a stream, whose end nobody knows
        return f"{format_size(done)} sent, {format_rate(rate)}"
    text = f"{format_size(done)} of {format_size(total)} ({100 * done // total} %)"
    if progress.files_total > 1:
        text += f", {progress.files_done} of {progress.files_total} files"
    if rate > 0:
        text += f", {format_rate(rate)}, {format_duration(max(0, total - done) / rate)} left"
    return text


def _view(talk: SafeStream, wanted: bool | None) -> ProgressView:
    if wanted is False:
        return _Nothing()
    if interactive(talk):
        from jettyctl.cli.live import LiveProgress

        return LiveProgress()
    return _Lines(talk)


def _plan_line(plan: Planned) -> str:
    how = f"{plan.chunks} chunks of {format_size(plan.chunk_size)}" if plan.multipart else "one request"
    head = f"{plan.action}  {printable(plan.source)} -> {printable(plan.url)}  {format_size(plan.size)}"
    if plan.action in ("skip", "unchanged"):
        return head
    reused = f", {format_size(plan.bytes_reused)} already there" if plan.bytes_reused else ""
    return f"{head}  {how}, up to {plan.threads} threads, checksum {plan.checksum}{reused}"


def _plan_total(plans: list[Planned]) -> str:
    send = [plan for plan in plans if plan.action in ("upload", "resume")]
    size = format_size(sum(plan.size - plan.bytes_reused for plan in send))
    return f"dry run: {len(send)} of {len(plans)} files would be sent, {size}; nothing was"


def _route_line(report: RouteReport) -> str:
    name = f"edge {report.id}" if report.id else "direct"
    said = f"{name}: {report.chunks} chunks, {format_size(report.bytes)}, {format_rate(report.rate)}"
    if report.hedges:
        said += f", {report.hedges} taken over from slower routes"
    return f"{said}, {report.errors} errors (last: {report.last_error})" if report.errors else said


def _summary_line(outcome: Outcome) -> str:
    counts = summary_of(outcome)
    parts = [f"{counts[name]} {name}" for name in ("uploaded", "unchanged", "cloned", "skipped", "failed") if counts[name]]
    sent = format_size(sum(done.bytes_sent for done in outcome.done))
    return f"{counts['files']} files: {', '.join(parts) or 'none'}; {sent} sent in {format_duration(outcome.seconds)}"

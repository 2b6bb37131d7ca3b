"""The JSON mode: one object a line on standard output. What each line holds is documented in docs/json.md."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict

from jettyctl.cli.output import error_line, error_record, json_line
from jettyctl.cli.streams import SafeStream
from jettyctl.core.events import Event, FileDone, FileFailed, Note, Planned, Progress
from jettyctl.core.names import printable
from jettyctl.engine.batch import Outcome
from jettyctl.engine.lanes import RouteReport
from jettyctl.errors import Interrupted, JettyError

_COUNTED = ("resumed", "unchanged", "cloned", "skipped")
PROGRESS_PERIOD = 0.5  # seconds between two progress lines


class JsonOutput:
    """Keeps the promises of `cli.output.Output`."""

    def __init__(self, *, progress: bool | None, verbosity: int) -> None:
        self._out = SafeStream(sys.stdout)
        self._talk = SafeStream(sys.stderr)
        self._progress = progress is not False
        self._verbosity = verbosity
        self._last = 0.0

    def event(self, event: Event) -> None:
        match event:
            case Planned():
                self._line("plan", event._asdict())
            case Progress():
                self._tell_progress(event)
            case FileDone():
                self._line("result", event._asdict())
            case FileFailed():
                record = error_record(event.error, event.source, url=event.url, session_id=event.session_id)
                self._out.line(json_line(record))
            case Note() if event.level == "warning" or self._verbosity:
                self.warn(event.text)
            case _:
                pass

    def warn(self, text: str) -> None:
        self._talk.line(f"jettyctl: {printable(text)}")

    def finish(self, outcome: Outcome, resume_command: str | None) -> None:
        self._line("summary", summary_of(outcome) | ({"resume": resume_command} if resume_command else {}))

    def _line(self, kind: str, record: dict[str, object]) -> None:
        self._out.line(json_line({"type": kind, **record}))

    def _tell_progress(self, event: Progress) -> None:
        now = time.monotonic()
        if self._progress and now - self._last >= PROGRESS_PERIOD:
            self._last = now
            self._line("progress", event._asdict())


class QuietOutput:
    """Errors and warnings, nothing else."""

    def __init__(self) -> None:
        self._talk = SafeStream(sys.stderr)

    def event(self, event: Event) -> None:
        if isinstance(event, FileFailed) and not isinstance(event.error, Interrupted):
            self._error(event.error, event.source)
        elif isinstance(event, Note) and event.level == "warning":
            self.warn(event.text)

    def warn(self, text: str) -> None:
        self._talk.line(f"jettyctl: {printable(text)}")

    def finish(self, outcome: Outcome, resume_command: str | None) -> None:
        """Nothing is said of what went well."""

    def _error(self, error: JettyError, source: str) -> None:
        self._talk.line(error_line(error, source))


def summary_of(outcome: Outcome) -> dict[str, object]:
    """The counts of a run."""
    counts = {status: sum(done.status == status for done in outcome.done) for status in _COUNTED}
    return {
        "files": len(outcome.done) + len(outcome.failed) + len(outcome.planned),
        "uploaded": sum(done.status in ("uploaded", "resumed") for done in outcome.done),
        **counts,
        "failed": len(outcome.failed),
        "bytes": sum(done.size for done in outcome.done),
        "bytes_sent": sum(done.bytes_sent for done in outcome.done),
        "bytes_reused": sum(done.bytes_reused for done in outcome.done),
        "seconds": round(outcome.seconds, 3),
        "interrupted": outcome.interrupted,
        "bottleneck": outcome.bottleneck,
        "routes": [route_record(report) for report in outcome.routes],
    }


def route_record(report: RouteReport) -> dict[str, object]:
    """What a route did, for the JSON output. `rate` is bytes a second while it had a request in flight."""
    return {**asdict(report), "id": report.id or "direct", "seconds": round(report.seconds, 3), "rate": round(report.rate)}

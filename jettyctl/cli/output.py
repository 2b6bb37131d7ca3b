"""What a run says, and where: one sink with modes. Results go to stdout, progress and talk to stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Protocol

from jettyctl.cli.streams import SafeStream
from jettyctl.core.names import printable
from jettyctl.errors import JettyError

if TYPE_CHECKING:  # importing the engine takes longer than most commands run
    from jettyctl.core.events import Event
    from jettyctl.engine.batch import Outcome

SCHEMA = 1
_TRY_AGAIN = "Check the network and the address (--endpoint-url, --control), then run the same command again."


class Output(Protocol):
    """A mode: human, JSON or quiet. Called on one thread."""

    def event(self, event: Event) -> None:
        """Something happened."""

    def warn(self, text: str) -> None:
        """Something that must be seen even when all else is quiet."""

    def finish(self, outcome: Outcome, resume_command: str | None) -> None:
        """The run is over. `resume_command` goes on with it, where something is left to go on with."""


def error_line(error: JettyError, source: str | None = None) -> str:
    """The one line for people: what happened, and what to do."""
    where = f"{printable(source)}: " if source and printable(source) not in error.message else ""
    hint = error.hint or (_TRY_AGAIN if error.retryable else "")
    return printable(f"jettyctl: {where}{error.message.rstrip('.')}. {hint}".rstrip())  # servers' own words are in it


def error_record(error: JettyError, source: str | None = None, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    """The `error` object of the JSON output."""
    return {
        "type": "error",
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "source": source,
        "retryable": error.retryable,
        "exit_code": error.exit_status,
        **more,
    }


def json_line(record: dict[str, Any]) -> str:
    """One line of the JSON output. Undecodable bytes of names stay exact, as surrogate escapes."""
    return json.dumps({"schema": SCHEMA, **record}, ensure_ascii=True)


def fatal(error: JettyError, *, json_mode: bool) -> int:
    """Report an error that ended the command; its exit status."""
    if json_mode:
        SafeStream(sys.stdout).line(json_line(error_record(error)))
    else:
        SafeStream(sys.stderr).line(error_line(error))
    return error.exit_status

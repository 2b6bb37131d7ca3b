"""What upload and resume share: choosing the output mode, and turning an outcome into words and an exit status."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from jettyctl.cli.streams import mute_at_exit
from jettyctl.errors import SomeFailed

if TYPE_CHECKING:
    from jettyctl.cli.output import Output
    from jettyctl.engine.batch import Outcome
    from jettyctl.wiring import Runtime


def choose_output(*, json: bool, quiet: bool, verbosity: int, progress: bool | None, no_verify_tls: bool) -> Output:
    """The mode that the options ask for. Unverified TLS is never quiet."""
    from jettyctl.cli.json_lines import JsonOutput, QuietOutput

    output: Output
    if json:
        output = JsonOutput(progress=progress, verbosity=verbosity)
    elif quiet:
        output = QuietOutput()
    else:
        from jettyctl.cli.human import HumanOutput

        output = HumanOutput(progress=progress, verbosity=verbosity, local_path=_local_path)
    if no_verify_tls:
        output.warn("WARNING: certificates are not verified: anyone in between can read and change what is sent")
    return output


def _local_path(key: str) -> str:
    """The file that holds an object of the embedded store."""
    from jettyctl import paths
    from jettyctl.storage.local import LocalStore

    return LocalStore(paths.local_store()).path_of(key)


def conclude(outcome: Outcome, runtime: Runtime, output: Output, *, again: str) -> None:
    """Say how it ended, and leave with the exit status that says the same. `again` is the command that was given."""
    if not (outcome.done or outcome.failed or outcome.planned or outcome.interrupted):
        output.warn("no file was left to upload")
    left = outcome.interrupted and (outcome.failed or outcome.unstarted or outcome.abandoned)
    output.finish(outcome, _resume_command(outcome, again) if left else None)
    status = runtime.stop.exit_status if left else exit_status(outcome)
    if outcome.abandoned:  # threads hang in the kernel: nothing is gained by waiting for them
        mute_at_exit()
        os._exit(status)
    raise typer.Exit(status)


def exit_status(outcome: Outcome) -> int:
    """0 if all went well; what failed if it is all the same; else that some failed."""
    if not outcome.failed:
        return 0
    statuses = {failure.error.exit_status for failure in outcome.failed}
    alone = not outcome.done and len(statuses) == 1
    return statuses.pop() if alone else SomeFailed.exit_status


def _resume_command(outcome: Outcome, again: str) -> str:
    sessions = [failure.session_id for failure in outcome.failed if failure.session_id]
    only = len(outcome.failed) == 1 and not outcome.unstarted and not outcome.done
    return f"jettyctl resume {sessions[0]}" if only and sessions else again

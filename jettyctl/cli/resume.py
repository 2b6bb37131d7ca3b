"""`jettyctl resume`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from jettyctl.cli import options as o
from jettyctl.core.names import printable
from jettyctl.errors import JettyError, UsageError

if TYPE_CHECKING:
    from jettyctl.core.events import FileFailed
    from jettyctl.core.session import Session
    from jettyctl.engine.shared import Job
    from jettyctl.journal.base import Journal
    from jettyctl.wiring import Runtime


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("resume", help=resume.__doc__)(resume)


def resume(
    sessions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SESSION]... [SOURCE]",
            help="Ids, or how they begin; a file after the id goes on with a session that another machine began.",
        ),
    ] = None,
    all_sessions: Annotated[bool, typer.Option("--all", help="All unfinished sessions.")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take a session that another machine works on; that one stops.")
    ] = False,
    threads: o.Threads = 0,
    no_edges: o.NoEdges = False,
    limit_rate: o.LimitRate = None,
    control: o.Control = None,
    endpoint_url: o.EndpointUrl = None,
    region: o.Region = None,
    profile: o.Profile = None,
    addressing: o.Addressing = o.AddressingStyle.AUTO,
    checksum: o.Checksum = o.ChecksumName.AUTO,
    ca_file: o.CaFile = None,
    no_verify_tls: o.NoVerifyTls = False,
    no_sign_request: o.NoSignRequest = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
    progress: o.Progress = None,
) -> None:
    """Go on with unfinished uploads: only what the store does not have yet is sent. Without SESSION: the only one there is."""
    from jettyctl.cli.remote import bring_here, elsewhere
    from jettyctl.cli.running import choose_output, conclude
    from jettyctl.stores import Stores
    from jettyctl.wiring import Runtime

    connection = o.connection(
        endpoint_url=endpoint_url,
        region=region,
        profile=profile,
        addressing=addressing,
        checksum=checksum,
        ca_file=ca_file,
        no_verify_tls=no_verify_tls,
        no_sign_request=no_sign_request,
        limit_rate=limit_rate,
        control=control,
    )
    output = choose_output(json=json, quiet=quiet, verbosity=verbose, progress=progress, no_verify_tls=no_verify_tls)
    edges = o.edge_wishes(no_edges=no_edges, priority=o.Priority.BALANCED, location=None, budget=None)
    choice = o.edge_choice(no_edges=no_edges, priority=o.Priority.BALANCED, location=None, budget=None)
    with Runtime(Stores(connection, take_over=take_over), emit=output.event, edges=edges, choice=choice) as runtime:
        abroad = elsewhere(runtime.journal, sessions or [], configured=bool(control))
        if abroad:
            chosen = [bring_here(runtime, *abroad, take_over=take_over)]
        else:
            chosen = choose(runtime.journal, sessions or [], all_sessions=all_sessions)
        if not chosen:
            output.warn("there is nothing to resume")
            return
        outcome = runtime.run(_jobs(runtime, chosen, threads or None), threads=threads or None)
        conclude(outcome, runtime, output, again=shlex.join(["jettyctl", *sys.argv[1:]]))


def choose(journal: Journal, named: list[str], *, all_sessions: bool) -> list[Session]:
    """The unfinished sessions that are meant. Raises UsageError."""
    from jettyctl.files.source import STDIN_PATH

    if named and all_sessions:
        raise UsageError("--all leaves nothing to name", hint="Give either --all or session ids.")
    if named:
        return [one_session(journal, prefix) for prefix in named]
    waiting = [s for s in journal.sessions() if s.unfinished and s.upload_id and s.source.path != STDIN_PATH]
    if len(waiting) > 1 and not all_sessions:
        ids = ", ".join(session.session_id[:8] for session in waiting[:5])
        raise UsageError(f"{len(waiting)} sessions are unfinished ({ids}, …)", hint="Name one, or give --all.")
    return waiting


def one_session(journal: Journal, prefix: str, *, unfinished: bool = True) -> Session:
    """The session whose id is, or starts with, `prefix`. Raises UsageError if there is none, or more than one."""
    found = journal.match(prefix)
    if not found:
        raise UsageError(f"there is no session {printable(prefix)}", hint="Run `jettyctl sessions list` to see them.")
    if len(found) > 1:
        raise UsageError(f"{len(found)} sessions start with {printable(prefix)}", hint="Give more of the id.")
    if unfinished and not found[0].unfinished:
        raise UsageError(
            f"session {found[0].session_id} is {found[0].status.value}",
            hint="Run the upload again: it sends only what is missing.",
        )
    return found[0]


def _jobs(runtime: Runtime, sessions: list[Session], threads: int | None) -> Iterator[Job | FileFailed]:
    from jettyctl.core.events import FileFailed
    from jettyctl.engine.shared import Wishes

    for session in sessions:
        try:
            yield runtime.job_of(session, Wishes(threads=threads))
        except JettyError as error:
            yield FileFailed(session.source.path, session.target.url, error, session.session_id)

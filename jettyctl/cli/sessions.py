"""`jettyctl sessions`: what is unfinished, and what to do with it."""

from __future__ import annotations

import json as jsonlib
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jettyctl.cli import options as o
from jettyctl.cli.output import SCHEMA
from jettyctl.cli.resume import one_session
from jettyctl.cli.streams import SafeStream
from jettyctl.core.names import printable
from jettyctl.core.units import format_duration, format_size, parse_age
from jettyctl.errors import JettyError, SourceError, UsageError

if TYPE_CHECKING:
    from jettyctl.connection import Connection
    from jettyctl.core.session import Session

commands = typer.Typer(
    help="Look at uploads that are not finished, and at recent ones.", no_args_is_help=True, rich_markup_mode=None
)
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="An id, or how it begins.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="sessions")


Remote = Annotated[bool, typer.Option("--remote", help="Sessions that the control plane keeps, of all your machines.")]


@commands.command("list")
def list_sessions(remote: Remote = False, control: o.Control = None, json: o.Json = False) -> None:
    """List sessions, the last used first."""
    from jettyctl.connection import Connection
    from jettyctl.stores import Stores
    from jettyctl.wiring import Runtime

    out = SafeStream(sys.stdout)
    if remote:
        _list_remote(out, control, json=json)
        return
    with Runtime(Stores(Connection())) as runtime:
        sessions = runtime.journal.sessions()
    if json:
        out.line(jsonlib.dumps({"schema": SCHEMA, "type": "sessions", "sessions": [s.to_json() for s in sessions]}))
        return
    if not sessions:
        SafeStream(sys.stderr).line("jettyctl: there are no sessions")
    for session in sessions:
        out.line(_line(session))


@commands.command("show")
def show(session_id: SessionId, json: o.Json = False) -> None:
    """Show one session and its chunks."""
    from jettyctl.connection import Connection
    from jettyctl.stores import Stores
    from jettyctl.wiring import Runtime

    out = SafeStream(sys.stdout)
    with Runtime(Stores(Connection())) as runtime:
        session = one_session(runtime.journal, session_id, unfinished=False)
        record = export_record(session, runtime.journal.chunks(session.session_id))
    if json:
        out.line(jsonlib.dumps({"schema": SCHEMA, "type": "session", **record}))
        return
    for name, value in record["session"].items():
        shown = jsonlib.dumps(value) if isinstance(value, dict | list) else printable(str(value))
        out.line(f"{name:16} {shown}")
    for index, chunk in record["chunks"].items():
        out.line(f"chunk {index:>6}     {chunk['status']}  {format_size(chunk['bytesUploaded'])}  {chunk['chunkHash']}")


@commands.command("abort")
def abort(
    session_id: SessionId,
    remote: Remote = False,
    control: o.Control = None,
    endpoint_url: o.EndpointUrl = None,
    region: o.Region = None,
    profile: o.Profile = None,
) -> None:
    """Give a session up: its parts are removed from the store. The source is not touched."""
    from jettyctl.engine.housekeeping import abort_session
    from jettyctl.stores import Stores
    from jettyctl.wiring import Runtime

    connection = o.connection(endpoint_url=endpoint_url, region=region, profile=profile, control=control)
    if remote:
        _abort_remote(connection, session_id)
        return
    with Runtime(Stores(connection)) as runtime:
        session = one_session(runtime.journal, session_id)
        abort_session(runtime.journal, runtime.store_of(session), session, time.time())
    SafeStream(sys.stdout).line(f"aborted  {session.session_id}  {printable(session.target.url)}")


@commands.command("export")
def export(session_id: SessionId) -> None:
    """Write a session to standard output, for `import` on another machine that has the same bytes. It holds no secrets."""
    from jettyctl.connection import Connection
    from jettyctl.stores import Stores
    from jettyctl.wiring import Runtime

    with Runtime(Stores(Connection())) as runtime:
        session = one_session(runtime.journal, session_id)
        record = export_record(session, runtime.journal.chunks(session.session_id))
    SafeStream(sys.stdout).line(jsonlib.dumps({"schema": SCHEMA, "type": "session", **record}))


@commands.command("import")
def import_session(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="What `export` wrote.")],
    source: Annotated[
        str | None, typer.Option("--source", help="Where the same file lies on this machine.", metavar="FILE")
    ] = None,
) -> None:
    """Take a session over from another machine. Its chunks are compared with the file before any is trusted."""
    from jettyctl.connection import Connection
    from jettyctl.engine.housekeeping import adopt_session
    from jettyctl.stores import Stores
    from jettyctl.wiring import Runtime

    data = _read_json(file)
    with Runtime(Stores(Connection())) as runtime:
        session = adopt_session(runtime.journal, data, source, time.time())
    SafeStream(sys.stdout).line(f"imported  {session.session_id}  {printable(session.target.url)}")
    hint = f"--endpoint-url {session.target.endpoint} " if session.target.scheme == "s3" and session.target.endpoint else ""
    SafeStream(sys.stderr).line(f"jettyctl: go on with: jettyctl resume {hint}{session.session_id}")


@commands.command("gc")
def gc(
    older_than: Annotated[
        str, typer.Option("--older-than", help="Leave alone what was used since, as 7d or 12h.", metavar="AGE")
    ] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    endpoint_url: o.EndpointUrl = None,
    region: o.Region = None,
    profile: o.Profile = None,
    json: o.Json = False,
) -> None:
    """Clean up: abort old unfinished uploads at the stores, those that lost their record too, and forget old sessions."""
    from jettyctl.engine.housekeeping import collect_garbage
    from jettyctl.stores import Stores
    from jettyctl.wiring import Runtime

    out, failures = SafeStream(sys.stdout), 0
    connection = o.connection(endpoint_url=endpoint_url, region=region, profile=profile)
    with Runtime(Stores(connection)) as runtime:
        before = time.time() - parse_age(older_than)
        for item in collect_garbage(runtime.journal, runtime.store_of, before, dry_run=dry_run):
            failures += item.error is not None
            if json:
                out.line(jsonlib.dumps({"schema": SCHEMA, "type": "gc", **item.to_json(), "dry_run": dry_run}))
            else:
                verb = "would remove" if dry_run else "removed"
                said = f"failed ({item.error.message})" if item.error else verb
                out.line(f"{said}  {item.kind}  {item.session_id}  {printable(item.url)}")
    if failures:
        raise JettyError(f"{failures} items could not be removed", hint="Run the same command again later.")


def export_record(session: Session, chunks: Any) -> dict[str, Any]:  # noqa: ANN401 - the journal's mapping of chunk records
    """A session and its chunks in the shared schema."""
    return {"session": session.to_json(), "chunks": {str(index): chunks[index].to_json() for index in sorted(chunks)}}


def _list_remote(out: SafeStream, control: str | None, *, json: bool) -> None:
    from jettyctl.cli.remote import line_of
    from jettyctl.connection import Connection
    from jettyctl.control.sessions import listing, parsed
    from jettyctl.stores import Stores
    from jettyctl.wiring import Runtime

    with Runtime(Stores(Connection(control=control))) as runtime:
        found = listing(runtime.stores.control_store(runtime.stores.plane()).control)
    if json:
        out.line(jsonlib.dumps({"schema": SCHEMA, "type": "sessions", "sessions": found}))
        return
    if not found:
        SafeStream(sys.stderr).line("jettyctl: there are no sessions")
    for session in found:
        out.line(line_of(parsed(session)))


def _abort_remote(connection: Connection, named: str) -> None:
    """The local record of it, where there is one, finds out by itself: its upload is gone."""
    from jettyctl.control.sessions import fetch
    from jettyctl.stores import Stores
    from jettyctl.wiring import Runtime

    with Runtime(Stores(connection)) as runtime:
        store = runtime.stores.control_store(runtime.stores.plane())
        session = fetch(store.control, named)
        store.give_up(session.session_id)
    SafeStream(sys.stdout).line(f"aborted  {session.session_id}  jetty:{printable(session.key)}")


def _line(session: Session) -> str:
    done = f"{format_size(session.bytes_uploaded)} of {format_size(session.size)}"
    age = format_duration(max(0.0, time.time() - session.last_updated))
    path, url = printable(session.source.path), printable(session.target.url)
    return f"{session.session_id}  {session.status.value:11}  {done}  {age} ago  {path} -> {url}"


def _read_json(file: str) -> Any:  # noqa: ANN401 - judged by whoever asked
    try:
        if file == "-":
            return jsonlib.load(sys.stdin)
        with open(file, encoding="utf-8") as stream:
            return jsonlib.load(stream)
    except OSError as error:
        raise SourceError(f"cannot read {printable(file)}: {error.strerror}", hint="Check the path.") from None
    except (ValueError, RecursionError):
        raise UsageError(
            f"{printable(file)} is not an exported session", hint="Give a file that `sessions export` wrote."
        ) from None

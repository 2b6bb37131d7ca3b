"""`jettyctl keys`: who may use the control plane. It speaks to the database, so it works where the service runs."""

from __future__ import annotations

import datetime
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jettyctl.cli.output import json_line
from jettyctl.cli.server_options import DatabaseUrl, with_database
from jettyctl.cli.streams import SafeStream
from jettyctl.core.names import printable
from jettyctl.core.units import parse_age
from jettyctl.errors import UsageError

if TYPE_CHECKING:  # the client does not load the server
    from jettyctl.server.control.keys import KeyRecord

commands = typer.Typer(help="Make, list and revoke the keys of a control plane.", no_args_is_help=True, rich_markup_mode=None)
# Not options.Json: a JETTY_ variable for it would change what a script reads.
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="keys")


@commands.command("create")
def create(
    user: Annotated[str, typer.Option("--user", help="Whose key it is, as usr_abc.", metavar="USER")],
    tenant: Annotated[str, typer.Option("--tenant", help="The organisation that shares content.", metavar="TENANT")] = "default",
    scopes: Annotated[str, typer.Option("--scopes", help="What it may do: read, write, admin.", metavar="LIST")] = "read,write",
    expires: Annotated[str | None, typer.Option("--expires", help="How long it is good, as 90d.", metavar="AGE")] = None,
    database_url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Make a key. It is shown once: only its digest is kept."""
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    until = None
    if expires is not None:
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=parse_age(expires))

    async def make(database: Any) -> tuple[KeyRecord, str]:  # noqa: ANN401 - Database, which is not loaded here
        from jettyctl.server.control import keys

        return await keys.create(database, user_id=user, tenant_id=tenant, scopes=wanted, expires_at=until)

    record, key = with_database(database_url, make)
    out = SafeStream(sys.stdout)
    if json:
        out.line(json_line({"type": "key", **_fields(record), "key": key}))
        return
    out.line(key)
    SafeStream(sys.stderr).line(f"jettyctl: key {record.id} of {printable(user)}; it is not shown again")


@commands.command("list")
def list_(database_url: DatabaseUrl = None, json: Json = False) -> None:
    """List keys; never the keys themselves."""

    async def find(database: Any) -> list[KeyRecord]:  # noqa: ANN401 - as above
        from jettyctl.server.control import keys

        return await keys.list_keys(database)

    found = with_database(database_url, find)
    out = SafeStream(sys.stdout)
    if json:
        out.line(json_line({"type": "keys", "keys": [_fields(record) for record in found]}))
        return
    for record in found:
        state = "revoked" if record.revoked_at else f"until {record.expires_at:%Y-%m-%d}" if record.expires_at else "good"
        out.line(f"{record.id}  {state:16}  {record.tenant_id}  {printable(record.user_id)}  {','.join(sorted(record.scopes))}")


@commands.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `keys list` shows.")],
    database_url: DatabaseUrl = None,
) -> None:
    """Revoke a key; it stops working within a second."""

    async def end(database: Any) -> bool:  # noqa: ANN401 - as above
        from jettyctl.server.control import keys

        return await keys.revoke(database, key_id)

    if not with_database(database_url, end):
        raise UsageError(f"there is no key {printable(key_id)}", hint="Run `jettyctl keys list`.")
    SafeStream(sys.stdout).line(f"revoked  {printable(key_id)}")


def _fields(record: KeyRecord) -> dict[str, Any]:
    """A key's record for JSON: everything but the key."""
    return {
        "id": record.id,
        "user": record.user_id,
        "tenant": record.tenant_id,
        "scopes": sorted(record.scopes),
        "created_at": record.created_at.isoformat(),
        "expires_at": record.expires_at and record.expires_at.isoformat(),
        "revoked_at": record.revoked_at and record.revoked_at.isoformat(),
    }

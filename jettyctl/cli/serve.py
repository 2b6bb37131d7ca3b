"""`jettyctl serve`: the control plane, for this machine or for many."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from jettyctl.cli import options as o
from jettyctl.cli.options import option
from jettyctl.cli.server_options import (
    DatabaseUrl,
    embedded_database,
    embedded_directory,
    require_server,
    with_database,
)
from jettyctl.cli.streams import SafeStream
from jettyctl.core.catalogue import DOMAIN
from jettyctl.errors import UsageError

if TYPE_CHECKING:  # the client does not load the server
    from jettyctl.server.control.database import Database
    from jettyctl.server.control.serving import Listening
    from jettyctl.server.control.settings import Settings

FIRST_USER, FIRST_TENANT = "usr_local", "default"
_DIRECT_URL = "https://s3.lyvecloud.seagate.com"

commands = typer.Typer(rich_markup_mode=None)


class Scope(StrEnum):
    """Among whom content is recognised."""

    USER = "user"
    TENANT = "tenant"
    ALL = "all"


EdgeDomain = Annotated[str, option("--edge-domain", help="The domain of the edges that come with it.", metavar="DOMAIN")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="serve", help=serve.__doc__)


@commands.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: Annotated[str, option("--host", help="The address to accept clients at.", metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[int, option("--port", help="The port; 0 takes a free one.", min=0, max=65535)] = 53777,
    database_url: DatabaseUrl = None,
    redis_url: Annotated[str | None, option("--redis-url", help="redis://HOST/0, of Redis or Valkey.", metavar="URL")] = None,
    store: Annotated[
        str | None,
        option("--store", help="Where objects go: s3://bucket/prefix/ or local:DIRECTORY.", metavar="STORE"),
    ] = None,
    workers: Annotated[int, option("--workers", help="Processes; more than one needs Postgres.", min=1, max=256)] = 1,
    public_url: Annotated[
        str | None, option("--public-url", help="What clients reach the service by, if not host and port.", metavar="URL")
    ] = None,
    tls_cert: Annotated[str | None, option("--tls-cert", help="The certificate and its chain, in PEM.", metavar="FILE")] = None,
    tls_key: Annotated[str | None, option("--tls-key", help="The certificate's key, in PEM.", metavar="FILE")] = None,
    behind_proxy: Annotated[
        list[str] | None,
        option("--behind-proxy", help="A proxy that speaks TLS for this service; repeatable.", metavar="ADDRESS"),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        option("--allowed-host", help="Another name that clients may call this service by; repeatable.", metavar="NAME"),
    ] = None,
    edge_domain: EdgeDomain = DOMAIN,
    direct_url: Annotated[
        str, option("--direct-url", help="What the direct route is called by to clients.", metavar="URL")
    ] = _DIRECT_URL,
    dedup_scope: Annotated[Scope, option("--dedup-scope", help="Among whom content is recognised.")] = Scope.TENANT,
    monitor_seconds: Annotated[
        float, option("--monitor-seconds", help="Time between two looks at the edges; 0: none.", min=0, metavar="SECONDS")
    ] = 10.0,
    lease_seconds: Annotated[
        float, option("--lease-seconds", help="How long a silent client owns its session.", min=1, metavar="SECONDS")
    ] = 30.0,
    endpoint_url: o.EndpointUrl = None,
    region: o.Region = None,
    profile: o.Profile = None,
    ca_file: o.CaFile = None,
    quiet: Annotated[bool, option("-q", "--quiet", help="No access log.")] = False,
) -> None:
    """Serve the control plane: edge selection, duplicates, sessions that any machine can resume."""
    if context.invoked_subcommand:
        return
    require_server()
    from jettyctl.server.control.serving import Listening
    from jettyctl.server.control.settings import Settings

    listening = Listening(host, port, tls_cert, tls_key, tuple(behind_proxy or ()))
    settings = Settings(
        database_url=database_url or embedded_database(),
        redis_url=redis_url,
        store=store or f"local:{os.path.join(embedded_directory(), 'objects')}",
        public_url=(public_url or "").rstrip("/"),
        endpoint_url=endpoint_url,
        region=region,
        profile=profile,
        ca_file=ca_file,
        edge_domain=edge_domain,
        direct_url=direct_url,
        dedup_scope=dedup_scope.value,
        monitor_seconds=monitor_seconds,
        lease_seconds=lease_seconds,
        allowed_hosts=tuple(allowed_host or ()),
        workers=workers,
        quiet=quiet,
    )
    check(settings, listening)
    run(settings, listening, embedded=database_url is None)


@commands.command("migrate")
def migrate(database_url: DatabaseUrl = None, edge_domain: EdgeDomain = DOMAIN) -> None:
    """Bring the database's schema to what this version needs. Safe to repeat."""
    require_server()
    from jettyctl.server.control import schema

    url = database_url or _private(embedded_database())
    SafeStream(sys.stdout).line(f"schema  {schema.upgrade(url, edge_domain)}")


def check(settings: Settings, listening: Listening) -> None:
    """What cannot be. Raises UsageError."""
    if (listening.tls_cert is None) != (listening.tls_key is None):
        raise UsageError("TLS needs both a certificate and its key", hint="Give --tls-cert and --tls-key.")
    if settings.workers > 1 and settings.database_url.startswith("sqlite"):
        raise UsageError(
            "several workers need Postgres: SQLite serves one process",
            hint="Give --database-url postgresql://..., or leave --workers out.",
        )
    if not listening.loopback and not listening.tls_cert and not listening.proxies:
        raise UsageError(
            f"{listening.host} can be reached from other machines, and keys would cross the network in the clear",
            hint="Give --tls-cert and --tls-key, or --behind-proxy with the address of the proxy that speaks TLS.",
        )


def run(settings: Settings, listening: Listening, *, embedded: bool) -> None:
    """Prepare the embedded database if it is that, see that there is a key, and serve."""
    from dataclasses import replace

    from jettyctl.server.control import schema
    from jettyctl.server.control.serving import serve as serve_until_stopped
    from jettyctl.server.control.sqlite import stay_alone

    if embedded:
        _private(settings.database_url)
        schema.upgrade_if_empty(settings.database_url, settings.edge_domain)
    key = with_database(settings.database_url, lambda database: _first_key(database, listening))
    stay_alone(settings.database_url)
    talk = SafeStream(sys.stderr)
    scheme = "https" if listening.tls_cert else "http"
    shown = f"[{listening.host}]" if ":" in listening.host else listening.host

    def ready(port: int) -> None:
        talk.line(f"listening on {scheme}://{shown}:{port}")
        if key:
            SafeStream(sys.stdout).line(key)
            talk.line(f"The line above is the first key, for {FIRST_USER} in {FIRST_TENANT}: it is shown only now. To use it:")
            talk.line(f"  jettyctl config set control {settings.public_url or f'{scheme}://{shown}:{port}'} && jettyctl login")

    serve_until_stopped(replace(settings), listening, ready)


async def _first_key(database: Database, listening: Listening) -> str | None:
    """A key for a service that has none, so that it can be used at once. None if there are keys.

    Raises UsageError if others could connect: whoever reads the output of a service is not known there.
    """
    from jettyctl.server.control import keys

    if await keys.list_keys(database):
        return None
    if not listening.loopback:
        raise UsageError(
            "there are no keys yet, and the service could be reached from other machines",
            hint="Create one first: jettyctl keys create --user USER --tenant TENANT",
        )
    _, key = await keys.create(
        database, user_id=FIRST_USER, tenant_id=FIRST_TENANT, scopes=("read", "write", "admin"), expires_at=None
    )
    return key


def _private(url: str) -> str:
    """The URL of an SQLite file that is there, and readable by its owner only."""
    from jettyctl.server.control.sqlite import make_private

    make_private(url.removeprefix("sqlite:///"))
    return url

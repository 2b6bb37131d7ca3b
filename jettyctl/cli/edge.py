"""`jettyctl edge`: carry other people's parts to the stores that the operator names."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from jettyctl.cli.options import option
from jettyctl.cli.streams import SafeStream
from jettyctl.core.units import parse_size
from jettyctl.errors import JettyError, UsageError

if TYPE_CHECKING:  # most commands need no TLS of their own
    import ssl

_LOOPBACK = ("localhost", "::1")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("edge", help=edge.__doc__)(edge)


def edge(
    origin: Annotated[list[str], option("--origin", help="A store to carry to; may be repeated.", metavar="URL")],
    listen: Annotated[
        str, option("--listen", help="Where to accept clients; port 0 takes a free one.", metavar="HOST:PORT")
    ] = "127.0.0.1:53777",
    tls_cert: Annotated[str | None, option("--tls-cert", help="The certificate and its chain, in PEM.", metavar="FILE")] = None,
    tls_key: Annotated[str | None, option("--tls-key", help="The certificate's key, in PEM.", metavar="FILE")] = None,
    max_connections: Annotated[int, option("--max-connections", help="Clients at a time.", min=1, max=100_000)] = 512,
    max_part_size: Annotated[str, option("--max-part-size", help="The largest part.", metavar="SIZE")] = "5GiB",
    quiet: Annotated[bool, option("-q", "--quiet", help="No access log.")] = False,
) -> None:
    """Be an edge: stream signed parts to their store, and nothing else."""
    import asyncio

    from jettyctl.server.edge import app
    from jettyctl.server.edge.log import AccessLog
    from jettyctl.server.edge.policy import Limits, parse_origins

    host, port = _address(listen)
    origins = parse_origins(origin)
    limits = Limits(max_connections=max_connections, max_part_size=parse_size(max_part_size))
    tls = _tls(tls_cert, tls_key)
    talk = SafeStream(sys.stderr)

    def ready(actual: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        urls = ", ".join(dict.fromkeys(origin.url for origin in origins.values()))
        talk.line(f"listening on {'https' if tls else 'http'}://{shown}:{actual} for {urls}")
        if host not in _LOOPBACK and not host.startswith("127."):
            talk.line(
                "This edge can be reached from other machines: everybody with a signed request for these origins can use it."
            )

    async def main() -> None:
        await app.run(app.Edge(origins, limits, AccessLog(None if quiet else 2)), host, port, tls, ready)

    app.allow_files(limits)
    try:
        asyncio.run(main())
    except OSError as error:
        raise JettyError(f"cannot listen on {listen}: {error.strerror or error}", hint="Choose another --listen.") from None


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{listen!r} is not an address", hint="Write it like 127.0.0.1:53777 or [::1]:53777.")
    return host, int(port)


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("TLS needs both a certificate and its key", hint="Give --tls-cert and --tls-key.")
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"cannot use the certificate and key: {error.strerror or error}", hint="Check both files.") from None
    return context

"""`jettyctl login` and `jettyctl logout`: the key of a control plane, kept where only its user can read it."""

from __future__ import annotations

import contextlib
import getpass
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from jettyctl.cli import options as o
from jettyctl.cli.streams import SafeStream
from jettyctl.core.names import printable
from jettyctl.core.targets import control_origin
from jettyctl.errors import UsageError

if TYPE_CHECKING:
    from jettyctl.control.keys import ApiKey


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("login", help=login.__doc__)(login)
    app.command("logout", help=logout.__doc__)(logout)


def login(
    control: o.Control = None,
    key_file: Annotated[
        str | None, typer.Option("--key-file", help="Where the key is; - is standard input.", metavar="FILE|-")
    ] = None,
    ca_file: o.CaFile = None,
) -> None:
    """Check a key with the control plane, and keep it for later runs. It is asked for, or read from a pipe or a file."""
    from jettyctl.control import keys, service
    from jettyctl.control.api import ControlApi

    origin = _origin(control)
    key = _given_key(origin, key_file)
    with contextlib.closing(ControlApi(origin, key, ca_file=ca_file)) as plane:
        found = service.ask(plane)
    keys.keep(origin, key)
    who = f"{printable(found.user_id)} in {printable(found.tenant_id)}"
    SafeStream(sys.stdout).line(f"logged in  {origin}  {who}")


def logout(control: o.Control = None) -> None:
    """Forget the key of a control plane. It stays valid until it is revoked there."""
    from jettyctl.control import keys

    origin = _origin(control)
    if keys.forget(origin):
        SafeStream(sys.stdout).line(f"logged out  {origin}")
    else:
        SafeStream(sys.stderr).line(f"jettyctl: there was no key for {origin}")


def _origin(control: str | None) -> str:
    if not control:
        raise UsageError(
            "no control plane is configured",
            hint="Run `jettyctl config set control https://HOST`, or give --control https://HOST.",
        )
    return control_origin(control)


def _given_key(origin: str, key_file: str | None) -> ApiKey:
    """The key that the user gives: never an argument, which all users of a machine can see."""
    from jettyctl.control import keys

    if key_file not in (None, "-"):
        return keys.from_file(key_file)
    if key_file is None and sys.stdin is not None and sys.stdin.isatty():
        try:
            return keys.parsed(getpass.getpass(f"Key for {origin}: ", stream=sys.stderr))
        except EOFError:
            raise UsageError("no key was given", hint="Paste the key that `jettyctl keys create` showed.") from None
    return keys.parsed(sys.stdin.read(keys.LARGEST) if sys.stdin is not None else "")

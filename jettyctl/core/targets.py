"""From what the user typed to where an object goes."""

from __future__ import annotations

import re
from typing import NamedTuple

from jettyctl.core.model import Target
from jettyctl.core.names import key_from_name, printable
from jettyctl.errors import UsageError

_AUTHORITY = re.compile(
    r"(?P<host>[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:(?P<port>[0-9]{1,5}))?"
)
_CONTROL_HINT = "Write it like https://control.example.com, or http://127.0.0.1:53777 on this machine."


class Destination(NamedTuple):
    """A parsed DESTINATION. `key` is a whole key, or a prefix if it is empty or ends in `/`.

    `authority` is the host and port of a control plane, where one is named.
    """

    scheme: str
    bucket: str
    key: str
    authority: str = ""

    @property
    def is_prefix(self) -> bool:
        return not self.key or self.key.endswith("/")

    @property
    def url(self) -> str:
        """As the user typed it, more or less."""
        place = self.bucket or self.authority
        return f"{self.scheme}://{place}/{self.key}" if place else f"{self.scheme}:{self.key}"


def looks_like_destination(text: str) -> bool:
    """Whether an argument names a place rather than a file."""
    return text.startswith(("s3://", "local:", "jetty:"))


def parse_destination(text: str) -> Destination:
    """`s3://bucket/key-or-prefix/`, `local:key-or-prefix/`, `jetty:…` or `jetty://host/…`. Raises UsageError."""
    if text.startswith("jetty://"):
        authority, _, key = text[8:].partition("/")
        origin_of(authority)
        return Destination("jetty", "", key, authority.lower())
    if text.startswith("jetty:"):
        return Destination("jetty", "", text[6:].lstrip("/"))
    if text.startswith("local:"):
        return Destination("local", "", text[6:].removeprefix("//").lstrip("/"))
    if text.startswith("s3://"):
        bucket, _, key = text[5:].partition("/")
        if not bucket or any(c in bucket for c in "?#% @:"):
            raise UsageError(f"{printable(text)!r} names no bucket", hint="Write s3://bucket/key or s3://bucket/prefix/.")
        return Destination("s3", bucket, key)
    raise UsageError(
        f"{printable(text)!r} is not a destination",
        hint="Write s3://bucket/prefix/, jetty:prefix/ or local:prefix/, as the last argument.",
    )


def origin_of(authority: str) -> str:
    """The origin of the control plane at `host[:port]`: https, except on this machine itself. Raises UsageError."""
    match = _AUTHORITY.fullmatch(authority)
    if not match or int(match["port"] or 1) not in range(1, 65536):
        raise UsageError(f"{printable(authority)!r} names no host", hint="Write jetty://host/prefix/, or jetty:prefix/.")
    return f"{'http' if _is_loopback(match['host']) else 'https'}://{authority.lower()}"


def control_origin(url: str) -> str:
    """The origin that a control plane is configured by. Raises UsageError: a key never crosses a network in the clear."""
    scheme, separator, authority = url.strip().rstrip("/").lower().partition("://")
    match = _AUTHORITY.fullmatch(authority)
    if not separator or scheme not in ("http", "https") or not match or int(match["port"] or 1) not in range(1, 65536):
        shown = "that" if "@" in url else repr(printable(url))  # it may hold a password
        raise UsageError(f"{shown} is not the address of a control plane", hint=_CONTROL_HINT)
    if scheme == "http" and not _is_loopback(match["host"]):
        raise UsageError(
            f"{printable(url)} is not encrypted, and your key would cross the network in the clear",
            hint=f"Use https://{printable(authority)}; only a control plane on this machine may be reached by http.",
        )
    return f"{scheme}://{authority}"


def _is_loopback(host: str) -> bool:
    """Whether packets to a host never leave this machine."""
    return host.lower() in ("localhost", "[::1]") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def target_of(destination: Destination, endpoint: str, name: str, *, several: bool) -> Target:
    """The target of a file called `name` (relative, `/`-separated). With `several` files the key must be a prefix."""
    if destination.is_prefix:
        key = destination.key + key_from_name(name)
    elif several:
        raise UsageError(
            f"several files cannot all become {printable(destination.key)}",
            hint=f"End the destination with a slash: {printable(destination.key)}/",
        )
    else:
        key = destination.key
    return Target(destination.scheme, endpoint, destination.bucket, key)

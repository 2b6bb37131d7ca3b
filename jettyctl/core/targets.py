"""From what the user typed to where an object goes."""

from __future__ import annotations

from dataclasses import dataclass

from jettyctl.core.model import Target
from jettyctl.core.names import key_from_name, printable
from jettyctl.errors import UsageError

SCHEMES = ("s3", "local")


@dataclass(frozen=True, slots=True)
class Destination:
    """A parsed DESTINATION. `key` is a whole key, or a prefix if it is empty or ends in `/`."""

    scheme: str
    bucket: str
    key: str

    @property
    def is_prefix(self) -> bool:
        return not self.key or self.key.endswith("/")

    @property
    def url(self) -> str:
        """As the user typed it, more or less."""
        return f"local:{self.key}" if self.scheme == "local" else f"{self.scheme}://{self.bucket}/{self.key}"


def looks_like_destination(text: str) -> bool:
    """Whether an argument names a place rather than a file."""
    return text.startswith(("s3://", "local:"))


def parse_destination(text: str) -> Destination:
    """`s3://bucket/key-or-prefix/` or `local:key-or-prefix/`. Raises UsageError."""
    if text.startswith("local:"):
        return Destination("local", "", text[6:].removeprefix("//").lstrip("/"))
    if text.startswith("s3://"):
        bucket, _, key = text[5:].partition("/")
        if not bucket or any(c in bucket for c in "?#% @:"):
            raise UsageError(f"{printable(text)!r} names no bucket", hint="Write s3://bucket/key or s3://bucket/prefix/.")
        return Destination("s3", bucket, key)
    raise UsageError(
        f"{printable(text)!r} is not a destination", hint="Write s3://bucket/prefix/ or local:prefix/, as the last argument."
    )


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

"""The options that commands share. Each is a flag, a JETTY_ variable, a key of the configuration file, or its default."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jettyctl.core.geo import Location, parse_location
from jettyctl.core.units import parse_rate, parse_size
from jettyctl.errors import UsageError

if TYPE_CHECKING:
    from jettyctl.connection import Connection
    from jettyctl.edges.base import EdgeChoice
    from jettyctl.edges.opening import EdgeWishes


class IfExists(StrEnum):
    """What to do with an object that is there already."""

    OVERWRITE = "overwrite"
    SKIP = "skip"
    FAIL = "fail"


class Priority(StrEnum):
    """What edge selection cares for most."""

    SPEED = "speed"
    BALANCED = "balanced"
    COST = "cost"


class AddressingStyle(StrEnum):
    """Where the bucket goes: into the path or the host name."""

    AUTO = "auto"
    PATH = "path"
    VIRTUAL = "virtual"


class ChecksumName(StrEnum):
    """By what the store verifies parts."""

    AUTO = "auto"
    CRC64NVME = "crc64nvme"
    SHA256 = "sha256"
    MD5 = "md5"
    NONE = "none"


def option(*names: str, help: str, **more: Any) -> Any:  # noqa: A002, ANN401 - typer's own name and type
    """A typer option that is also the variable JETTY_<NAME>."""
    long = next(name for name in names if name.startswith("--")).partition("/")[0]
    return typer.Option(*names, envvar="JETTY_" + long[2:].replace("-", "_").upper(), help=help, **more)


def chunk_size(value: str | int) -> Literal["auto", "tier"] | int:
    """`auto`, `tier`, or a size; what is parsed already stays as it is."""
    if isinstance(value, int):
        return value
    named: dict[str, Literal["auto", "tier"]] = {"auto": "auto", "tier": "tier"}
    return named.get(value) or parse_size(value)


def threads(value: str | int) -> int:
    """A number of threads; 0 stands for `auto`."""
    if value in ("auto", "0", 0):
        return 0
    text = str(value)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise UsageError(f"{text!r} is not a number of threads", hint="Give --threads auto, or a number from 1 to 256.")
    return int(text)


def metadata_of(pairs: list[str]) -> dict[str, str]:
    """The mapping in `--metadata K=V` options. Raises UsageError for what an HTTP header cannot carry."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name):
            raise UsageError(f"{pair!r} is not KEY=VALUE", hint="Write --metadata owner=team-a; keys are letters, digits, - _ .")
        if not value.isprintable():
            raise UsageError(f"the value of --metadata {name} has control characters", hint="Use plain text.")
        found[name.lower()] = value
    return found


EndpointUrl = Annotated[str | None, option("--endpoint-url", help="The S3 endpoint, as https://s3.example.com.", metavar="URL")]
Region = Annotated[str | None, option("--region", help="The region that requests are signed for.")]
Profile = Annotated[str | None, option("--profile", help="The profile of the shared AWS files.")]
Addressing = Annotated[AddressingStyle, option("--addressing", help="Bucket in the path or in the host name.")]
CaFile = Annotated[str | None, option("--ca-file", help="More certificate authorities, in PEM.", metavar="FILE")]
NoVerifyTls = Annotated[
    bool, option("--no-verify-tls", help="Do not verify certificates. Anyone in between can read and change all.")
]
NoSignRequest = Annotated[bool, option("--no-sign-request", help="Send anonymous requests.")]
Checksum = Annotated[ChecksumName, option("--checksum", help="By what the store verifies parts; auto asks the endpoint.")]
Control = Annotated[
    str | None,
    option("--control", help="The control plane that jetty: stands for, as https://control.example.com.", metavar="URL"),
]
LimitRate = Annotated[
    float | None,
    option("--limit-rate", help="At most this much in all, as 10MB/s or 80Mbit/s.", parser=parse_rate, metavar="RATE"),
]
ChunkSize = Annotated[
    str,
    option(
        "--chunk-size",
        help="Bytes in a part: auto, tier (the size table), or as 16MiB.",
        parser=chunk_size,
        metavar="auto|tier|SIZE",
    ),
]
Threads = Annotated[
    int, option("--threads", help="Requests in flight at most.", parser=threads, metavar="auto|N", show_default="auto")
]


def place(text: str | Location) -> Location:
    """A location; what is parsed already stays as it is."""
    return text if isinstance(text, Location) else parse_location(text)


NoEdges = Annotated[bool, option("--no-edges", help="Use the direct route only, whatever edges are configured.")]
WhereYouAre = Annotated[
    Location | None,
    option("--location", help="Where you are, as 52.52,13.40; else your time zone tells.", parser=place, metavar="LAT,LNG"),
]
Budget = Annotated[
    float | None, option("--budget", help="Leave out edges that would cost more than this.", metavar="USD", min=0.0)
]
Json = Annotated[bool, option("--json", help="JSON Lines on standard output; see docs/json.md.")]
Quiet = Annotated[bool, option("-q", "--quiet", help="Nothing but errors.")]
Verbose = Annotated[int, option("-v", "--verbose", help="Say more; twice: also each retry and chunk.", count=True)]
Progress = Annotated[bool | None, option("--progress/--no-progress", help="Show progress; default: where it makes sense.")]


def connection(
    *,
    endpoint_url: str | None,
    region: str | None,
    profile: str | None,
    addressing: AddressingStyle = AddressingStyle.AUTO,
    checksum: ChecksumName = ChecksumName.AUTO,
    ca_file: str | None = None,
    no_verify_tls: bool = False,
    no_sign_request: bool = False,
    limit_rate: float | None = None,
    control: str | None = None,
) -> Connection:
    """The options as the wiring takes them."""
    from jettyctl.connection import Connection

    return Connection(
        endpoint_url=endpoint_url,
        region=region,
        profile=profile,
        addressing=addressing.value,
        checksum=checksum.value,
        ca_file=ca_file,
        verify_tls=not no_verify_tls,
        sign=not no_sign_request,
        limit_rate=limit_rate,
        control=control,
    )


def edge_choice(*, no_edges: bool, priority: Priority, location: Location | None, budget: float | None) -> EdgeChoice | None:
    """How the edges that a control plane names are to be chosen; None where none is wanted."""
    from jettyctl.edges.base import EdgeChoice

    return None if no_edges else EdgeChoice(priority.value, location, budget)


def edge_wishes(*, no_edges: bool, priority: Priority, location: Location | None, budget: float | None) -> EdgeWishes | None:
    """The edges of the configuration, and how they are to be chosen; None where there are none."""
    from jettyctl import config_file

    if no_edges or "edges" not in config_file.read():
        return None
    from jettyctl.edges import configured
    from jettyctl.edges.location import find
    from jettyctl.edges.opening import EdgeWishes

    edges = configured.read()
    if not edges:
        return None
    here = find(location)
    return EdgeWishes(edges, priority.value, here.location if here else None, budget)

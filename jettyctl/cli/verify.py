"""`jettyctl verify`: are the stored bytes those of the file? Only what the store itself has checked, or the bytes, count."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from jettyctl.cli import options as o
from jettyctl.cli.output import json_line
from jettyctl.cli.streams import SafeStream
from jettyctl.core.names import check_key, printable
from jettyctl.core.targets import parse_destination, target_of
from jettyctl.core.units import format_size
from jettyctl.errors import IntegrityError, SourceChanged

if TYPE_CHECKING:
    from jettyctl.core.model import Digests, ObjectInfo, Target
    from jettyctl.files.source import Source
    from jettyctl.storage.base import Store
    from jettyctl.stores import Stores

_STORED = "crc64nvme"
_READ_BACK = "sha256-read-back"
_WORDS = {_STORED: "by stored crc64nvme", _READ_BACK: "by sha256 of what was read back"}


@dataclass(frozen=True, slots=True)
class Proof:
    """The object holds exactly the file's bytes, and how that is known."""

    url: str
    size: int
    method: str
    sha256: str


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", help=verify.__doc__)(verify)


def verify(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The file.")],
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="The object, as s3://bucket/key, jetty:key or local:key; a prefix takes the file's name."
        ),
    ],
    read_back: Annotated[
        bool, o.option("--read-back", help="Read the object, even if the store states a checksum of its own.")
    ] = False,
    control: o.Control = None,
    endpoint_url: o.EndpointUrl = None,
    region: o.Region = None,
    profile: o.Profile = None,
    addressing: o.Addressing = o.AddressingStyle.AUTO,
    ca_file: o.CaFile = None,
    no_verify_tls: o.NoVerifyTls = False,
    no_sign_request: o.NoSignRequest = False,
    json: Annotated[bool, o.option("--json", help="One JSON object on standard output; see docs/json.md.")] = False,
) -> None:
    """Check that the stored bytes are those of the file. Exit status 6 if they are not."""
    from jettyctl.files.source import Source
    from jettyctl.stores import Stores

    place = parse_destination(url)
    if no_verify_tls:
        SafeStream(sys.stderr).line("WARNING: certificates are not verified: anyone in between can answer for the store")
    connection = o.connection(
        endpoint_url=endpoint_url,
        region=region,
        profile=profile,
        addressing=addressing,
        ca_file=ca_file,
        no_verify_tls=no_verify_tls,
        no_sign_request=no_sign_request,
        control=control,
    )
    with Source.open(source) as file, closing(Stores(connection)) as stores:
        target = target_of(place, stores.endpoint(place), os.path.basename(source), several=False)
        certain = read_back or not _checked_there(stores, target)
        proof = prove(stores.store(target), target, file, read_back=certain)
    SafeStream(sys.stdout).line(_record(proof, source) if json else _words(proof))


def prove(store: Store, target: Target, source: Source, *, read_back: bool) -> Proof:
    """Compare a file with an object. Raises IntegrityError if they differ, or if there is no object."""
    info = store.head(check_key(target.key, store.limits.max_key_bytes))
    if info is None:
        raise IntegrityError(f"there is no object {printable(target.url)}", hint="Check the address, or upload the file.")
    if info.size != source.size:
        raise _differs(target, source, f"it has {info.size} bytes, the file has {source.size}")
    digests = _hash(source)
    if info.crc64 is None or read_back:
        _compare_bytes(store, target, source, digests)
        return Proof(target.url, info.size, _READ_BACK, digests.sha256)
    _compare_checksum(info, target, source, digests)
    return Proof(target.url, info.size, _STORED, digests.sha256)


def _checked_there(stores: Stores, target: Target) -> bool:
    """Whether the CRC64NVME of an object is what its store computed. A disk checks nothing by itself."""
    if target.scheme != "jetty":
        return target.scheme == "s3"
    service = stores.control_store(target.endpoint).service
    return (service.kind, service.checksum) == ("s3", "crc64nvme")


def _hash(source: Source) -> Digests:
    from jettyctl.files.hashing import hash_file

    digests = hash_file(source)
    if source.current_identity() != source.identity:
        raise SourceChanged(f"{printable(source.path)} changed while it was read", hint="Run again when the file is at rest.")
    return digests


def _compare_checksum(info: ObjectInfo, target: Target, source: Source, digests: Digests) -> None:
    if info.crc64 != digests.crc64:
        raise _differs(target, source, "its stored CRC64NVME is another")


def _compare_bytes(store: Store, target: Target, source: Source, digests: Digests) -> None:
    read = hashlib.sha256()
    for data in store.read(target.key):
        read.update(data)
    if read.hexdigest() != digests.sha256:
        raise _differs(target, source, "the SHA-256 of what was read back is another")


def _differs(target: Target, source: Source, how: str) -> IntegrityError:
    return IntegrityError(
        f"{printable(target.url)} is not {printable(source.path)}: {how}", hint="Upload the file again if it should be."
    )


def _words(proof: Proof) -> str:
    return f"identical  {printable(proof.url)}  {format_size(proof.size)}  {_WORDS[proof.method]}"


def _record(proof: Proof, source: str) -> str:
    return json_line(
        {
            "type": "verify",
            "source": source,
            "url": proof.url,
            "identical": True,
            "size": proof.size,
            "method": proof.method,
            "sha256": proof.sha256,
        }
    )

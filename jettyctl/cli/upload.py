"""`jettyctl upload`."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from jettyctl.cli import options as o
from jettyctl.cli.options import option
from jettyctl.core.model import Limits
from jettyctl.core.names import printable
from jettyctl.core.targets import Destination, looks_like_destination, parse_destination, target_of
from jettyctl.errors import JettyError, UsageError
from jettyctl.files.content_type import guess_content_type
from jettyctl.files.file_list import read_file_list
from jettyctl.files.source import STDIN_PATH

if TYPE_CHECKING:
    from jettyctl.cli.output import Output
    from jettyctl.core.events import FileFailed
    from jettyctl.core.model import ObjectOptions
    from jettyctl.engine.shared import Job, Wishes
    from jettyctl.files.walk import Found, Skipped
    from jettyctl.wiring import Runtime

FIRST_REQUESTS = 3
_ADDRESS = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("upload", help=upload.__doc__)(upload)


def upload(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE... [DESTINATION]",
            help="Files, directories (-r), or - for standard input; then where to: s3://bucket/key, s3://bucket/prefix/, "
            "jetty:prefix/ or local:prefix/.",
        ),
    ] = None,
    recursive: Annotated[bool, option("-r", "--recursive", help="Upload what is in directories.")] = False,
    include: Annotated[list[str] | None, option("--include", help="Only names that match this glob.", metavar="GLOB")] = None,
    exclude: Annotated[list[str] | None, option("--exclude", help="No names that match this glob.", metavar="GLOB")] = None,
    files_from: Annotated[
        str | None,
        option("--files-from", help="Upload the files listed in FILE, one a line; - is standard input.", metavar="FILE|-"),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What standard input is called at the destination.")] = None,
    destination: Annotated[str | None, option("--destination", help="Where to, if the last argument does not say it.")] = None,
    chunk_size: o.ChunkSize = "auto",
    threads: o.Threads = 0,
    priority: Annotated[
        o.Priority, option("--priority", help="What edges are chosen by, where there are any.")
    ] = o.Priority.BALANCED,
    no_edges: o.NoEdges = False,
    location: o.WhereYouAre = None,
    budget: o.Budget = None,
    limit_rate: o.LimitRate = None,
    if_exists: Annotated[
        o.IfExists,
        option(
            "--if-exists", help="An object that is there already: overwrite it if it differs; skip or fail, whatever it holds."
        ),
    ] = o.IfExists.OVERWRITE,
    restart: Annotated[bool, option("--restart", help="Ignore an unfinished session of the same file and start over.")] = False,
    follow_symlinks: Annotated[bool, option("--follow-symlinks", help="Follow symbolic links in directories.")] = False,
    dry_run: Annotated[bool, option("--dry-run", help="Show the plan, send nothing.")] = False,
    control: o.Control = None,
    endpoint_url: o.EndpointUrl = None,
    region: o.Region = None,
    profile: o.Profile = None,
    addressing: o.Addressing = o.AddressingStyle.AUTO,
    checksum: o.Checksum = o.ChecksumName.AUTO,
    ca_file: o.CaFile = None,
    no_verify_tls: o.NoVerifyTls = False,
    no_sign_request: o.NoSignRequest = False,
    storage_class: Annotated[str | None, option("--storage-class", help="As STANDARD_IA.")] = None,
    content_type: Annotated[str | None, option("--content-type", help="The media type; else guessed from the name.")] = None,
    cache_control: Annotated[str | None, option("--cache-control", help="The Cache-Control header of the object.")] = None,
    metadata: Annotated[list[str] | None, option("--metadata", help="User metadata; repeatable.", metavar="K=V")] = None,
    sse: Annotated[str | None, option("--sse", help="Server-side encryption: AES256 or aws:kms.")] = None,
    sse_kms_key_id: Annotated[str | None, option("--sse-kms-key-id", help="The key for aws:kms.")] = None,
    acl: Annotated[str | None, option("--acl", help="A canned ACL, as private or public-read.")] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
    progress: o.Progress = None,
) -> None:
    """Upload files. The same command again resumes what was interrupted, and sends nothing that is there already."""
    from jettyctl.core.model import ObjectOptions
    from jettyctl.stores import Stores

    request = parse_request(arguments or [], destination, files_from, name)
    told = ObjectOptions(
        content_type=content_type,
        cache_control=cache_control,
        storage_class=storage_class,
        acl=acl,
        sse=sse,
        sse_kms_key_id=sse_kms_key_id,
        metadata=o.metadata_of(metadata or []),
    )
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
    stores = Stores(connection)
    stores.reach(request.destination, _first_requests(request))  # while the rest is imported
    from jettyctl.cli.running import choose_output, conclude
    from jettyctl.engine.shared import Wishes
    from jettyctl.wiring import Runtime

    wishes = Wishes(o.chunk_size(chunk_size), threads or None, if_exists.value, restart, dry_run)
    output = choose_output(json=json, quiet=quiet, verbosity=verbose, progress=progress, no_verify_tls=no_verify_tls)
    selection = Selection(recursive, tuple(include or ()), tuple(exclude or ()), follow_symlinks)
    edges = o.edge_wishes(no_edges=no_edges, priority=priority, location=location, budget=budget)
    named = request.destination.scheme == "jetty"  # a control plane may name edges
    choice = o.edge_choice(no_edges=no_edges, priority=priority, location=location, budget=budget) if named else None
    with Runtime(stores, emit=output.event, edges=edges, choice=choice) as runtime:
        jobs = Jobs(runtime, request, selection, told, wishes, output)
        outcome = runtime.run(jobs, threads=threads or None)
        conclude(outcome, runtime, output, again=shlex.join(["jettyctl", *sys.argv[1:]]))


class Request(NamedTuple):
    """What is to be sent, and where to."""

    sources: tuple[str, ...]
    destination: Destination
    name: str | None


class Selection(NamedTuple):
    """Which files of directories are meant."""

    recursive: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    follow_symlinks: bool


def parse_request(arguments: list[str], configured: str | None, files_from: str | None, name: str | None) -> Request:
    """Tell sources from the destination. Raises UsageError."""
    sources, place = list(arguments), configured or "local:"
    if sources and (looks_like_destination(sources[-1]) or _is_foreign_address(sources)):
        place = sources.pop()
    if files_from is not None:
        sources += read_file_list(files_from)
    if len(sources) > 1 and sources[-1].endswith("/") and not os.path.exists(sources[-1]):
        hint = f"If it is a bucket, write s3://{printable(sources[-1])}"
        raise UsageError(f"{printable(sources[-1])} is no directory, and no destination", hint=hint)
    if not sources:
        raise UsageError("there is nothing to upload", hint="Name a file: jettyctl upload FILE s3://bucket/prefix/")
    destination = parse_destination(place)
    streams = sources.count(STDIN_PATH)
    if streams > 1 or (streams and files_from == STDIN_PATH):
        raise UsageError("standard input can be read only once", hint="Name it once.")
    if streams and destination.is_prefix and not name:
        raise UsageError("standard input has no name", hint="Add --name, or give a whole key: s3://bucket/key.")
    if name and not streams:
        raise UsageError("--name is for standard input", hint="Give a whole key as the destination instead: s3://bucket/key.")
    return Request(tuple(sources), destination, name)


def _first_requests(request: Request) -> int:
    """How many go out beside each other at first: of a file in parts the look, its beginning, and a question to the endpoint."""
    try:
        size = os.stat(request.sources[0]).st_size if len(request.sources) == 1 else 0
    except (OSError, ValueError):  # whoever opens it says why
        size = 0
    return FIRST_REQUESTS if size > Limits().min_part else 1


def _is_foreign_address(arguments: list[str]) -> bool:
    """Whether the last argument must be meant as a destination, of a kind that there is not: gs://, S3://, https://."""
    return bool(_ADDRESS.match(arguments[-1])) and len(arguments) > 1 and not os.path.lexists(arguments[-1])


class Jobs:
    """The files as jobs, found while others are sent already."""

    def __init__(
        self, runtime: Runtime, request: Request, selection: Selection, options: ObjectOptions, wishes: Wishes, output: Output
    ) -> None:
        self._runtime = runtime
        self._request = request
        self._selection = selection
        self._options = options
        self._wishes = wishes
        self._output = output
        self._endpoint = runtime.stores.endpoint(request.destination)
        self._keys: dict[str, str] = {}
        self._by_type: dict[str, ObjectOptions] = {}

    def __iter__(self) -> Iterator[Job | FileFailed]:
        from jettyctl.core.events import FileFailed
        from jettyctl.files.walk import Skipped

        for found in self._found():
            if isinstance(found, Skipped) and found.harmless:
                self._output.warn(f"left out: {found.error.message}. {found.error.hint}")
                continue
            try:
                if isinstance(found, Skipped):
                    raise found.error
                yield self._job(found)
            except JettyError as error:
                yield FileFailed(found.path, self._request.destination.url, error)

    def _found(self) -> Iterator[Found | Skipped]:
        from jettyctl.files.walk import Found, walk

        chosen = self._selection
        files = [path for path in dict.fromkeys(self._request.sources) if path != STDIN_PATH]
        if STDIN_PATH in self._request.sources:
            yield Found(STDIN_PATH, self._request.name or "")
        yield from walk(
            files,
            recursive=chosen.recursive,
            include=chosen.include,
            exclude=chosen.exclude,
            follow_symlinks=chosen.follow_symlinks,
        )

    def _job(self, found: Found) -> Job:
        request = self._request
        several = len(request.sources) > 1 or self._selection.recursive
        target = target_of(request.destination, self._endpoint, found.name, several=several)
        if self._keys.setdefault(target.key, found.path) != found.path:
            other = printable(self._keys[target.key])
            raise UsageError(f"it would have the same key as {other}: {printable(target.url)}", hint="Upload it elsewhere.")
        return self._runtime.job(found.path, target, self._options_of(target.key), self._wishes, follow=found.follow)

    def _options_of(self, key: str) -> ObjectOptions:
        """The options with the media type that the name tells; files of one type share them."""
        if self._options.content_type is not None:
            return self._options
        content_type = guess_content_type(key)
        if content_type not in self._by_type:
            self._by_type[content_type] = replace(self._options, content_type=content_type)
        return self._by_type[content_type]

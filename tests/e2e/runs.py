"""Runs of `jettyctl upload`: what they said of themselves, and what a proxy on their way saw."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.proxy import RecordingProxy
from tests.support.relay import Request
from tests.support.running import Result
from tests.support.servers import Server

MIB = 1 << 20
CHUNK = 5 * MIB
SLOW = ("--chunk-size", "5MiB", "--limit-rate", "6MiB/s")

Starter = Callable[..., "subprocess.Popen[bytes]"]
Proxied = Callable[..., RecordingProxy]


def url(server: Server | RecordingProxy, key: str) -> str:
    return f"s3://{server.bucket}/{key}"


def results(run: Result) -> dict[str, Any]:
    """The results of a `--json` run by the last part of their source."""
    return {event["source"].rpartition("/")[2]: event for event in run.events if event["type"] == "result"}


def only(run: Result, kind: str = "result") -> dict[str, Any]:
    """The one event of a kind."""
    (event,) = [event for event in run.events if event["type"] == kind]
    return event


def ours(proxy: RecordingProxy, *ops: str) -> list[Request]:
    """Requests of these operations, without those that ask what the server verifies."""
    return [r for r in list(proxy.requests) if r.op in ops and "jettyctl-probe" not in r.path]


def sent(proxy: RecordingProxy) -> int:
    """Bytes of objects that were received."""
    return sum(request.body_bytes for request in ours(proxy, "put", "part"))


def writes(proxy: RecordingProxy) -> int:
    """Requests that change something at the server."""
    return sum(r.method in ("PUT", "POST", "DELETE") for r in proxy.requests)


def one_line(run: Result) -> str:
    """The one line that was said; nothing in it steers a terminal."""
    (line,) = run.stderr.splitlines()
    assert line.isprintable()
    assert "Traceback" not in line
    return line


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

"""What `jettyctl upload --json` says: every line with its documented fields, and what failed as well."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.runs import CHUNK, SLOW, Starter
from tests.support.faults import Fault, error
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl, random_file
from tests.support.servers import Server

pytestmark = pytest.mark.usefixtures("home", "xterm")

PLAN = {"source", "url", "size", "chunk_size", "chunks", "threads", "multipart", "checksum", "action", "bytes_reused"}
PROGRESS = {
    "files_total",
    "files_done",
    "bytes_total",
    "bytes_done",
    "bytes_reused",
    "bytes_sent",
    "bytes_hashed",
    "seconds",
    "in_flight",
    "limit",
}
RESULT = {
    *("source", "url", "status", "size", "bytes_sent", "bytes_reused", "sha256", "etag", "session_id", "chunks"),
    *("chunks_reused", "edges", "seconds"),
}
ERROR = {"code", "message", "hint", "source", "retryable", "exit_code"}
SUMMARY = {
    *(
        "bottleneck",
        "files",
        "uploaded",
        "resumed",
        "unchanged",
        "cloned",
        "skipped",
        "failed",
        "bytes",
        "bytes_sent",
        "bytes_reused",
        "seconds",
        "routes",
    ),
    "interrupted",
}
FIELDS = {"plan": PLAN, "progress": PROGRESS, "result": RESULT, "error": ERROR | {"url", "session_id"}, "summary": SUMMARY}


def of(events: list[Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def assert_documented(events: list[Any]) -> None:
    """Every line has the schema's number, a known type, and exactly the fields of that type."""
    for event in events:
        assert event["schema"] == 1
        assert event.keys() - {"schema", "type"} == FIELDS[event["type"]]


def test_json_of_an_upload(moto: Server, jettyctl: Jettyctl, several: Path) -> None:
    """A run tells a plan and a result for each file, and a summary at the end that counts them."""
    command = ["upload", "-r", "d", "s3://bucket/test_json_of_an_upload/", "--json", "--chunk-size", "5MiB"]
    first, second = (jettyctl(*command, server=moto, check=0).events for _ in range(2))
    for events in (first, second):
        assert_documented(events)
        assert len(of(events, "plan")) == len(of(events, "result")) == 3
        assert [event["type"] for event in events].index("summary") == len(events) - 1
    total = 2 * CHUNK + 1000
    counted = {"files": 3, "failed": 0, "skipped": 0, "resumed": 0, "bytes": total, "interrupted": False}
    assert of(first, "summary")[0].items() >= {**counted, "uploaded": 3, "unchanged": 0, "bytes_sent": total}.items()
    assert of(second, "summary")[0].items() >= {**counted, "uploaded": 0, "unchanged": 3, "bytes_sent": 0}.items()
    assert {plan["action"] for plan in of(first, "plan")} == {"upload"}
    assert {plan["action"] for plan in of(second, "plan")} == {"unchanged"}
    large = next(plan for plan in of(first, "plan") if plan["source"] == "d/large")
    assert (large["chunks"], large["chunk_size"], large["multipart"], large["size"]) == (2, CHUNK, True, 2 * CHUNK)


def test_json_of_a_plan(jettyctl: Jettyctl, several: Path) -> None:
    """A dry run tells the same plans, and a summary of nothing done."""
    events = jettyctl("upload", "-r", "d", "--json", "--dry-run", check=0).events
    assert_documented(events)
    assert len(of(events, "plan")) == 3
    assert of(events, "result") == []
    assert of(events, "summary")[0].items() >= {"files": 3, "uploaded": 0, "bytes_sent": 0}.items()


def test_json_of_a_failure(jettyctl: Jettyctl, file: Path) -> None:
    """A file that fails is an error line with what a script needs to decide; the run goes on to its summary."""
    run = jettyctl("upload", "gone", "file", "--json", "--no-progress", check=3)
    assert_documented(run.events)
    (error,) = of(run.events, "error")
    assert (error["source"], error["code"], error["exit_code"], error["retryable"]) == ("gone", "source", 1, False)
    assert error["message"]
    assert error["hint"]
    assert of(run.events, "summary")[0].items() >= {"files": 2, "uploaded": 1, "failed": 1}.items()
    assert run.stderr == ""


@pytest.mark.parametrize("args", [["file", "--threads", "x", "--json"], ["--json"], ["file", "--json", "--no-such"]])
def test_json_of_a_usage_error(jettyctl: Jettyctl, file: Path, args: list[str]) -> None:
    """What ends the command before it begins is one line of JSON too."""
    run = jettyctl("upload", *args, check=2)
    (event,) = run.events
    assert event["type"] == "error"
    assert event.keys() - {"schema", "type"} == ERROR
    assert (event["code"], event["exit_code"], event["schema"]) == ("usage", 2, 1)
    assert run.stderr == ""


def test_json_by_variable_covers_usage_errors(jettyctl: Jettyctl, file: Path) -> None:
    """Whoever asked for JSON in the environment gets errors as JSON."""
    run = jettyctl("upload", "file", "--threads", "x", env={"JETTY_JSON": "1"}, check=2)
    assert run.events[0]["code"] == "usage"


@pytest.mark.slow
def test_json_progress_is_rare(start_jettyctl: Starter, file: Path) -> None:
    """At most two progress lines a second, each as soon as it is true."""
    process = start_jettyctl("upload", "file", "--json", *SLOW, stdout=subprocess.PIPE)
    assert process.stdout is not None
    seen: list[tuple[float, dict[str, Any]]] = []
    for line in process.stdout:
        event = json.loads(line)
        if event["type"] == "progress":
            seen.append((time.monotonic(), event))
    assert process.wait(10) == 0
    times = [at for at, _ in seen]
    assert 3 <= len(seen) <= 2 * (times[-1] - times[0]) + 2
    assert [event["bytes_done"] for _, event in seen] == sorted(event["bytes_done"] for _, event in seen)
    assert {event["bytes_total"] for _, event in seen[1:]} == {3 * CHUNK}


@pytest.mark.slow
@pytest.mark.parametrize("rate", [(), ("--limit-rate", "4MiB/s")])
def test_what_limited_the_run(
    moto: Server, proxied: Callable[..., RecordingProxy], jettyctl: Jettyctl, tmp_path: Path, rate: tuple[str, ...]
) -> None:
    """A rate that the user gave is named; so is a store that asks for fewer requests, which keeps all waiting."""
    proxy = proxied(moto)
    if not rate:
        proxy.faults.append(Fault("part", 1, error(503, "SlowDown", headers={"Retry-After": "2"}), times=4))
    random_file(tmp_path / "file", 4 * CHUNK)
    url = f"s3://{moto.bucket}/{tmp_path.name}/file"
    told = jettyctl("upload", "file", url, "--chunk-size", "5MiB", *rate, "--json", server=proxy).stdout
    summary = json.loads(told.splitlines()[-1])
    assert (summary["type"], summary["bottleneck"]) == ("summary", "limit-rate" if rate else "store")


def test_the_progress_of_standard_input(jettyctl: Jettyctl) -> None:
    """Its size shows as it is read; what is done is never more than there is."""
    result = jettyctl("upload", "-", "local:stream", "--limit-rate", "30MB", "--json", input="x" * (34 << 20), check=0)
    progress = [event for event in result.events if event["type"] == "progress"]
    assert any(event["bytes_done"] for event in progress)
    assert all(event["files_total"] == 1 and event["bytes_done"] <= event["bytes_total"] for event in progress)

"""Canaries: keys, signed addresses and passwords, looked for in everything that a client and a service leave behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.server.hosts import own_backend
from tests.server.machines import Hosted, Machine, machine, until
from tests.support.plane import PlaneProcess, plane_settings
from tests.support.running import Jettyctl, Result, random_file
from tests.support.servers import Server

pytestmark = pytest.mark.slow

MIB = 1 << 20
LOUD = {"JETTY_DEBUG": "1"}
SIGNED = re.compile(rb"X-Amz-Signature=|X-Amz-Credential=|/blobs/[A-Za-z0-9_-]{8}|[Aa]uthorization: |Bearer jty_")
CANARY = "canary-7c1f0e52"  # as a password


@pytest.fixture(params=["local", "rclone"])
def hosted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hosted]:
    """A service over each kind of store that signs addresses."""
    server: Server | None = None if request.param == "local" else request.getfixturevalue(request.param)
    directory = tmp_path / "service"
    directory.mkdir()
    changes = {} if server is None else {
        "store": f"s3://{server.bucket}/{tmp_path.name}/", "endpoint_url": server.endpoint, "region": "us-east-1"
    }  # fmt: skip
    with own_backend(request, directory) as backend:
        settings = plane_settings(backend, directory, **changes)
        with PlaneProcess(settings, directory, server.env if server else {}) as plane:
            yield Hosted(plane, "acme", directory, server, f"{tmp_path.name}/")


def arguments_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def everything_below(*directories: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for directory in directories for path in directory.rglob("*") if path.is_file()}


def killed(here: Machine, file: Path, key: str) -> bytes:
    """An upload that is killed under way: what its arguments were, and what it said."""
    process = here.start(
        "upload", str(file), f"jetty:{key}", "-vvv", "--limit-rate", "6MiB/s", "--threads", "2", env=LOUD, stderr=subprocess.PIPE
    )
    until(lambda: any(session.target.key == key and session.upload_id for session in here.sessions()), "a session")
    time.sleep(0.7)
    seen = arguments_of(process.pid)
    process.send_signal(signal.SIGKILL)
    return seen + process.communicate()[1]


def runs(hosted: Hosted, here: Machine, there: Machine, file: Path) -> Iterator[Result]:
    """What goes well, and what fails in each way that a run can."""

    def loud(*args: str, env: Mapping[str, str] | None = None, **more: Any) -> Result:  # noqa: ANN401 - Jettyctl's own
        return here(*args, env={**LOUD, **(env or {})}, **more)

    session = here.sessions()[0].session_id
    yield loud("sessions", "export", session)
    yield there("resume", session, str(file), "-vvv", env=LOUD)  # held by the one that was killed
    yield loud("resume", session, "-vvv", check=0)
    yield loud("upload", str(file), "jetty:second.bin", "-vvv", "--json", check=0)  # a clone
    yield loud("upload", str(file), "jetty:.jetty/x", "-vvv")
    yield loud("upload", str(file), "jetty:second.bin", "-vvv", "--if-exists", "fail")
    yield loud("verify", str(file), "jetty:second.bin", "-vvv")
    yield loud("sessions", "list", "--remote", "--json")
    yield loud("sessions", "show", session)
    yield loud("config", "list", "--all")
    yield loud("login", input=f"{here.api_key}x")
    yield loud("login", input=f"two words {here.api_key}")
    yield loud("upload", str(file), "jetty:a.bin", "-vvv", env={"JETTY_API_KEY": f"{here.api_key}x"})
    yield loud("upload", str(file), "jetty:a.bin", "-vvv", env={"JETTY_API_KEY": f"bad key {here.api_key}"})
    yield loud("upload", str(file), "jetty://127.0.0.1:1/a.bin", "-vvv", env={"JETTY_API_KEY": here.api_key})
    os.kill(hosted.plane.pid, signal.SIGSTOP)
    stuck = here.start("upload", str(file), "jetty:stuck.bin", "-vvv", env=LOUD, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(1)
    stuck.send_signal(signal.SIGINT)
    out, err = stuck.communicate(timeout=60)
    os.kill(hosted.plane.pid, signal.SIGCONT)
    yield Result(["stuck"], stuck.returncode, out.decode(), err.decode())


@pytest.mark.timeout(300)
def test_no_secret_is_left_anywhere(hosted: Hosted, env: dict[str, str], tmp_path: Path) -> None:
    """Not in any output, log, argument, journal, side file or exported session; of the key, only in the file for keys."""
    file = Path(str(random_file(tmp_path / "file.bin", 22 * MIB)))
    here, there = machine(hosted, env, tmp_path / "here"), machine(hosted, env, tmp_path / "there")
    texts = {"killed": killed(here, file, "first.bin")}
    journals = everything_below(here.data)  # as the kill left them, side files and all
    texts |= {f"journal {name}": content for name, content in journals.items()}
    for number, result in enumerate(runs(hosted, here, there, file)):
        texts[f"{number} {result.args[0]}"] = (result.stdout + result.stderr).encode("utf-8", "surrogateescape")
    texts |= everything_below(here.data, there.data)
    texts["service's log"] = hosted.plane.log.encode()
    texts["service's arguments"] = arguments_of(hosted.plane.pid)
    database = {name: content for name, content in everything_below(hosted.directory).items() if "control-" in name}
    secrets = [key.encode() for key in (here.api_key, there.api_key, here.api_key[4:24])]
    assert len(texts) > 20
    assert {name for name, text in (texts | database).items() for secret in secrets if secret in text} == set()
    assert {name for name, text in (texts | database).items() if SIGNED.search(text)} == set()
    secret = hosted.directory / "objects" / "part-secret"
    if secret.exists():
        assert secret.stat().st_mode & 0o077 == 0
        assert not [name for name, text in texts.items() if secret.read_bytes() in text]


COMMANDS = [["serve", "--port", "0"], ["serve", "migrate"], ["keys", "list"], ["keys", "create", "--user", "u", "--tenant", "t"]]


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_passwords_of_the_services_own_are_not_shown(jettyctl: Jettyctl, command: list[str]) -> None:
    """A database that cannot be reached, or whose URL is wrong, is told of without its password; so is a Redis."""
    urls = [
        f"postgresql://jetty:{CANARY}@127.0.0.1:1/jetty",
        f"postgresql://jetty:{CANARY}@127.0.0.1:port/jetty",
        f"postgresql://jetty:{CANARY}@[::1/jetty",
        f"postgresql://jetty:p@{CANARY}@127.0.0.1:1/jetty?sslmode=require",
        f"postgresql://jetty:p@ss:{CANARY}@127.0.0.1/jetty",
        f"postgresql://jetty:{CANARY}/@127.0.0.1:99999/jetty",
        f"mysql://jetty:{CANARY}@127.0.0.1:1/jetty",
        f"{CANARY}",
    ]
    for url in urls:
        done = jettyctl(*command, env={"JETTY_DATABASE_URL": url, **LOUD})
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert CANARY not in done.stdout + done.stderr, url
    if command == ["serve", "--port", "0"]:
        for url in (f"redis://u:{CANARY}@127.0.0.1:1/0", f"redis://u:{CANARY}@127.0.0.1:port/0", f"http://u:{CANARY}@h/0"):
            process = jettyctl.start(
                *command, env={"JETTY_REDIS_URL": url, **LOUD}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            time.sleep(4)
            seen = arguments_of(process.pid) if process.poll() is None else b""
            process.terminate()
            assert CANARY.encode() not in seen + process.communicate(timeout=30)[0]

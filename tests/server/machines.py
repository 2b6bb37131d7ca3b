"""Machines that upload through a control plane: jettyctl processes with a data directory and a key of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import httpx

from jettyctl.core.session import Session
from jettyctl.journal.sqlite import SqliteJournal
from tests.support.plane import PlaneProcess, new_key
from tests.support.running import Jettyctl, Result, StartOptions
from tests.support.servers import Server, fetch

PATIENCE = 30.0  # seconds to wait for something that must happen


@dataclass(frozen=True, slots=True)
class Hosted:
    """A control plane, and the store behind it: a directory, or an S3 server with a prefix of its own."""

    plane: PlaneProcess
    tenant: str
    directory: Path
    server: Server | None = None
    prefix: str = ""

    def stored(self, key: str) -> bytes:
        """An object as it lies in the store, without asking the control plane."""
        if self.server:
            return fetch(self.server, f"{self.prefix}{self.tenant}/{key}")
        return (self.directory / "objects" / "objects" / self.tenant / key).read_bytes()

    def api_key(self, user: str = "usr_1") -> str:
        """A new key of a user."""
        return new_key(self.plane.settings.database_url, user=user, tenant=self.tenant)[1]


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of a user."""

    run: Jettyctl
    data: Path
    api_key: str
    url: str

    def __call__(self, *args: str, **options: Any) -> Result:  # noqa: ANN401 - Jettyctl's own
        return self.run(*args, **options)

    def start(self, *args: str, **options: Unpack[StartOptions]) -> subprocess.Popen[bytes]:
        """A run that goes on while the test does."""
        return self.run.start(*args, **options)

    def sessions(self) -> list[Session]:
        """What its journal says, the last used first."""
        journal = SqliteJournal(str(self.data / "journal.sqlite"))
        try:
            return journal.sessions()
        finally:
            journal.close()

    def ask(self, path: str, **query: str) -> Any:  # noqa: ANN401 - JSON
        """What the control plane says to this user."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        reply = httpx.get(f"{self.url}/api/jetty{path}", params=query, headers=headers, timeout=30, trust_env=False)
        return reply.raise_for_status().json()


def machine(
    hosted: Hosted, environment: Mapping[str, str], directory: Path, user: str = "usr_1", url: str = ""
) -> Machine:
    """A machine that has logged in, at `url` if not directly; its files lie in `directory`."""
    url = url or hosted.plane.url
    directory.mkdir(parents=True, exist_ok=True)
    key = hosted.api_key(user)
    places = {"JETTY_DATA_DIR": str(directory / "data"), "JETTY_CONFIG_DIR": str(directory / "config")}
    run = Jettyctl({**environment, **places, "JETTY_CONTROL": url}, str(directory))
    run("login", input=key, check=0)
    return Machine(run, directory / "data", key, url)


def until(happened: Callable[[], Any], what: str) -> Any:  # noqa: ANN401 - what `happened` gives
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return found


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit status and standard error of a run that was started with a pipe for it."""
    _, said = process.communicate(timeout=PATIENCE)
    return process.returncode, said.decode()


PYTHON = sys.executable
HERE = os.uname().nodename

"""One upload to stop at some moment, and to go on with."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.runs import CHUNK, MIB, Starter
from tests.e2e.watching import parts_begun, recorded_sessions, recorded_status, until
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl, Result
from tests.support.servers import Server, fetch

CHUNKS = 4
SIZE = CHUNKS * CHUNK - 999
RATE = 12.0 * MIB  # bytes a second, until something was done to the first run
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Stage:
    """One file that goes to one key of moto through a proxy, slowly enough to be interrupted."""

    jettyctl: Jettyctl
    start: Starter
    proxy: RecordingProxy
    server: Server
    directory: Path
    key: str

    @property
    def path(self) -> str:
        return str(self.directory / "file")

    @property
    def url(self) -> str:
        return f"s3://bucket/{self.key}"

    @property
    def env(self) -> dict[str, str]:
        return dict(self.jettyctl.environment)

    def args(self) -> tuple[str, ...]:
        return ("upload", "--threads", "1", "--chunk-size", str(CHUNK), self.path, self.url)

    def begun(self) -> subprocess.Popen[bytes]:
        """A process that has one part at the server, and another one on its way."""
        process = self.start(*self.args(), server=self.proxy, stderr=subprocess.PIPE)
        self.wait_for_parts(2, process)
        return process

    def wait_for_parts(self, count: int, process: subprocess.Popen[bytes]) -> None:
        until(lambda: parts_begun(self.proxy, self.key).total() >= count, f"{count} parts", process)

    def interrupted(self) -> str:
        """Begin, interrupt, and return the session's id. Some of the parts are at the server then."""
        process = self.begun()
        code, said = stopped(process, signal.SIGINT)
        assert code == 130, said
        return self.newest()

    def newest(self) -> str:
        return next(s.session_id for s in recorded_sessions(self.env) if s.target.key == self.key)

    def run(self, *args: str, check: int | None = 0) -> Result:
        """One more run, at full speed."""
        self.proxy.rate = None
        return self.jettyctl(*args, server=self.proxy, check=check)

    def is_done(self) -> None:
        assert fetch(self.server, self.key) == Path(self.path).read_bytes()
        assert recorded_status(self.env, self.key) == "completed"

    def each_part_once(self) -> None:
        assert parts_begun(self.proxy, self.key) == dict.fromkeys(range(1, CHUNKS + 1), 1)


def stopped(process: subprocess.Popen[bytes], number: signal.Signals) -> tuple[int, str]:
    """Send a signal; the exit status and what was said, both within the promised time."""
    process.send_signal(number)
    _, said = process.communicate(timeout=STOP_SECONDS)
    return process.returncode, said.decode()


def slow(value: str) -> Any:  # noqa: ANN401 - pytest's own type has no public name
    """A parameter that only the long run takes."""
    return pytest.param(value, marks=pytest.mark.slow)

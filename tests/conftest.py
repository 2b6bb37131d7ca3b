"""What all tests share: real servers, a clean environment, and jettyctl as a process.

Servers start when a test first asks for them and live as long as the session; each pytest-xdist worker has its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Unpack

import pytest

from tests.support.databases import Backend, Postgres, Valkey, postgres_backend, prepare_template, sqlite_backend
from tests.support.faults import Fault
from tests.support.proxy import RecordingProxy
from tests.support.running import Jettyctl, StartOptions, clean_environment, foreign
from tests.support.servers import Endpoint, MotoServer, RcloneServer, Server, stop


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        choices=("sqlite", "postgres"),
        default="sqlite",
        help="what a control plane under test keeps its state in: an SQLite file, or Postgres and Valkey",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is below tests/server runs again on Postgres and Valkey: `-m server --backend postgres`."""
    for item in items:
        if item.nodeid.startswith("tests/server/"):
            item.add_marker("server")


@pytest.fixture(scope="session", autouse=True)
def _clean_session() -> Iterator[None]:
    """Nothing of the developer's machine steers what runs in this process, session fixtures included."""
    before = dict(os.environ)
    for name in [*filter(foreign, os.environ)]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    yield
    _restore(before)


@pytest.fixture(autouse=True)
def _same_environment_after(_clean_session: None) -> Iterator[None]:
    """A test may set variables; the next one does not see them."""
    before = dict(os.environ)
    yield
    _restore(before)


def _restore(before: dict[str, str]) -> None:
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with RcloneServer(str(tmp_path_factory.mktemp("rclone"))) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A Postgres that has the template of `new_database`."""
    with Postgres() as server:
        prepare_template(server)
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """A new database with its schema; with `--backend postgres` on Postgres, and an empty Valkey."""
    if request.config.getoption("--backend") == "sqlite":
        with sqlite_backend(tmp_path) as made:
            yield made
        return
    with postgres_backend(request.getfixturevalue("postgres"), request.getfixturevalue("valkey")) as made:
        yield made


@pytest.fixture(params=["moto", pytest.param("rclone", marks=pytest.mark.slow)])
def s3_server(request: pytest.FixtureRequest) -> Server:
    """Each of the two servers in turn."""
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def proxied() -> Iterator[Callable[..., RecordingProxy]]:
    """`proxied(server, rate=…, faults=[…])` starts a RecordingProxy that ends with the test."""
    proxies: list[RecordingProxy] = []

    def start(
        upstream: Endpoint | str, *, rate: float | None = None, far: bool = False, faults: list[Fault] | None = None
    ) -> RecordingProxy:
        proxies.append(RecordingProxy(upstream, rate, far, [] if faults is None else faults).start())
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where runs keep compiled modules if they may not keep them beside the sources: each would compile jettyctl anew."""
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return {}
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}


@pytest.fixture
def env(tmp_path: Path, bytecode: dict[str, str]) -> dict[str, str]:
    """An environment for child processes; change it freely."""
    return {**clean_environment(str(tmp_path / "home")), **bytecode}


@pytest.fixture
def jettyctl(env: dict[str, str], tmp_path: Path) -> Jettyctl:
    """Runs `jettyctl` in the test's directory, with the `env` fixture as it is at the time of the call."""
    return Jettyctl(env, str(tmp_path))


@pytest.fixture
def start_jettyctl(jettyctl: Jettyctl) -> Iterator[Callable[..., Popen[bytes]]]:
    """`start_jettyctl(*args, server=…, env=…, **popen)` -> Popen. What still runs at the test's end is ended."""
    processes: list[Popen[bytes]] = []

    def start(*args: str | bytes, **options: Unpack[StartOptions]) -> Popen[bytes]:
        processes.append(jettyctl.start(*args, **options))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            stop(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()

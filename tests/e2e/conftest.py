"""Places, files and uploads that end-to-end tests share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.runs import CHUNK, Proxied, Starter
from tests.e2e.stages import RATE, SIZE, Stage
from tests.support.running import Jettyctl, random_file
from tests.support.servers import Server


@pytest.fixture
def home(env: dict[str, str], tmp_path: Path) -> Path:
    """The root of the embedded store's objects."""
    env["JETTY_DATA_DIR"] = str(tmp_path / "data")
    return tmp_path / "data" / "store" / "objects"


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """Where this test's objects go: servers are shared by tests."""
    return f"{tmp_path.name}/"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """`make("a.bin", size)` writes a file of random bytes in the test's directory."""

    def write(name: str, size: int, seed: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        random_file(path, size, seed)
        return path

    return write


@pytest.fixture
def xterm(env: dict[str, str]) -> None:
    """A terminal with colours, and nothing that looks like CI."""
    env["TERM"] = "xterm-256color"
    env.pop("CI", None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three chunks; more than a second at the rate of SLOW."""
    random_file(tmp_path / "file", 3 * CHUNK)
    return tmp_path / "file"


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A directory with a file in parts and two small ones."""
    (tmp_path / "d").mkdir()
    for name, size in (("large", 2 * CHUNK), ("one", 1000), ("none", 0)):
        random_file(tmp_path / "d" / name, size)
    return tmp_path / "d"


@pytest.fixture
def stage(
    moto: Server,
    env: dict[str, str],
    jettyctl: Jettyctl,
    start_jettyctl: Starter,
    proxied: Proxied,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Stage:
    """A key of its own for each test. The checksum is given, so that no probe mixes with what is counted."""
    env |= {"JETTY_DATA_DIR": str(tmp_path / "data"), "JETTY_CHECKSUM": "md5"}
    random_file(tmp_path / "file", SIZE)
    key = re.sub(r"\W+", "-", request.node.name)
    return Stage(jettyctl, start_jettyctl, proxied(moto, rate=RATE), moto, tmp_path, key)

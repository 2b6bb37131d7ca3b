"""The layout is a promise: who may import whom, and which third-party package lives where."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jettyctl

PACKAGE = Path(jettyctl.__file__).parent
ROOT = PACKAGE.parent

# Each third-party package, and the only places that may import it.
FENCES = {
    "typer": ("cli/", "config.py"),
    "rich": ("cli/live.py", "cli/edge_tables.py"),
    "tomlkit": ("config_file.py", "edges/configured.py"),
    "httptools": ("net/exchange.py",),
    "certifi": ("net/tls.py", "server/edge/origin.py"),
    "h11": ("server/edge/",),
    "awscrt": ("files/crc.py", "storage/s3/sign.py"),
    "botocore": ("storage/s3/credentials.py",),
    "blake3": ("cli/hashing.py", "files/fingerprint.py", "files/object_digest.py"),
    "platformdirs": ("paths.py",),
    "sqlite3": ("journal/sqlite.py", "files/cache.py", "files/neighbours.py", "server/control/sqlite.py"),
    "sqlalchemy": ("server/control/",),
    "alembic": ("server/control/",),
    "fastapi": ("server/control/",),
    "starlette": ("server/control/",),
    "pydantic": ("server/control/bodies",),
    "uvicorn": ("server/control/serving.py", "server/control/protocol.py"),
    "redis": ("server/control/",),
    "httpx": ("server/control/monitor.py",),
    "aiofiles": ("server/control/",),
    "prometheus_client": ("server/control/metrics.py",),
}


def imports_of(path: Path) -> Iterator[str]:
    """The top-level packages that a module imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def modules() -> list[Path]:
    """All modules of the package."""
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_third_party_packages_stay_where_they_belong(path: Path) -> None:
    """A module imports the standard library, jettyctl, and only such packages as its place is made for."""
    place = str(path.relative_to(PACKAGE))
    for name in set(imports_of(path)):
        if name in FENCES:
            assert place.startswith(FENCES[name]), f"{place} must not import {name}"
        else:
            assert name == "jettyctl" or name in sys.stdlib_module_names, f"{place} imports {name}, which has no fence"


def test_layers() -> None:
    """The import contracts in pyproject.toml hold."""
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_public_names() -> None:
    """Every name in `__all__` is there, in order, and nothing heavy is imported for it before it is used."""
    assert sorted(jettyctl.__all__) == list(jettyctl.__all__)
    for name in jettyctl.__all__:
        assert getattr(jettyctl, name) is not None
    code = "import jettyctl, sys; print([m for m in ('httptools', 'awscrt', 'typer', 'rich', 'asyncio') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "[]"

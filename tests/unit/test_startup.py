"""A start imports what the command needs and nothing else: most runs are short, and scripts make many of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from jettyctl.cli import app
from tests.support.running import Jettyctl, random_file

NETWORK = {"httptools", "h11", "certifi", "botocore", "http.client", "urllib.request", "email", "xml"}
NETWORK |= {"jettyctl.net.http", "jettyctl.storage.s3.client", "jettyctl.storage.s3.sign", "awscrt.auth"}
DRAWING = {"rich"}
SERVER = {"jettyctl.server", "fastapi", "starlette", "uvicorn", "sqlalchemy", "redis"}
HEAVY = NETWORK | DRAWING | SERVER | {"typer", "click", "awscrt", "asyncio", "sqlite3", "platformdirs"}


def imported(jettyctl: Jettyctl, *arguments: str) -> set[str]:
    """The modules that a successful run has imported by its end."""
    code = "import sys; from jettyctl.__main__ import main; status = main(); print(*sys.modules, file=sys.stderr); exit(status)"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=jettyctl.environment, cwd=jettyctl.cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {*done.stderr.splitlines()[-1].split()}


def modules_of(*commands: str) -> set[str]:
    """The modules of the commands that are not named."""
    return {f"jettyctl.cli.{module}" for name, module in app.COMMANDS.items() if name not in commands}


@pytest.fixture
def file(jettyctl: Jettyctl) -> str:
    """A small file, in the directory that runs begin in."""
    random_file(Path(jettyctl.cwd) / "file", 1024)
    return "file"


def test_version(jettyctl: Jettyctl) -> None:
    """`--version` imports none of the heavy packages."""
    assert HEAVY.isdisjoint(imported(jettyctl, "--version"))


def test_help(jettyctl: Jettyctl) -> None:
    """A command's help needs no other command, no HTTP client, no signer and no engine: it is there at once."""
    found = imported(jettyctl, "upload", "--help")
    assert found.isdisjoint(NETWORK | DRAWING | SERVER | {"awscrt", "asyncio", "sqlite3"})
    # `completion` also answers the shells, in every run.
    assert found.isdisjoint(modules_of("upload", "completion"))


@pytest.mark.parametrize("flags", [["-q"], ["--json"], []], ids=["quiet", "json", "no-terminal"])
def test_upload_into_the_embedded_store(jettyctl: Jettyctl, file: str, flags: list[str]) -> None:
    """An upload into the embedded store imports nothing that speaks to a network, draws, parses a file or chooses edges."""
    found = imported(jettyctl, "upload", file, *flags)
    assert found.isdisjoint(NETWORK | DRAWING | SERVER | modules_of("upload", "completion"))
    assert found.isdisjoint({"tomllib", "tomlkit", "jettyctl.core.scoring", "jettyctl.edges.configured"})


def test_the_store_of_a_bucket() -> None:
    """What speaks to S3 brings neither the standard library's HTTP client nor its mail parser with it."""
    code = "import sys, jettyctl.storage.s3.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"urllib.request", "http.client", "email", "xml.sax"}.isdisjoint(done.stdout.split())


def test_unchanged_file(jettyctl: Jettyctl) -> None:
    """A file that is there already is recognized without the C runtime, which is slow to start."""
    old = os.__file__  # the hash of a file that was just made is not believed
    assert "awscrt" in imported(jettyctl, "upload", old, "-q")
    assert "awscrt" not in imported(jettyctl, "upload", old, "-q")


@pytest.mark.parametrize("command", [["sessions", "list"], ["hash", "file"], ["verify", "file", "local:"], ["config", "list"]])
def test_commands_that_stay_here(jettyctl: Jettyctl, file: str, command: list[str]) -> None:
    """What asks no other machine anything loads no code for it."""
    jettyctl("upload", file, check=0)
    assert imported(jettyctl, *command).isdisjoint(NETWORK | SERVER)


@pytest.mark.parametrize("name", list(app.COMMANDS))
def test_each_command_by_itself(name: str) -> None:
    """The table leads from a command's name to the module that adds it: it alone is enough to run the command."""
    alone = typer.main.get_command(app.tree([name]))
    assert name in getattr(alone, "commands", {})


def test_the_tree_is_complete() -> None:
    """`app` has the commands of the table and no others, for the help, for shells, and for whoever imports it."""
    assert {*getattr(typer.main.get_command(app.app), "commands", {})} == {*app.COMMANDS}

"""jettyctl as its users meet it: a process with an environment of its own."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, TypedDict, TypeVar, Unpack

from tests.support.servers import Endpoint

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BLOCK = 1 << 20
FOREIGN = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NO_COLOR", "FORCE_COLOR"})

AnyPath = TypeVar("AnyPath", bound=str | bytes | os.PathLike[str])


class PopenOptions(TypedDict, total=False):
    """Options of Popen that tests use."""

    stdin: int | IO[Any]
    stdout: int | IO[Any]
    stderr: int | IO[Any]
    cwd: str
    preexec_fn: Callable[[], object]


class StartOptions(PopenOptions, total=False):
    """Options of `Jettyctl.start`."""

    server: Endpoint | None
    env: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    args: list[str]
    returncode: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of stdout as JSON, for runs with `--json`."""
        return [json.loads(line) for line in self.stdout.splitlines() if line]


def foreign(name: str) -> bool:
    """Whether a variable of the developer's machine would change what an upload does or prints."""
    return name.upper() in FOREIGN or name.startswith(("AWS_", "JETTY_", "JETTYCTL_", "RCLONE_", "XDG_"))


def clean_environment(home: str) -> dict[str, str]:
    """An environment in which every directory that a program may write to lies in `home`."""
    env = {name: value for name, value in os.environ.items() if not foreign(name)}
    directories = {"HOME": home}
    for name in ("CONFIG", "DATA", "CACHE", "STATE"):
        directories[f"XDG_{name}_HOME"] = os.path.join(home, name.lower())
    for directory in directories.values():
        os.makedirs(directory, exist_ok=True)
    return {**env, **directories, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": ROOT}


@dataclass(frozen=True, slots=True)
class Jettyctl:
    """Call it as `jettyctl("upload", path, "s3://bucket/key", server=moto)`. Arguments may be bytes, as names are."""

    environment: Mapping[str, str]
    cwd: str

    def __call__(
        self,
        *args: str | bytes,
        server: Endpoint | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,  # noqa: A002 - the name that subprocess.run gave it
        check: int | None = None,
        timeout: float = 60,
        cwd: str | None = None,
    ) -> Result:
        """Run to the end. `env` is added to the clean environment; `check` is the exit status that is expected."""
        done = subprocess.run(
            self.command(*args),
            env=self.complete(server, env),
            cwd=cwd or self.cwd,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout,
        )
        result = Result([os.fsdecode(arg) for arg in args], done.returncode, done.stdout, done.stderr)
        if check is not None and result.returncode != check:
            raise AssertionError(f"exit status {result.returncode}, not {check}:\n{result.stdout}\n{result.stderr}")
        return result

    def start(
        self,
        *args: str | bytes,
        server: Endpoint | None = None,
        env: Mapping[str, str] | None = None,
        **options: Unpack[PopenOptions],
    ) -> subprocess.Popen[bytes]:
        """Begin a run and return its process. Output goes to /dev/null unless `options` (Popen's) say otherwise."""
        null = subprocess.DEVNULL
        settings: PopenOptions = {"stdin": null, "stdout": null, "stderr": null, "cwd": self.cwd, **options}
        return subprocess.Popen(self.command(*args), env=self.complete(server, env), **settings)

    @staticmethod
    def command(*args: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-m", "jettyctl", *args]

    def complete(self, server: Endpoint | None, env: Mapping[str, str] | None) -> dict[str, str]:
        return {**self.environment, **(server.env if server else {}), **(env or {})}


def random_file(path: AnyPath, size: int, seed: int = 0) -> AnyPath:
    """Write `size` bytes that depend only on `seed`, and return the path. Nothing in them compresses or repeats."""
    source = random.Random(seed)
    with open(path, "wb") as file:
        for offset in range(0, size, BLOCK):
            file.write(source.randbytes(min(BLOCK, size - offset)))
    return path

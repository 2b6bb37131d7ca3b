"""A control plane as its clients meet it: a process on a port of loopback, and a client that hides nothing.

    with PlaneProcess(settings, directory) as plane:
        reply = plane.client(key).post("/api/jetty/check-duplicate", {...})
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from jettyctl.server.control import keys
from jettyctl.server.control.database import Database
from jettyctl.server.control.settings import Settings
from tests.support.databases import Backend
from tests.support.running import ROOT
from tests.support.servers import START_SECONDS, bare_environment, stop

PLENTY = 1_000_000  # requests in a minute, for tests that are not about limits
BUCKETS = ("optimal-edges", "check-duplicate", "cache-chunk", "track-upload", "uploads", "auth-failures")
UNLIMITED: Mapping[str, int] = dict.fromkeys(BUCKETS, PLENTY)
T = TypeVar("T")


class PlaneProcess:
    """A service of these settings: `jettyctl.server.control.serving` in a process. Its database has its schema.

    After `kill`, `start` brings it back on the same port.
    """

    def __init__(self, settings: Settings, directory: Path, env: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self._env = {**bare_environment(), **(env or {})}
        self.port = 0
        self._log = directory / f"plane-{os.urandom(4).hex()}.log"
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def log(self) -> str:
        """What the process, and those before it, wrote to stderr so far."""
        return self._log.read_text()

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process
        assert self._process.stdout
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def start(self) -> Self:
        """Returns once it answers."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.plane_main", str(self.port)], cwd=ROOT, env=self._env, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(self.settings.to_json() + "\n")
        self._process.stdin.close()
        said = self._process.stdout.readline()
        if not said:
            self.__exit__()
            raise AssertionError(f"the service did not start:\n{self.log}")
        self.port = int(said)
        if self.settings.workers > 1:
            httpx.get(f"{self.url}/health", timeout=START_SECONDS, trust_env=False)  # answered once a worker is there
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            stop(self._process, 15)
            assert self._process.stdout
            self._process.stdout.close()

    def client(self, key: str | None = None) -> httpx.Client:
        """A client of this service, which sends the key with every request."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)


def plane_settings(backend: Backend, directory: Path, **changes: Any) -> Settings:  # noqa: ANN401 - fields of Settings
    """Settings for tests: objects lie in the directory, no edge is looked at, no limit is met."""
    return replace(
        Settings(backend.database_url, backend.redis_url, f"local:{directory}/objects", monitor_seconds=0, limits=UNLIMITED),
        **changes,
    )


def new_key(
    database_url: str,
    user: str = "usr_1",
    tenant: str = "acme",
    scopes: tuple[str, ...] = ("read", "write"),
    expires_at: datetime | None = None,
) -> tuple[str, str]:
    """A key made in the database: (its id, the key)."""

    async def create(database: Database) -> tuple[str, str]:
        record, key = await keys.create(database, user_id=user, tenant_id=tenant, scopes=scopes, expires_at=expires_at)
        return record.id, key

    return with_database(database_url, create)


def with_database(database_url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    """Run `await work(database)` beside the service, in this process."""

    async def run() -> T:
        database = Database(database_url)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine."""
    return asyncio.run(coroutine)


def lines_of(log: str) -> list[dict[str, Any]]:
    """The JSON lines of a log."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def claim(client: httpx.Client, user: str, file_hash: str, name: str, size: int) -> str:
    """Tell the service of an upload that went well; the id of the file."""
    path = "/api/jetty/track-upload"
    start = {"action": "start", "userId": user, "fileName": name, "fileHash": file_hash, "fileSize": size}
    session = client.post(path, json=start).raise_for_status().json()["session"]
    client.post(path, json={"action": "complete", "sessionId": session["sessionId"]}).raise_for_status()
    return str(session["fileId"])

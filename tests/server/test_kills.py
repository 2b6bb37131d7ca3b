"""Whatever is killed under a control plane: clients go on, or are resumed, and nothing that was acknowledged is lost.

KILL_SEED=... repeats a run's draws.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from jettyctl.core.catalogue import DOMAIN
from jettyctl.server.control import schema
from tests.server.hosts import own_backend
from tests.server.machines import Hosted, machine, until
from tests.server.storms import (
    MIB,
    Load,
    Uploader,
    check_chunks,
    check_completes,
    check_log,
    check_parts,
    check_uploads,
    parts_at_s3,
    parts_at_service,
)
from tests.support.databases import Backend, Postgres, Valkey
from tests.support.plane import UNLIMITED, PlaneProcess, new_key, plane_settings
from tests.support.proxy import RecordingProxy
from tests.support.servers import START_SECONDS, Server

CHUNK = 5 * MIB
TENANT = "acme"
LIMIT = 40  # questions for duplicates that a user has in a minute, where that is looked at


@dataclass(slots=True)
class Scene:
    """A control plane under load, and the proxy that counts the requests for parts."""

    hosted: Hosted
    proxy: RecordingProxy
    load: Load
    draw: random.Random

    @property
    def plane(self) -> PlaneProcess:
        return self.hosted.plane

    def pause(self, least: float = 0.1, most: float = 1.5) -> None:
        """Go on undisturbed for a random while."""
        time.sleep(self.draw.uniform(least, most))

    def judge(self, kills: int) -> None:
        """Everything that must be true at the end."""
        load, proxy = self.load, self.proxy
        print(f"{kills} kills; {load.report()}")
        print(*(said for one in load.arrived for said in one.said), sep="\n")
        check_uploads(load, self.hosted)
        check_chunks(load)
        check_log(self.plane)
        wanted = {one.key: -(-one.path.stat().st_size // CHUNK) for one in load.arrived}
        if self.hosted.server:
            place = f"{self.hosted.prefix}{TENANT}/"
            parts = check_parts(parts_at_s3(proxy, place), wanted)
            completes = f"{check_completes(proxy, place, [*wanted])} Completes"
        else:
            keys = {session.session_id: session.target.key for one in load.uploaders for session in one.machine.sessions()}
            parts = check_parts(parts_at_service(proxy, keys), wanted)
            completes = "embedded store"
        print(f"{parts}; {completes}")


Stage = Callable[..., Scene]


@pytest.fixture
def staged(request: pytest.FixtureRequest, env: dict[str, str], tmp_path: Path) -> Iterator[Stage]:
    """`staged(backend, server, uploaders=…, size=…, **settings)` : the load is there, and begins with `with scene.load`."""
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"KILL_SEED={seed}")
    with ExitStack() as stack:

        def stage(
            backend: Backend, server: Server | None, uploaders: int = 2, size: int = 22 * MIB, **changes: object
        ) -> Scene:
            prefix, environment = f"{tmp_path.name}/", None
            proxy = RecordingProxy(server or "")
            if server:
                stack.enter_context(proxy)
                environment = proxy.env
                changes |= {"store": f"s3://{server.bucket}/{prefix}", "endpoint_url": proxy.endpoint, "region": "us-east-1"}
            plane = stack.enter_context(PlaneProcess(plane_settings(backend, tmp_path, **changes), tmp_path, environment))
            hosted = Hosted(plane, TENANT, tmp_path, server, prefix if server else "")
            if not server:
                proxy.upstream = plane.url
                stack.enter_context(proxy)
            options = ("--chunk-size", str(CHUNK), "--threads", "2", "--limit-rate", "8MiB/s")
            url = "" if server else proxy.endpoint
            names = [f"uploader-{number}" for number in range(uploaders)]
            works = [
                Uploader(machine(hosted, env, tmp_path / name, url=url), name, seed + 1000 * n, size, options)
                for n, name in enumerate(names)
            ]
            load = Load(plane, works, new_key(backend.database_url, tenant=TENANT)[1], seed)
            return Scene(hosted, proxy, load, random.Random(seed))

        yield stage


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """A database for one service alone."""
    with own_backend(request, tmp_path) as backend:
        yield backend


def kill_service(scene: Scene) -> None:
    """SIGKILL, and the next one is started at once."""
    scene.plane.kill()
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            scene.plane.start()
        except AssertionError:  # the workers of the one that was killed still end
            assert time.monotonic() < deadline
        else:
            return


def workers_of(pid: int) -> list[int]:
    """The processes that serve."""
    listing = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)]
    found = subprocess.run(listing, capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line]


def kill_worker(scene: Scene) -> None:
    """SIGKILL for one of several; its supervisor starts another."""
    found = until(lambda: workers_of(scene.plane.pid), "a worker")  # both may have been killed just now
    os.kill(scene.draw.choice(found), 9)


def service_kills(scene: Scene, kills: int) -> None:
    """So many kills of the service, or of one of its workers."""
    for _ in range(kills):
        scene.pause()
        many = scene.plane.settings.workers > 1
        scene.draw.choice((kill_service, kill_worker) if many else (kill_service,))(scene)


@pytest.mark.slow
def test_the_service_is_killed_in_short(own: Backend, staged: Stage) -> None:
    """Two kills while one file is sent to the embedded store."""
    scene = staged(own, None, uploaders=1, size=12 * MIB)
    with scene.load:
        service_kills(scene, 2)
    scene.judge(2)


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("store", ["local", "moto"])
def test_the_service_is_killed(request: pytest.FixtureRequest, own: Backend, staged: Stage, store: str) -> None:
    """Twenty kills, of one process on SQLite, of a supervisor or one of two workers on Postgres."""
    server = request.getfixturevalue("moto") if store == "moto" else None
    scene = staged(own, server, workers=2 if own.redis_url else 1)
    with scene.load:
        service_kills(scene, 20)
    scene.judge(20)


@pytest.fixture
def databases() -> Iterator[tuple[Postgres, Valkey]]:
    """A Postgres with the schema and a Valkey that nobody else uses, so that they may be killed."""
    with Postgres() as postgres, Valkey() as valkey:
        schema.upgrade(postgres.url(), DOMAIN)
        yield postgres, valkey


def check_limit(scene: Scene, user: str) -> None:
    """A new user who asks without end is refused after the limit; after twice that where the counts moved meanwhile."""
    with scene.plane.client(new_key(scene.plane.settings.database_url, user, TENANT)[1]) as client:
        body = {"fileHash": "sha256:unknown", "userId": user}
        replies = [client.post("/api/jetty/check-duplicate", json=body) for _ in range(2 * LIMIT + 1)]
    statuses = [reply.status_code for reply in replies]
    assert {*statuses} == {200, 429}, statuses
    assert LIMIT <= statuses.count(200) <= 2 * LIMIT, statuses
    assert int(replies[-1].headers["retry-after"]) >= 1


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_valkey_is_flushed_and_killed(databases: tuple[Postgres, Valkey], staged: Stage) -> None:
    """Valkey emptied, killed, and back empty or with an old dump, ten times: nobody notices, and limits hold."""
    postgres, valkey = databases
    scene = staged(Backend(postgres.url(), valkey.url), None, limits={**UNLIMITED, "check-duplicate": LIMIT})
    with scene.load:
        for number in range(10):
            scene.pause()
            if number % 3 == 0:
                valkey.execute("FLUSHALL")
            elif number % 3 == 1:
                valkey.kill()
                check_limit(scene, f"without-{number}")
                scene.pause()
                valkey.restart()
            else:
                valkey.dump()
                scene.pause()
                valkey.restart()
            check_limit(scene, f"after-{number}")
    scene.judge(10)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_postgres_is_restarted(databases: tuple[Postgres, Valkey], staged: Stage) -> None:
    """Postgres restarted and killed, six times: uploads wait for it or are resumed."""
    postgres, valkey = databases
    scene = staged(Backend(postgres.url(), valkey.url), None)
    with scene.load:
        for number in range(6):
            scene.pause()
            if number % 2:
                postgres.kill()
                scene.pause(0.0, 0.5)
            postgres.restart()
    scene.judge(6)

"""Duties: one worker among many has them, and another when that one ends, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select, update

from jettyctl.core.scoring import Edge
from jettyctl.server.control import edges
from jettyctl.server.control.database import Database, DatabaseDown
from jettyctl.server.control.duty import Chore, Duty
from jettyctl.server.control.settings import Settings
from jettyctl.server.control.tables import duty_leases, edge_metrics
from tests.support.edge_process import Canary
from tests.support.running import ROOT
from tests.support.servers import stop

Run = Callable[[Callable[[Database], Coroutine[Any, Any, None]]], None]
EVERY = 1.0  # seconds between rounds, and the interval of the duty


@contextmanager
def taking_part(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that takes part in the duties, ended at the end if it still runs."""
    command = [sys.executable, "-W", "error", "-m", "tests.support.duty_main"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(Settings(url, monitor_seconds=EVERY).to_json() + "\n")
        process.stdin.close()
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        stop(process)
        process.stdout.close()


async def holder(database: Database) -> int | None:
    """The pid that is part of the holder's name; None: nobody has the duty."""
    async with database.read() as connection:
        name = await connection.scalar(select(duty_leases.c.holder))
    return int(name.split("-")[-2]) if name else None


async def times(database: Database) -> list[datetime]:
    """When rounds were made."""
    async with database.read() as connection:
        return list(await connection.scalars(select(edge_metrics.c.timestamp).order_by(edge_metrics.c.timestamp)))


async def until(true: Callable[[], Coroutine[Any, Any, bool]], seconds: float) -> float:
    """Seconds until it is so."""
    begin = time.monotonic()
    while not await true():
        assert time.monotonic() - begin < seconds
        await asyncio.sleep(0.05)
    return time.monotonic() - begin


@pytest.mark.slow
def test_one_of_two_processes_monitors_until_it_is_killed(run: Run, database_url: str) -> None:
    """Two processes write the rounds of one; when it is killed the other goes on within two intervals."""

    async def story(database: Database) -> None:
        await edges.put_edge(database, Edge("a", edge.endpoint))
        with taking_part(database_url) as first, taking_part(database_url) as second:
            await asyncio.sleep(3 * EVERY)
            rounds = await times(database)
            assert 3 <= len(rounds) <= 5
            assert await holder(database) == first.pid
            first.kill()
            first.wait()

            async def taken() -> bool:
                return await holder(database) == second.pid

            assert await until(taken, 10) < 2 * EVERY + 0.5
            known = len(await times(database))

            async def goes_on() -> bool:
                return len(await times(database)) > known

            await until(goes_on, 2 * EVERY + 1)

    with Canary(lambda canary, sock: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as edge:
        run(story)


def test_a_process_that_ends_gives_its_duties_up(run: Run, database_url: str) -> None:
    """After SIGTERM the duty is free at once, and the process ends without an error."""

    async def story(database: Database) -> None:
        with taking_part(database_url) as process:

            async def taken() -> bool:
                return await holder(database) == process.pid

            await until(taken, 5)
            process.terminate()
            assert process.wait(5) == 0
            assert await holder(database) is None

    run(story)


@pytest.mark.slow
def test_a_process_that_slept_stops(run: Run, database_url: str) -> None:
    """A holder that was stopped and goes on finds that another has the duty, and leaves it to that one."""

    async def story(database: Database) -> None:
        with taking_part(database_url) as first:
            await until(lambda: _is(database, first.pid), 5)
            with taking_part(database_url) as second:
                await put_to_sleep(database, first.pid)
                await until(lambda: _is(database, second.pid), 10)
                os.kill(first.pid, signal.SIGCONT)
                await asyncio.sleep(2 * EVERY)
                assert await holder(database) == second.pid

    run(story)


async def put_to_sleep(database: Database, pid: int) -> None:
    """Stop a process at a moment when it holds no lock: SQLite's last as long as it sleeps, and nobody else can write."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        try:
            async with database.begin() as connection:
                await connection.execute(update(duty_leases).values(holder=duty_leases.c.holder))
            return
        except DatabaseDown:
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.01)


async def _is(database: Database, pid: int) -> bool:
    return await holder(database) == pid


def test_a_chore_that_fails_comes_again(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """A failure is told without its text, and neither it nor another chore ends by it."""
    done = {"good": 0, "bad": 0}

    async def good() -> None:
        done["good"] += 1

    async def bad() -> None:
        done["bad"] += 1
        raise ValueError("secret")

    async def story(database: Database) -> None:
        duty = asyncio.create_task(Duty(database, [Chore("good", 0.1, good), Chore("bad", 0.1, bad)], 0.2).run())
        await asyncio.sleep(1)
        duty.cancel()
        await asyncio.wait([duty])
        before = dict(done)
        await asyncio.sleep(0.3)
        assert done == before, "chores end with the duty"

    run(story)
    assert done["good"] >= 5
    assert done["bad"] >= 5
    told = capfd.readouterr().err
    assert "ValueError" in told
    assert "bad" in told
    assert "secret" not in told


@pytest.mark.slow
def test_a_holder_that_cannot_renew_stops_in_time(run: Run) -> None:
    """Chores end before the lease does, when the database is gone."""
    done: list[float] = []

    async def chore() -> None:
        done.append(time.monotonic())

    async def story(database: Database) -> None:
        duty = asyncio.create_task(Duty(database, [Chore("chore", 0.05, chore)], 1.0).run())
        await asyncio.sleep(0.7)
        async with database.begin() as connection:
            await connection.execute(update(duty_leases).values(name=duty_leases.c.name))  # whoever wants the row waits
            held = time.monotonic()
            await asyncio.sleep(2.5)
        assert done
        assert max(moment for moment in done if moment < held + 2.4) - held < 1.5
        duty.cancel()
        await asyncio.wait([duty])

    run(story)


def test_duties_that_are_cut_off_leave_the_database_usable(run: Run) -> None:
    """A chore that is cancelled in the middle of its transaction has written nothing, and hurts nobody."""

    async def story(database: Database) -> None:
        async def write() -> None:
            while True:
                async with database.begin() as connection:
                    await connection.execute(edge_metrics.insert().values(edge_id="a", timestamp=datetime.now().astimezone()))
                    await asyncio.sleep(0)

        for number in range(40):
            duty = asyncio.create_task(Duty(database, [Chore("write", 1.0, write)], 1.0).run())
            await asyncio.sleep(0.02 + number / 4000)
            duty.cancel()
            await asyncio.wait([duty])
        assert await times(database)
        assert await holder(database) is None

    run(story)

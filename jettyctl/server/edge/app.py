"""The edge as a whole: it accepts clients up to a limit, tells how it is, and ends without hurting what is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import ssl
import time
from collections.abc import Callable
from typing import Any

from jettyctl import __version__
from jettyctl.server.edge.channel import Channel
from jettyctl.server.edge.connection import Connection, say_goodbye
from jettyctl.server.edge.log import AccessLog
from jettyctl.server.edge.origin import Pool
from jettyctl.server.edge.policy import Limits, Origin, Part
from jettyctl.server.edge.relay import Inflow, Relay
from jettyctl.server.edge.replies import Refused, Reply, json_reply

_TURNED_AWAY = 64  # clients beyond the limit that are told so at the same time; others are just cut off
_SPARE_FILES = 128


class Edge:
    """Serves until it is stopped. All calls belong on the loop that runs `serve`."""

    def __init__(self, origins: dict[str, Origin], limits: Limits, log: AccessLog) -> None:
        self._origins = origins
        self._limits = limits
        self._log = log
        self._pool = Pool(limits)
        self._load = _CpuLoad()
        self._clients: dict[asyncio.Task[None], Connection] = {}
        self._turned_away: set[asyncio.Task[None]] = set()
        self._active = 0
        self._accepted = 0
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()

    async def serve(self, host: str, port: int, tls: ssl.SSLContext | None, ready: Callable[[int], None]) -> None:
        """Listen, call `ready` with the port, and return after `stop`. Raises OSError if it cannot listen."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._report)
        server = await loop.create_server(
            lambda: Channel(self._accept), host, port, ssl=tls, backlog=1024,
            ssl_handshake_timeout=self._limits.head if tls else None,
        )  # fmt: skip
        ready(server.sockets[0].getsockname()[1])
        await self._stop.wait()
        server.close()
        await self._end()

    def stop(self) -> None:
        """Stop accepting, and end when the requests in flight have. Called again: end at once."""
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def _end(self) -> None:
        for task, connection in self._clients.items():
            connection.closing = True
            if not connection.busy:
                task.cancel()
        ends = asyncio.ensure_future(_ended([*self._clients, *self._turned_away]))
        now = asyncio.ensure_future(self._stop_now.wait())
        await asyncio.wait([ends, now], timeout=self._limits.grace, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        for task in (*self._clients, *self._turned_away):
            task.cancel()
        await ends
        self._pool.close()

    def _accept(self, channel: Channel) -> None:
        if len(self._clients) >= self._limits.max_connections:
            return self._turn_away(channel)
        connection = Connection(channel, self._origins, self._limits, self._log, self._carry, self._health)
        task = asyncio.ensure_future(connection.run())
        self._clients[task] = connection
        task.add_done_callback(self._clients.pop)
        return None

    def _turn_away(self, channel: Channel) -> None:
        if len(self._turned_away) >= _TURNED_AWAY:
            return channel.abort()
        task = asyncio.ensure_future(_refuse(channel))
        self._turned_away.add(task)
        task.add_done_callback(self._turned_away.discard)
        return None

    async def _carry(self, part: Part, inflow: Inflow) -> Reply:
        self._active += 1
        self._accepted += 1
        try:
            return await Relay(part, inflow, self._pool, self._limits).run()
        finally:
            self._active -= 1

    def _health(self) -> Reply:
        taken = 100 * len(self._clients) / self._limits.max_connections
        return json_reply(
            {
                "status": "stopping" if self._stop.is_set() else "ok",
                "version": __version__,
                "load": round(max(taken, self._load.percent()), 1),
                "active": self._active,
                "accepted": self._accepted,
                "limits": {
                    "max_connections": self._limits.max_connections,
                    "max_part_size": self._limits.max_part_size,
                },
            }
        )

    def _report(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A failure outside of every request: broken TLS handshakes, and bugs. Its text may hold anything, so its type only."""
        error = context.get("exception")
        if not isinstance(error, OSError | asyncio.CancelledError):
            self._log.say(f"jettyctl: edge: {type(error).__name__}")


class _CpuLoad:
    """The share of one core that this process used of late, in percent."""

    def __init__(self) -> None:
        self._mark = (time.monotonic(), time.process_time())
        self._percent = 0.0

    def percent(self) -> float:
        now = (time.monotonic(), time.process_time())
        if now[0] - self._mark[0] >= 1:
            self._percent = min(100.0, 100 * (now[1] - self._mark[1]) / (now[0] - self._mark[0]))
            self._mark = now
        return self._percent


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def _refuse(channel: Channel) -> None:
    busy = Refused(503, "SlowDown", "This edge has all the clients that it may have.", [(b"Retry-After", b"1")])
    with contextlib.suppress(ConnectionError):
        await channel.send(busy.reply.encode(close=True))
        await say_goodbye(channel)
    channel.abort()


async def run(edge: Edge, host: str, port: int, tls: ssl.SSLContext | None, ready: Callable[[int], None]) -> None:
    """Serve as a process of its own: SIGTERM and SIGINT stop it."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, edge.stop)
    await edge.serve(host, port, tls, ready)


def allow_files(limits: Limits) -> None:
    """Two sockets for each client: raise the limit of open files as far as this process may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * limits.max_connections + _SPARE_FILES
    with contextlib.suppress(ValueError, OSError):
        soft = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), most))

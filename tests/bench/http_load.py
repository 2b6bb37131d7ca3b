"""A load maker that costs little itself: bare HTTP/1.1 over kept connections, one request at a time on each.

Requests are due at moments that were drawn beforehand, whatever the server does; a latency counts from the moment a
request was due, so that a slow server cannot hide behind a load maker that waits for it.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `name` groups latencies."""

    name: str
    method: str
    path: str
    body: Mapping[str, object] | None = None


@dataclass(slots=True)
class Measured:
    """Seconds by name, and the statuses that came."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    late: int = 0  # requests that had to wait for their own connection: the load maker's own queue

    @property
    def count(self) -> int:
        return sum(map(len, self.seconds.values()))


class Connection:
    """One kept connection of one client."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._address = (host, port)
        self._head = f"Host: {host}:{port}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, call: Call) -> tuple[int, bytes]:
        """Status and body. A lost connection is opened again, once."""
        try:
            return await self._exchange(call)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return await self._exchange(call)

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, call: Call) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        body = b"" if call.body is None else json.dumps(call.body).encode()
        writer.write(f"{call.method} {call.path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:")
        return status, await reader.readexactly(length)


async def paced(
    connections: list[Connection], next_call: Callable[[int], Call], *, rate: float, seconds: float, seed: int = 1
) -> Measured:
    """Send `rate` requests a second in all for `seconds`, spread at random over the connections."""
    measured, draw = Measured(), random.Random(seed)
    each = rate / len(connections)
    began = time.perf_counter() + 0.2

    async def client(index: int, moments: list[float]) -> None:
        for moment in moments:
            due = began + moment
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                measured.late += 1
            call = next_call(index)
            status, _ = await connections[index].send(call)
            measured.seconds[call.name].append(time.perf_counter() - due)
            measured.statuses[call.name][status] += 1

    def moments() -> list[float]:
        found, at = [], draw.expovariate(each)
        while at < seconds:
            found.append(at)
            at += draw.expovariate(each)
        return found

    await asyncio.gather(*(client(index, moments()) for index in range(len(connections))))
    return measured


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` (0..1) of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

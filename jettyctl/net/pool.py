"""Connections that are kept between requests, of which the one used last is used first. No limit: the engine's slots are one."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable

from jettyctl.net.sockets import Connection

Origin = tuple[str, str, int]  # scheme, host, port


class Connections:
    """Idle connections by origin, and new ones where there are none. For all threads."""

    def __init__(self, connect: Callable[[Origin], Connection], keep_alive: float) -> None:
        """`keep_alive` is how many seconds a connection may be idle."""
        self._connect = connect
        self._keep_alive = keep_alive
        self._idle: dict[Origin, list[Connection]] = defaultdict(list)
        self._lock = threading.Lock()
        self._closed = False

    def take(self, origin: Origin) -> Connection:
        """A connection for one request; `give` it back, or close it. Raises what `connect` raises."""
        while True:
            with self._lock:
                idle = self._idle[origin]
                connection = idle.pop() if idle else None
            if connection is None:
                return self._connect(origin)
            if time.monotonic() - connection.idle_since < self._keep_alive and not connection.readable():
                return connection
            connection.close()

    def give(self, origin: Origin, connection: Connection) -> None:
        """The connection may carry another request."""
        connection.idle_since = time.monotonic()
        with self._lock:
            if not self._closed:
                self._idle[origin].append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle now, and what is in use when it is given back."""
        with self._lock:
            self._closed = True
            idle = [connection for connections in self._idle.values() for connection in connections]
            self._idle.clear()
        for connection in idle:
            connection.close()

"""Connections that are kept between requests, of which the one used last is used first. No limit: the engine's slots are one.

Some are opened before they are needed: a connection takes a round trip, with TLS two or three, and there is other work meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future

from jettyctl.errors import NetworkError
from jettyctl.net.sockets import Connection

Origin = tuple[str, str, int]  # scheme, host, port


class Connections:
    """Idle connections by origin, and new ones where there are none. For all threads."""

    def __init__(self, connect: Callable[[Origin], Connection], keep_alive: float) -> None:
        """`keep_alive` is how many seconds a connection may be idle."""
        self._connect = connect
        self._keep_alive = keep_alive
        self._idle: dict[Origin, list[Connection]] = defaultdict(list)
        self._coming: dict[Origin, list[Future[Connection]]] = defaultdict(list)  # those that nobody waits for yet
        self._lock = threading.Lock()
        self._closed = False

    def open_ahead(self, origin: Origin, count: int) -> None:
        """Have at least so many connections soon. What goes wrong is told to whoever takes the connection."""
        with self._lock:
            count -= len(self._idle[origin]) + len(self._coming[origin])
            futures: list[Future[Connection]] = [Future() for _ in range(count)]
            self._coming[origin] += futures
        for future in futures:
            try:
                threading.Thread(target=self._open, args=(origin, future), name="connecting", daemon=True).start()
            except RuntimeError as error:  # no memory for another thread: whoever needs the connection makes it
                self._fail(origin, future, NetworkError(str(error)))

    def take(self, origin: Origin) -> Connection:
        """A connection for one request; `give` it back, or close it. Raises what `connect` raises."""
        while True:
            with self._lock:
                idle, coming = self._idle[origin], self._coming[origin]
                connection = idle.pop() if idle else None
                future = coming.pop(0) if connection is None and coming else None
            if connection is None:
                return future.result() if future else self._connect(origin)
            if time.monotonic() - connection.idle_since < self._keep_alive and not connection.readable():
                return connection
            connection.close()

    def _open(self, origin: Origin, future: Future[Connection]) -> None:
        try:
            connection = self._connect(origin)
        except BaseException as error:  # noqa: BLE001 - raised to whoever waits for the connection
            self._fail(origin, future, error)
            return
        with self._lock:
            unclaimed = self._forget(origin, future)
        if unclaimed:
            self.give(origin, connection)
        else:
            future.set_result(connection)

    def _fail(self, origin: Origin, future: Future[Connection], error: BaseException) -> None:
        with self._lock:
            self._forget(origin, future)
        future.set_exception(error)

    def _forget(self, origin: Origin, future: Future[Connection]) -> bool:
        """Whether nobody waits for it."""
        unclaimed = future in self._coming[origin]
        if unclaimed:
            self._coming[origin].remove(future)
        return unclaimed

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

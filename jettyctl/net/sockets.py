"""Sockets for HTTP: made, watched and cut.

The socket is where an uploader lives: slices go out without being copied, a connection that moves too little is ended, a
black-holed address costs less than a second, and an interrupt ends all calls at once. No foreign exception leaves this file.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from typing import Any, NamedTuple

from jettyctl.errors import Interrupted, NetworkError, Stalled, UntrustedServer

CONNECT_TIMEOUT = 10.0  # seconds
FIRST_TRY = 0.8  # seconds for an address while there are others to try
IDLE_TIMEOUT = 30.0  # seconds without a byte in either direction
UNSENT = 256 * 1024  # bytes that wait in a socket's send buffer, beside those that are on the way
MIN_RATE = 1024.0  # bytes a second, over a window as long as a stall may take to be found
RATE_WINDOW = 60.0  # seconds
SENDING = 1.0  # seconds that the kernel tries to send, before it is asked how far it came
TLS_LEAST = 16 * 1024  # bytes given to TLS at a time: a record
TLS_FIRST = 32 * 1024  # taken within a stall's time at the least rate that goes on
TLS_MOST = 512 * 1024
TLS_SLOW, TLS_QUICK = 1 / 10, 1 / 60  # of the time after which a connection is stalled
WAITING = 2.0  # seconds that it waits for an answer, before we look at the clock: so late may a stall be found


class Patience(NamedTuple):
    """How long a connection may take, in seconds, and the least it must move over a window, in bytes a second."""

    connect: float = CONNECT_TIMEOUT
    first_try: float = FIRST_TRY
    idle: float = IDLE_TIMEOUT
    min_rate: float = MIN_RATE
    window: float = RATE_WINDOW


class NotTaken(NetworkError):
    """The other side takes no more. It may have answered already."""


class Sockets:
    """Opens connections, remembers them for `interrupt`, and remembers which address of a host answered. For all threads."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._open: set[Connection] = set()
        self._answered: dict[tuple[str, int], Any] = {}
        self._lock = threading.Lock()
        self.interrupted = False
        self.quickest: float | None = None  # seconds that connecting took
        self._begun: float | None = None  # when it was tried first
        self._connected = threading.Event()  # at least once

    def connect(self, host: str, port: int) -> Connection:
        """Try the address that answered last, then each of the host's for a short while, then each for the whole time.

        Raises NetworkError that names host and port.
        """
        addresses = self._addresses(host, port)
        whole = self.patience.connect
        failure: OSError = OSError(f"{host} has no address")
        for patience in (min(self.patience.first_try, whole), whole) if len(addresses) > 1 else (whole,):
            for entry in addresses:
                try:
                    connection = self._connect(entry, patience)
                except OSError as error:
                    failure = error
                else:
                    self._answered[host, port] = entry[4]
                    return connection
        reason = "timed out" if isinstance(failure, TimeoutError) else failure.strerror or failure
        raise NetworkError(f"cannot connect to {host}:{port}: {reason}")

    def slower_than(self, seconds: float) -> bool:
        """Whether connecting takes longer than that, since it was begun: a first connection must have been asked for."""
        gone = time.monotonic() - self._begun if self._begun else 0.0
        return not self._connected.wait(max(0.0, seconds - gone)) or (self.quickest or 0.0) > seconds

    def track(self, connection: Connection) -> Connection:
        """Remember an open connection."""
        with self._lock:
            self._open.add(connection)
        if self.interrupted:
            connection.shut_down()
        return connection

    def forget(self, connection: Connection) -> None:
        """A connection was closed, or its socket handed on."""
        with self._lock:
            self._open.discard(connection)

    def cancel(self, thread: int) -> None:
        """Cut the connection that a thread used last."""
        with self._lock:
            connections = [connection for connection in self._open if connection.user == thread]
        for connection in connections:
            connection.shut_down()

    def interrupt(self) -> None:
        """Cut all connections, and those that are made later."""
        self.interrupted = True
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.shut_down()

    def _connect(self, entry: Any, timeout: float) -> Connection:  # noqa: ANN401 - getaddrinfo's tuple
        """Connect to one address. The socket is remembered before, so that an interrupt ends the attempt too."""
        family, kind, protocol, _, address = entry
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # what is taken is soon on its way: goodput is not a full send buffer
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.settimeout(timeout)
        connection = self.track(Connection(sock, self))
        try:
            if self.interrupted:
                raise Interrupted("stopped on request")
            began = time.monotonic()
            self._begun = self._begun or began
            sock.connect(address)
            took = time.monotonic() - began
            self.quickest = took if self.quickest is None else min(took, self.quickest)
            self._connected.set()
        except BaseException:
            connection.close()
            raise
        return connection

    def _addresses(self, host: str, port: int) -> list[Any]:
        try:
            found = self._lookup(host, port)
        except (OSError, UnicodeError) as error:  # the latter: a label of a name that is too long
            raise NetworkError(f"cannot look up {host}: {getattr(error, 'strerror', None) or error}") from None
        answered = self._answered.get((host, port))
        return sorted(found, key=lambda entry: entry[4] != answered)

    def _lookup(self, host: str, port: int) -> list[Any]:
        name = host.encode() if host.isascii() else host  # most names need no tables of Unicode, which Python would load
        return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)


class Connection:
    """One socket. A call fails when nothing moves for `timeout` seconds, or less than the minimum rate over a window."""

    def __init__(self, sock: socket.socket, sockets: Sockets) -> None:
        self._sock = sock
        self._allowed: float | None = None  # seconds, as the kernel was told
        self._ahead = b""  # read before it was asked for
        self.user = 0  # the thread that read or wrote last
        self.idle_since = 0.0
        self._sockets = sockets
        self._patience = sockets.patience
        self._slices = _Slices() if isinstance(sock, ssl.SSLSocket) else None
        self._sending = _Window(self._patience.min_rate)
        self._receiving = _Window(self._patience.min_rate)

    def read(self, most: int, timeout: float) -> bytes:
        """Up to `most` bytes; b"" at the end. Raises Stalled, NetworkError."""
        self._allow(timeout)
        self.user = threading.get_ident()
        self._sending.restart()
        self._receiving.begin(max(self._patience.window, timeout))
        data = self._received(most, time.monotonic() + timeout)
        if data is None:
            raise Stalled(f"no answer for {timeout:g} s")
        if self._receiving.too_slow(len(data)):
            raise Stalled(f"the answer comes at less than {self._patience.min_rate:.0f} bytes/s")
        return data

    def _received(self, most: int, until: float) -> bytes | None:
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        while True:
            try:
                return self._sock.recv(most)
            except (TimeoutError, BlockingIOError):
                if time.monotonic() >= until:
                    return None
            except OSError as error:
                raise NetworkError(f"the connection was cut: {error.strerror or error}") from None

    def write(self, data: bytes, timeout: float) -> None:
        """All of the data. Raises Stalled, or NotTaken where there may be an answer."""
        self._allow(timeout)
        self.user = threading.get_ident()
        self._receiving.restart()
        view, moved = memoryview(data), time.monotonic()
        while view:
            self._sending.begin(self._patience.window)
            sent = self._sent(view[: self._slices.size] if self._slices else view)
            if sent:
                began, moved = moved, time.monotonic()
                view = view[sent:]
                if self._slices:
                    self._slices.taken(sent, (moved - began) / timeout)
            elif time.monotonic() - moved >= timeout:
                if self.readable():  # an answer before the end of the body
                    raise NotTaken("the server takes no more")
                raise Stalled(f"no byte was taken for {timeout:g} s")
            if self._sending.too_slow(sent):
                raise Stalled(f"the connection takes less than {self._patience.min_rate:.0f} bytes/s")

    def _sent(self, view: memoryview) -> int:
        """How much of it was taken. Over TLS all or nothing, and after nothing it wants the same again."""
        try:
            return self._sock.send(view)
        except (TimeoutError, BlockingIOError):
            return 0
        except OSError as error:
            raise NotTaken(f"the connection was cut: {error.strerror or error}") from None

    def secured(self, context: ssl.SSLContext, host: str) -> Connection:
        """This connection with TLS; it must not be used itself any more. Raises UntrustedServer, NetworkError."""
        connection = self
        try:
            self._sock.settimeout(self._patience.connect)
            self._sock.getpeername()  # fails for what was reset: `wrap_socket` would, too, and leave the socket open
            secure = context.wrap_socket(self._sock, server_hostname=host, do_handshake_on_connect=False)
            self._sockets.forget(self)
            connection = self._sockets.track(Connection(secure, self._sockets))
            secure.do_handshake()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise UntrustedServer(
                f"the certificate of {host} does not verify: {error.verify_message}",
                hint="Give the authority that signed it with --ca-file.",
            ) from None
        except (OSError, ValueError) as error:  # the latter: a name that no certificate can have
            connection.close()
            raise NetworkError(f"no TLS with {host}: {getattr(error, 'strerror', None) or error}") from None
        return connection

    def _allow(self, seconds: float) -> None:
        """How long a call may take. Without TLS the kernel keeps the time: Python would look at the socket before each call,
        and a thread that waits for the interpreter twice, not once, is what many small files are slowed down by.
        """
        if isinstance(self._sock, ssl.SSLSocket):
            # A short time, too: Python waits until half of what is unsent has left, but TLS may go on before.
            self._sock.settimeout(min(seconds, SENDING))
        elif seconds != self._allowed:
            self._sock.settimeout(None)
            # A call that took some of a large slice says so only when its time is up: short ones show when the rest stalled.
            # The kernel rounds long times up, by as much as 16 s for five minutes.
            for option, limit in ((socket.SO_RCVTIMEO, min(seconds, WAITING)), (socket.SO_SNDTIMEO, min(seconds, SENDING))):
                self._sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(limit), int(limit % 1 * 1e6)))
            self._allowed = seconds

    def readable(self) -> bool:
        """Whether there is something to read, or the end: an idle connection of which that is true was closed."""
        if isinstance(self._sock, ssl.SSLSocket):
            return bool(self._ahead) or self._reads_on(self._sock)
        waiting = select.poll()
        waiting.register(self._sock, select.POLLIN)
        return bool(waiting.poll(0))

    def _reads_on(self, sock: ssl.SSLSocket) -> bool:
        """The same over TLS, which has messages of its own: session tickets come a round trip after the handshake. Only an
        attempt to read takes them, and tells whether anything else is there.
        """
        sock.settimeout(0)
        try:
            self._ahead = sock.recv(1)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            return True
        return True

    def shut_down(self) -> None:
        """Wake up the thread that reads or writes."""
        with contextlib.suppress(OSError):
            # Not SSLSocket's own shutdown: it drops the encryption first, and a sender may still be at work.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._sockets.forget(self)
        self._sock.close()


class _Slices:
    """How much of a body is given to TLS at a time. It does not say how far it came before it took everything: that has to
    be soon, or a slow connection looks like a stalled one. On a fast one fewer and larger slices cost less.
    """

    def __init__(self) -> None:
        self.size = TLS_FIRST
        self._quick = 0  # bytes

    def taken(self, count: int, share: float) -> None:
        """So many bytes were, in this share of the time that a stall takes."""
        self._quick = self._quick + count if share < TLS_QUICK else 0
        if share > TLS_SLOW:
            self.size = max(TLS_LEAST, self.size // 2)
        elif self._quick > 2 * UNSENT:  # more than what the send buffer takes at once on any connection
            self.size, self._quick = min(TLS_MOST, self.size * 2), 0


class _Window:
    """Bytes and time spent in calls of one direction. Only time inside calls counts: a rate limit is no stall."""

    def __init__(self, min_rate: float) -> None:
        self._min_rate = min_rate
        self._length = RATE_WINDOW
        self.restart()

    def restart(self) -> None:
        self._bytes = 0
        self._seconds = 0.0

    def begin(self, length: float) -> None:
        self._length = length
        self._entered = time.monotonic()

    def too_slow(self, moved: int) -> bool:
        """Account a call that ended; True when a full window moved less than the minimum rate."""
        self._seconds += time.monotonic() - self._entered
        self._bytes += moved
        if self._seconds < self._length:
            return False
        slow = self._bytes < self._min_rate * self._seconds
        self.restart()
        return slow

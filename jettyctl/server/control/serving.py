"""The service as a process: the socket, uvicorn, its workers, and how they end."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.supervisors import Multiprocess

from jettyctl.errors import JettyError, UsageError
from jettyctl.server.control import log
from jettyctl.server.control.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

_SETTINGS = "JETTYCTL_SERVE_SETTINGS"  # how workers learn what the first process was told
_METRICS = "PROMETHEUS_MULTIPROC_DIR"  # where the metrics of several workers meet; the library's own name for it
_FACTORY = "jettyctl.server.control.serving:worker"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
KEEP_ALIVE = 75  # seconds; longer than clients keep idle connections, so that none is closed under a request
GRACE = 10  # seconds that requests in flight have at the end
BACKLOG = 1024
GC_THRESHOLDS = (20_000, 50, 50)  # requests leave few cycles behind, and every look for them stops all requests
START_SECONDS = 60.0  # that a worker has


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to accept clients, and by what certificate. `proxies` may say whom they speak for."""

    host: str
    port: int
    tls_cert: str | None = None
    tls_key: str | None = None
    proxies: tuple[str, ...] = ()

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def serve(settings: Settings, listening: Listening, ready: Callable[[int], None]) -> None:
    """Serve until SIGINT or SIGTERM. `ready` hears the port once clients can connect. Raises JettyError."""
    _check_tls(listening)
    with _bound(listening) as sock, _shared_metrics(settings.workers):
        os.environ[_SETTINGS] = settings.to_json()
        config = uvicorn.Config(
            _FACTORY,
            factory=True,
            workers=settings.workers,
            log_config=None,
            access_log=False,
            http="jettyctl.server.control.protocol:BoundedProtocol",
            ws="none",  # nothing here speaks it, and a handshake would pass by what every request passes
            server_header=False,
            proxy_headers=bool(listening.proxies),
            forwarded_allow_ips=list(listening.proxies),
            ssl_certfile=listening.tls_cert,
            ssl_keyfile=listening.tls_key,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            lifespan="on",
        )
        port = sock.getsockname()[1]
        if settings.workers > 1:
            _Many(config, [sock], lambda: ready(port)).run()
        else:
            _One(config, lambda: ready(port)).run(sockets=[sock])


def worker() -> FastAPI:
    """The application of one process, by what the first process was told."""
    from jettyctl.server.control.app import create_app

    logging.basicConfig(handlers=[log.Lines(logging.WARNING)], force=True)
    settings = Settings.from_json(os.environ[_SETTINGS])
    if settings.workers > 1:
        _end_with_parent()
    app = create_app(settings)
    gc.collect()
    gc.freeze()  # what was imported stays: looking through all of it again would stop every request for some 30 ms
    gc.set_threshold(*GC_THRESHOLDS)
    return app


class _One(uvicorn.Server):
    """A single process says that it is ready once it really is."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


class _Many(Multiprocess):
    """Several processes on one socket; ready once each of them is."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._ready = ready

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(START_SECONDS, self.should_exit) for process in self.processes):
            self._ready()


@contextlib.contextmanager
def _bound(listening: Listening) -> Iterator[socket.socket]:
    """The listening socket. Raises JettyError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((listening.host, listening.port))
            sock.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            raise JettyError(
                f"cannot listen on {listening.host}:{listening.port}: {getattr(error, 'strerror', None) or error}",
                hint="Choose another --host or --port.",
            ) from None
        sock.set_inheritable(True)
        yield sock
    finally:
        sock.close()


def _check_tls(listening: Listening) -> None:
    """Raises UsageError for a certificate and key that cannot be used: a worker could only die of it."""
    if listening.tls_cert is None or listening.tls_key is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(listening.tls_cert, listening.tls_key)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"cannot use the certificate and key: {error.strerror or error}", hint="Check both files.") from None


@contextlib.contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """A directory in which the metrics of several workers are added up; the library looks for it when it is imported."""
    if workers == 1:
        yield
        return
    directory = tempfile.mkdtemp(prefix="jettyctl-metrics-")
    os.environ[_METRICS] = directory
    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _end_with_parent() -> None:
    """A worker whose first process was killed must not go on alone: nobody could end or restart it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)
    first = multiprocessing.parent_process()
    if first is not None and os.getppid() != first.pid:  # it was killed before this one could ask to be told
        signal.raise_signal(signal.SIGTERM)

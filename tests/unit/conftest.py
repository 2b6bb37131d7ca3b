"""What modules of unit tests share: servers that answer as a test wants, their clients, and files."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jettyctl.files.source import Source
from jettyctl.net.http import HttpClient, Patience
from tests.support.listener import Handler, Listener
from tests.support.small_edges import Behaviour, Server, handler_of

SHORT = Patience(connect=2.0, first_try=0.3, idle=0.4, min_rate=1024.0, window=0.6)


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    """`listen(handler)` starts a server that ends with the test."""
    open_: list[Listener] = []

    def start(handler: Handler, *, context: ssl.SSLContext | None = None) -> Listener:
        open_.append(Listener(handler, context=context))
        return open_[-1]

    yield start
    for listener in open_:
        listener.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., HttpClient]]:
    """`connect(url)` is a client with short patience that is closed with the test."""
    clients: list[HttpClient] = []

    def start(url: str, *, verify: bool = True, ca_file: str | None = None, patience: Patience = SHORT) -> HttpClient:
        clients.append(HttpClient(url, verify=verify, ca_file=ca_file, patience=patience))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """`serve(behaviour)` starts an edge and returns its URL."""
    servers: list[Server] = []

    def start(edge: Behaviour, context: ssl.SSLContext | None = None) -> str:
        server = Server(("127.0.0.1", 0), handler_of(edge))
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def file_of(tmp_path: Path) -> Iterator[Callable[[bytes], Source]]:
    """`file_of(data)` is an open source with these bytes."""
    sources: list[Source] = []

    def make(data: bytes) -> Source:
        path = tmp_path / f"source-{len(sources)}"
        path.write_bytes(data)
        sources.append(Source.open(str(path)))
        return sources[-1]

    yield make
    for source in sources:
        source.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a journal will be; its directory does not exist yet."""
    return str(tmp_path / "data" / "journal.sqlite")

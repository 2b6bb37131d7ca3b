"""An edge to test: as a process, or in a thread with limits that no test would wait for; and origins that are watched."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Self

import botocore.session
from botocore.config import Config

from jettyctl.server.edge.app import Edge
from jettyctl.server.edge.log import AccessLog
from jettyctl.server.edge.policy import Limits, parse_origins
from tests.support.running import Jettyctl
from tests.support.servers import Endpoint, stop

OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'


class EdgeProcess:
    """`jettyctl edge` on a free port, as a context manager."""

    def __init__(
        self, jettyctl: Jettyctl, *origins: str, args: tuple[str, ...] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        named = [word for origin in origins for word in ("--origin", origin)]
        self.process = jettyctl.start("edge", *named, "--listen", "127.0.0.1:0", *args, env=env, stderr=self._stderr)
        self.port = 0

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 20
        while not (match := re.search(r"^listening on \w+://[^ ]+:(\d+) for ", self.log(), re.M)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the edge does not start: {self.log()}")
            time.sleep(0.02)
        self.port = int(match[1])
        return self

    def __exit__(self, *exc: object) -> None:
        stop(self.process)
        self._stderr.close()

    def log(self) -> str:
        """What it wrote to standard error so far."""
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), size, 0).decode()

    def requests(self, count: int) -> list[str]:
        """The lines of the access log, when there are so many: a line is written after the reply."""
        deadline = time.monotonic() + 10
        while len(lines := self.log().splitlines()[1:]) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return lines

    def peak_memory(self) -> int:
        """The most resident memory it ever had, in bytes."""
        with open(f"/proc/{self.process.pid}/status") as file:
            found = re.search(r"VmHWM:\s+(\d+) kB", file.read())
        assert found is not None
        return int(found[1]) << 10


class EdgeThread:
    """An edge in this process, for limits that the command line does not offer."""

    def __init__(self, origin: str, limits: Limits) -> None:
        self._edge_of: Callable[[], Edge] = lambda: Edge(parse_origins([origin]), limits, AccessLog(None))
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self.port = 0

    async def _main(self) -> None:
        self._loop, self._edge = asyncio.get_running_loop(), self._edge_of()
        await self._edge.serve("127.0.0.1", 0, None, self._listening)

    def _stop(self) -> None:
        """At once: the second call does not wait for what is in flight."""
        self._edge.stop()
        self._edge.stop()

    def _listening(self, port: int) -> None:
        self.port = port
        self._ready.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()


class Canary:
    """An origin that remembers every byte it was sent. `serve` gets each connection, in a thread of its own."""

    def __init__(
        self,
        serve: Callable[[Canary, socket.socket], None] | None = None,
        wrap: Callable[[socket.socket], socket.socket] | None = None,
    ) -> None:
        self.heard = b""
        self.connections = 0
        self._serve = serve or Canary.answer
        self._wrap = wrap or (lambda sock: sock)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.endpoint = f"http://{self.host}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def receive(self, sock: socket.socket, most: int = 1 << 16) -> bytes:
        """Some bytes; they are remembered."""
        data = sock.recv(most)
        self.heard += data
        return data

    def answer(self, sock: socket.socket, reply: bytes = OK) -> None:
        """Take whole requests and answer each with the same reply."""
        waiting = b""
        while data := self.receive(sock):
            waiting += data
            while (end := waiting.find(b"\r\n\r\n")) >= 0:
                said = re.search(rb"(?i)content-length: *(\d+)", waiting)
                assert said is not None
                length = int(said[1])
                while len(waiting) < end + 4 + length:
                    waiting += self.receive(sock)
                waiting = waiting[end + 4 + length :]
                sock.sendall(reply)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, raw: socket.socket) -> None:
        try:
            with self._wrap(raw) as sock:
                self._serve(self, sock)
        except OSError:
            pass


def part_target(number: int = 1, signature: str = "a" * 64, key: str = "/bucket/key") -> str:
    """The target of a part request with a made-up signature."""
    return f"{key}?partNumber={number}&uploadId=u1&X-Amz-Signature={signature}"


def presigned_part(server: Endpoint, key: str, upload_id: str, number: int) -> str:
    """The target (path and query) of a part request that botocore signed for the store."""
    s3 = botocore.session.Session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.env["AWS_REGION"],
        aws_access_key_id=server.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server.env["AWS_SECRET_ACCESS_KEY"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={}),
    )
    params = {"Bucket": server.bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
    url = s3.generate_presigned_url("upload_part", Params=params)
    s3.close()
    return str(url.removeprefix(server.endpoint))


def send(
    port: int,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    connection: http.client.HTTPConnection | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """One request to an edge: status, headers (names in lower case) and body of its reply."""
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, target, body, dict(headers or {}))
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def exchange(port: int, request: bytes, timeout: float = 20) -> bytes:
    """Send raw bytes, and read what comes until the other side ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        answer = b""
        try:
            sock.sendall(request)
            while data := sock.recv(65536):
                answer += data
        except ConnectionError:
            pass
        return answer

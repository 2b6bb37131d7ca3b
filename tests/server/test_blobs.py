"""Parts for the embedded store: streamed, checked, and cleanly given up."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from jettyctl.server.control.blobs import Ticket, Tickets
from jettyctl.server.control.failures import ApiError
from tests.server.hosts import Host, hosted, own_backend
from tests.support.uploading import API, MIB, Sender, put


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("host")
    with own_backend(request, directory) as backend, hosted(backend, directory) as host:
        yield host


@pytest.fixture
def sender(host: Host) -> Iterator[Sender]:
    """An upload of two parts that has begun."""
    with host.client() as client:
        sender = Sender(client, os.urandom(10 * MIB), f"{uuid.uuid4().hex}.bin")
        sender.begin().raise_for_status()
        yield sender


def stored(sender: Sender) -> list[int]:
    """The numbers of the parts that the store has."""
    listed = sender.client.get(f"{API}/uploads/{sender.session_id}/parts").raise_for_status().json()["parts"]
    return [part["number"] for part in listed]


def begin_put(part: dict[str, Any], content: bytes) -> socket.socket:
    """A PUT whose body has only begun."""
    url = urlsplit(part["url"])
    connection = socket.create_connection((url.hostname, url.port))
    head = f"PUT {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: {part['headers']['content-length']}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def test_other_bytes_are_refused(sender: Sender) -> None:
    """Another length, other bytes, more bytes: 400 `bad digest`, and the part is not there."""
    (part,) = sender.sign(1)
    right = sender.chunk(1)
    wrong = [right[:-1], right + b"x", right[:-1] + bytes([right[-1] ^ 1]), b""]
    for content in wrong:
        reply = put(part, content, headers={"content-length": str(len(content))})
        assert (reply.status_code, reply.json()["error"]) == (400, "bad digest")
    assert stored(sender) == []
    reply = put(part, right)
    assert reply.status_code == 200
    assert reply.headers["etag"].startswith('"')
    assert stored(sender) == [1]


def test_a_client_that_goes_away_leaves_nothing(sender: Sender) -> None:
    """A body that ends half-way is no part, holds nothing up, and the same address takes it again."""
    (part,) = sender.sign(1)
    for cut in (0, 1, 2 * MIB):
        begin_put(part, sender.chunk(1)[:cut]).close()
    assert put(part, sender.chunk(1)).status_code == 200
    assert stored(sender) == [1]


def test_the_same_part_sent_again_wins(sender: Sender) -> None:
    """A request that hangs is ended by a newer one for its part: never are two written at the same place."""
    (part,) = sender.sign(1)
    hanging = begin_put(part, sender.chunk(1)[: 2 * MIB])
    time.sleep(0.2)
    began = time.monotonic()
    assert put(part, sender.chunk(1)).status_code == 200
    assert time.monotonic() - began < 5
    assert b" 503 " in hanging.recv(100)
    hanging.close()
    assert stored(sender) == [1]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_client_that_drips_is_told_that_it_is_too_slow(sender: Sender) -> None:
    """A body that is never silent, and never comes to its end either, is refused after a minute."""
    (part,) = sender.sign(1)
    dripping = begin_put(part, sender.chunk(1)[:1])
    dripping.settimeout(10)
    began, said = time.monotonic(), b""
    while not said:
        assert time.monotonic() - began < 150
        dripping.sendall(b"x")
        try:
            said = dripping.recv(100)
        except TimeoutError:
            continue
    assert b" 408 " in said
    assert time.monotonic() - began > 55
    dripping.close()
    assert put(part, sender.chunk(1)).status_code == 200


def test_many_at_once(sender: Sender, host: Host) -> None:
    """Parts that arrive together, each several times, make the object."""
    signed = sender.sign(1, 2) * 6
    with ThreadPoolExecutor(12) as pool:
        replies = [*pool.map(lambda part: put(part, sender.chunk(part["number"])), signed)]
    assert {reply.status_code for reply in replies} <= {200, 503}
    for number in (1, 2):
        etag = {r.headers["etag"] for r, part in zip(replies, signed, strict=True) if part["number"] == number and r.is_success}
        assert len(etag) == 1
    sender.finalize().raise_for_status()
    assert host.stored(sender.key) == sender.content


def test_parts_end_with_their_upload(sender: Sender) -> None:
    """After the end of an upload its addresses are good for nothing."""
    part, _ = sender.sign(1, 2)
    sender.send(1, 2)
    sender.finalize().raise_for_status()
    assert put(part, sender.chunk(1)).status_code == 410


def test_back_pressure_bounds_memory(sender: Sender, host: Host) -> None:
    """Large bodies pass through without being held."""
    size = 64 * MIB
    big = Sender(sender.client, os.urandom(size), f"{uuid.uuid4().hex}.bin", chunk_size=size)
    big.begin().raise_for_status()
    before = peak(host.plane.pid)
    big.send(1)
    assert peak(host.plane.pid) - before < 24 * MIB


def peak(pid: int) -> int:
    """Most bytes of memory that a process has had."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def test_tokens() -> None:
    """A token is read under its own secret, unchanged, and before its end only; every other says the same."""
    tickets = Tickets(b"secret")
    ticket = Ticket("s", "u", 1, 2, "0" * 16, 3, int(time.time()) + 60)
    token = tickets.sign(ticket)
    assert tickets.read(token) == ticket
    said, _, signature = token.partition(".")
    over = tickets.sign(Ticket("s", "u", 1, 2, "0" * 16, 3, int(time.time())))
    wrong = [said, f"{said}.", f".{signature}", f"{said}A.{signature}", f"{said}.{signature[:-2]}", "", "ü.ü", "a.b.c", over]
    messages = set()
    for text in wrong:
        with pytest.raises(ApiError) as caught:
            tickets.read(text)
        messages.add((caught.value.status, caught.value.error, caught.value.details))
    with pytest.raises(ApiError):
        Tickets(b"other").read(token)
    assert len(messages) == 1


def test_a_token_is_no_key(sender: Sender) -> None:
    """Whoever has the address of a part can do nothing else, and needs no key for it."""
    (part,) = sender.sign(1)
    token = part["url"].rpartition("/")[2]
    base = part["url"].partition("/api")[0]
    assert httpx.get(f"{base}{API}/service", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert httpx.put(f"{base}{API}/blobs/{token}x", content=b"").status_code == 403

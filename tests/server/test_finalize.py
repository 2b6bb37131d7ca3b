"""The commit point: one Complete, whatever is killed, lost or done twice, and the same answer for everybody."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select, update

from jettyctl.core.model import Upload
from jettyctl.server.control.database import Database
from jettyctl.server.control.duty import server_time
from jettyctl.server.control.tables import session_states
from jettyctl.storage.local import LocalStore
from tests.server.hosts import Host, change, hosted, own_backend, rows
from tests.support.databases import Backend, sqlite_backend
from tests.support.faults import EVERY, Fault, delay, drop_reply, error, reset, stall, trickle
from tests.support.plane import with_database
from tests.support.proxy import RecordingProxy
from tests.support.uploading import API, MIB, Sender, crc64, put


@pytest.fixture(scope="module", params=["moto", pytest.param("rclone", marks=pytest.mark.slow)])
def counted(request: pytest.FixtureRequest) -> Iterator[RecordingProxy]:
    """Each of the stores behind a proxy that counts."""
    with RecordingProxy(request.getfixturevalue(request.param)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, counted: RecordingProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A service that speaks to the store through the proxy."""
    directory = tmp_path_factory.mktemp("host")
    with own_backend(request, directory) as backend, hosted(backend, directory, counted) as host:
        yield host


@pytest.fixture
def proxy(counted: RecordingProxy) -> Iterator[RecordingProxy]:
    """The proxy, which has seen nothing yet and does nothing wrong."""
    counted.forget()
    yield counted
    counted.faults.clear()


@pytest.fixture
def client(host: Host) -> Iterator[httpx.Client]:
    with host.client() as client:
        yield client


@pytest.fixture(scope="module")
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A service with the embedded store."""
    directory = tmp_path_factory.mktemp("local")
    with own_backend(request, directory) as backend, hosted(backend, directory) as host:
        yield host


def sent(client: httpx.Client, size: int = 6 * MIB) -> Sender:
    """An upload whose parts are all at the store."""
    sender = Sender(client, os.urandom(size), f"{uuid.uuid4().hex}.bin")
    sender.begin().raise_for_status()
    sender.send(*range(1, sender.count + 1))
    return sender


def test_finalizes_at_once_complete_once(host: Host, client: httpx.Client, proxy: RecordingProxy) -> None:
    """Of 20 calls at the same time one completes; all get the same body, and so does every later one."""
    sender = sent(client)
    with ThreadPoolExecutor(20) as pool:
        replies = [*pool.map(lambda _: sender.finalize(), range(20))]
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.content for reply in replies}) == 1
    assert sender.finalize().content == replies[0].content
    assert proxy.count("complete") == 1
    assert host.stored(sender.key) == sender.content


def test_holders_that_finalize_at_once_complete_once(client: httpx.Client, proxy: RecordingProxy, host: Host) -> None:
    """A holder that was taken over and the new one: the old one completes nothing, and hears so."""
    sender = sent(client)
    lease = {"holder": "holder-2", "host": "there", "takeOver": True}
    fence = client.post(f"{API}/sessions/{sender.session_id}/lease", json=lease).json()["fence"]
    with ThreadPoolExecutor(8) as pool:
        replies = [*pool.map(lambda n: sender.finalize(fence=(sender.fence, fence)[n % 2]), range(8))]
    good = {reply.content for reply in replies if reply.status_code == 200}
    assert len(good) == 1
    refused = [reply.json() for n, reply in enumerate(replies) if n % 2 == 0]
    assert {(one["error"], one["host"]) for one in refused} <= {("stale lease", "there"), ("already completed", "there")}
    late = sender.finalize()
    assert (late.status_code, late.json()["error"], late.json()["fence"]) == (409, "already completed", fence)
    assert client.post(f"{API}/sessions/{sender.session_id}/lease", json=lease).json()["error"] == "already completed"
    assert sender.finalize(fence=fence).content in good
    assert proxy.count("complete") == 1
    assert host.stored(sender.key) == sender.content


def test_who_takes_over_during_complete_is_too_late(client: httpx.Client, proxy: RecordingProxy, host: Host) -> None:
    """The store has made the object, its reply is on the way: the new holder waits for the record, and is told who was first."""
    proxy.faults.append(Fault("complete", 1, trickle(0.002)))
    sender = sent(client)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(sender.finalize)
        while not host.exists(sender.key):
            time.sleep(0.01)
        lease = {"holder": "holder-2", "host": "there", "takeOver": True}
        fence = client.post(f"{API}/sessions/{sender.session_id}/lease", json=lease).raise_for_status().json()["fence"]
        assert not first.done()
        late = [client.get(f"{API}/uploads/{sender.session_id}/parts")]
        assert first.result().status_code == 200
    late += [sender.parts(fence=fence), sender.finalize(fence=fence)]
    told = [(reply.status_code, reply.json().get("error"), reply.json().get("host")) for reply in late]
    assert told == [(409, "already completed", "test")] * 3
    assert sender.finalize().content == first.result().content
    assert proxy.count("complete") == 1


def test_a_claim_that_was_lost_completes_nothing(client: httpx.Client, proxy: RecordingProxy, host: Host) -> None:
    """A call that slept until another call of the same holder had the claim is told to come again, not that it was replaced."""
    proxy.faults.append(Fault("list_parts", 1, delay(1.0)))
    sender = sent(client)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(sender.finalize)
        while not proxy.count("list_parts"):
            time.sleep(0.01)
        of_another = update(session_states).where(session_states.c.session_id == sender.session_id)
        change(host, of_another.values(completing_until=datetime.now(UTC) + timedelta(seconds=2)))
        assert (slow.result().status_code, slow.result().json()["error"]) == (503, "busy")
    assert proxy.count("complete") == 0
    assert sender.finalize().status_code == 200
    assert proxy.count("complete") == 1


def test_a_lost_reply_is_no_failure(client: httpx.Client, proxy: RecordingProxy, host: Host) -> None:
    """Where Complete was done and its reply lost, the object itself says so."""
    proxy.faults.append(Fault("complete", 1, drop_reply()))
    sender = sent(client)
    assert sender.finalize().status_code == 200
    assert proxy.count("complete") == 1
    assert host.stored(sender.key) == sender.content


def test_a_store_that_fails_can_be_asked_again(client: httpx.Client, proxy: RecordingProxy, host: Host) -> None:
    """A Complete that never came is 503 with Retry-After, and the next call completes."""
    proxy.faults.append(Fault("complete", 1, reset()))
    sender = sent(client)
    reply = sender.finalize()
    assert (reply.status_code, reply.json()["error"]) == (503, "store not available")
    assert reply.headers["retry-after"]
    assert sender.finalize().status_code == 200
    assert host.stored(sender.key) == sender.content


@pytest.mark.parametrize(
    ("code", "name", "status"),
    [
        (503, "SlowDown", 503),
        (403, "AccessDenied", 502),
        (404, "NoSuchBucket", 502),
        (404, "NoSuchUpload", 410),
        (500, "InternalError", 503),
    ],
)
def test_what_the_store_says(client: httpx.Client, proxy: RecordingProxy, code: int, name: str, status: int) -> None:
    """Each failure of the store has a status that says whose it is, and none of them leaves the session claimed."""
    sender = sent(client)
    proxy.faults.append(Fault("complete", 1, error(code, name), times=EVERY))
    assert sender.finalize().status_code == status
    proxy.faults.clear()
    assert sender.finalize().status_code == 200


@pytest.mark.slow
class TestKilled:
    """The service is killed in each gap, started again, and called again. On SQLite: it is the only one, and need not wait."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        with sqlite_backend(tmp_path) as backend:
            yield backend

    @pytest.fixture(params=["rclone", pytest.param("moto", marks=pytest.mark.slow)])
    def proxy(self, request: pytest.FixtureRequest, proxied: Callable[..., RecordingProxy]) -> RecordingProxy:
        """A store of the test's own, as far as it is counted."""
        return proxied(request.getfixturevalue(request.param))

    def killed_while(self, host: Host, call: Callable[[], object], stalled: Callable[[], bool]) -> None:
        """Kill the service in the middle of a call: once the request to the store is there that it waits for."""
        thread = threading.Thread(target=swallow, args=(call,))
        thread.start()
        deadline = time.monotonic() + 20
        while not stalled():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(host.plane.pid, signal.SIGKILL)
        thread.join()

    @pytest.mark.parametrize(
        ("op", "nth", "completes"),
        [("head", 1, 1), ("list_parts", 1, 1), ("complete", 1, 2), ("head", 2, 1)],
        ids=["before anything", "before Complete", "with Complete on its way", "after Complete, before the record"],
    )
    def test_finalize(
        self, backend: Backend, proxy: RecordingProxy, tmp_path: Path, op: str, nth: int, completes: int
    ) -> None:
        """The same call after a kill gives the object, recorded once. (A Complete that the store never saw is sent again.)"""
        with hosted(backend, tmp_path, proxy) as host, host.client() as client:
            sender = sent(client)
            proxy.forget()
            proxy.faults.append(Fault(op, nth, stall()))
            self.killed_while(host, sender.finalize, lambda: proxy.count(op) >= nth)
        proxy.faults.clear()
        with hosted(backend, tmp_path, proxy) as host, host.client() as client:
            sender.client = client
            answer = sender.finalize().raise_for_status().json()
            assert sender.finalize().json() == answer
            assert host.stored(sender.key) == sender.content
            files = client.get(f"{API}/files").raise_for_status().json()["files"]
            assert [file["fileId"] for file in files if file["key"] == sender.key] == [answer["fileId"]]
        assert proxy.count("complete") == completes

    def test_complete_done_and_reply_never_read(self, backend: Backend, proxy: RecordingProxy, tmp_path: Path) -> None:
        """Complete was done and the service died before it knew: the object is found by the session in it."""
        with hosted(backend, tmp_path, proxy) as host, host.client() as client:
            sender = sent(client)
            proxy.forget()
            proxy.faults += [Fault("complete", 1, drop_reply()), Fault("head", 2, stall())]
            self.killed_while(host, sender.finalize, lambda: proxy.count("head") >= 2)
        proxy.faults.clear()
        with hosted(backend, tmp_path, proxy) as host, host.client() as client:
            sender.client = client
            sender.finalize().raise_for_status()
            assert host.stored(sender.key) == sender.content
        assert proxy.count("complete") == 1

    def test_begin(self, backend: Backend, proxy: RecordingProxy, tmp_path: Path) -> None:
        """Killed between the intent and the upload's id, the same call begins an upload that works."""
        with hosted(backend, tmp_path, proxy) as host, host.client() as client:
            sender = Sender(client, os.urandom(6 * MIB), f"{uuid.uuid4().hex}.bin")
            proxy.faults.append(Fault("create", 1, drop_reply(), times=EVERY))
            client.get(f"{API}/service").raise_for_status()
            self.killed_while(host, sender.begin, lambda: proxy.count("create") >= 2)
        proxy.faults.clear()
        with hosted(backend, tmp_path, proxy) as host, host.client() as client:
            sender.client = client
            assert sender.begin().status_code == 200
            sender.send(1, 2)
            sender.finalize().raise_for_status()
            assert host.stored(sender.key) == sender.content


def swallow(call: Callable[[], object]) -> None:
    """The reply of a service that is killed is none."""
    with contextlib.suppress(httpx.HTTPError):
        call()


def test_missing_parts_are_named(local: Host) -> None:
    """A part that is not there, or not the one that was recorded, is to be sent again: then it is completed."""
    with local.client() as client:
        sender = Sender(client, os.urandom(16 * MIB), f"{uuid.uuid4().hex}.bin")
        sender.begin().raise_for_status()
        sender.send(1, 3)
        missing = sender.finalize()
        assert (missing.status_code, missing.json()["error"], missing.json()["missing"]) == (409, "parts missing", [2, 4])
        sender.send(2, 4)
        other = Sender(client, os.urandom(16 * MIB), sender.key, session_id=sender.session_id, fence=sender.fence)
        (part,) = other.sign(2)
        put(part, other.chunk(2)).raise_for_status()  # stored, never told of
        assert sender.finalize().json()["missing"] == [2]
        sender.send(2)
        assert sender.finalize().status_code == 200
        assert local.stored(sender.key) == sender.content


@pytest.mark.parametrize("change", ["crc64", "size"])
def test_what_is_not_the_file_is_not_completed(local: Host, change: str) -> None:
    """A checksum or size that is not that of the parts is 409 `integrity`; the right one still completes."""
    with local.client() as client:
        sender = sent(client)
        wrong = {"crc64": crc64(b"other"), "size": len(sender.content) - 1}[change]
        reply = sender.finalize(**{change: wrong})
        assert (reply.status_code, reply.json()["error"]) == (409, "integrity")
        assert not local.exists(sender.key)
        assert sender.finalize().status_code == 200


def test_a_part_that_is_none_is_refused(local: Host) -> None:
    """What finalize is told of parts must fit the upload, as everywhere."""
    with local.client() as client:
        sender = sent(client)
        for change in ({"number": 3}, {"length": 1}):
            reply = sender.finalize(completed=[{**sender.completed[0], **change}])
            assert (reply.status_code, reply.json()["error"]) == (400, "invalid request")
        assert sender.finalize().status_code == 200


def test_an_object_that_is_there_already_is_compared(local: Host) -> None:
    """After a kill between Complete and record the object is found: it is the file whose checksum was given, or no answer."""
    assert isinstance(local.store, LocalStore)
    with local.client() as client:
        sender = sent(client)
        (row,) = rows(local, select(session_states).where(session_states.c.session_id == sender.session_id))
        upload = Upload(row.storage_key, row.upload_id, 0.0)
        local.store.complete(upload, local.store.list_parts(upload), size=6 * MIB, crc64=None)
        reply = sender.finalize(crc64="0" * 16)
        assert (reply.status_code, reply.json()["error"]) == (409, "integrity")
        assert sender.finalize().json()["crc64"] == crc64(sender.content)


def test_two_uploads_of_one_key(local: Host) -> None:
    """Both are told the truth: one object is there, of the one that came last, and only its file."""
    with local.client() as client:
        first, second = sent(client), sent(client)
        second = Sender(client, os.urandom(5 * MIB), first.key)
        second.begin().raise_for_status()
        second.send(1)
        with ThreadPoolExecutor(2) as pool:
            replies = [*pool.map(lambda one: one.finalize(), (first, second))]
        assert {reply.status_code for reply in replies} == {200}
        described = client.get(f"{API}/object", params={"key": first.key}).json()
        last = next(one for one in (first, second) if one.session_id == described["metadata"]["jetty-session"])
        assert local.stored(first.key) == last.content
        files = client.get(f"{API}/files", params={"limit": 1000}).json()["files"]
        assert [file["fileHash"] for file in files if file["key"] == first.key] == [last.finish()["fileHash"]]


def test_one_content_under_two_keys(local: Host) -> None:
    """The same bytes with the same file name in two places are two files; removing one leaves the other readable."""
    with local.client() as client:
        content = os.urandom(1000)
        keys = [f"{uuid.uuid4().hex}/same.bin" for _ in range(2)]
        answers = [Sender(client, content, key).upload() for key in keys]
        assert answers[0]["fileId"] != answers[1]["fileId"]
        client.delete(f"{API}/files/{answers[0]['fileId']}").raise_for_status()
        deadline = time.monotonic() + 10
        while local.exists(keys[0]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.get(answers[1]["url"]).content == content


@pytest.mark.slow
def test_the_service_ends_while_a_call_waits(backend: Backend, tmp_path: Path) -> None:
    """A call that waits for longer than an ending service does is answered: the same call succeeds when it is back."""
    with hosted(backend, tmp_path) as host, host.client() as client:
        sender = sent(client)

        async def claim(database: Database) -> None:  # as another process that is at work does
            until = {"completing_until": server_time(database, 60)}
            async with database.begin() as connection:
                mine = session_states.c.session_id == sender.session_id
                await connection.execute(update(session_states).where(mine).values(until))

        with_database(backend.database_url, claim)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(sender.finalize)
            time.sleep(0.5)
            os.kill(host.plane.pid, signal.SIGTERM)
            reply = waiting.result()
        assert (reply.status_code, reply.json()["error"], reply.headers["retry-after"]) == (503, "not available", "1")
        assert "CancelledError" not in host.plane.log

"""Copies that an S3 server makes: in parts, through failures, and on servers that obey less than they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jettyctl.core.backoff import RetryPolicy
from jettyctl.core.model import MIB, ObjectInfo, ObjectOptions
from jettyctl.errors import AlreadyExists, NetworkError, ServerFault, StoreError
from jettyctl.storage.retry import Retries, RetryingStore
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.copy import Copying
from jettyctl.storage.s3.credentials import Keys, StaticKeys
from jettyctl.storage.s3.sign import Signer
from tests.support import faults, servers
from tests.support.bodies import noise
from tests.support.faults import EVERY, Fault
from tests.support.proxy import RecordingProxy

DATA = noise(11 * MIB + 5)
OPTIONS = ObjectOptions(content_type="image/x-jetty", metadata={"name": "new"})


@pytest.fixture
def opened() -> Iterator[Callable[[servers.Endpoint], S3Store]]:
    """`opened(server)` is a store that is closed with the test."""
    stores: list[S3Store] = []

    def start(server: servers.Endpoint) -> S3Store:
        config = S3Config(server.bucket, servers.REGION, server.endpoint)
        keys = StaticKeys(Keys(servers.ACCESS_KEY, servers.SECRET_KEY))
        stores.append(S3Store(config, Signer(keys, servers.REGION)))
        return stores[-1]

    yield start
    for store in stores:
        store.close()


def fresh(name: str) -> tuple[str, str]:
    """The keys of a source and of its copy, of one test alone."""
    place = f"{time.monotonic_ns()}/{name}"
    return f"{place}/source +?.bin", f"{place}/copy"


def in_parts(store: S3Store, source: str, key: str, *, if_absent: bool = False) -> ObjectInfo:
    """A copy as of an object that is too large for one request."""
    copying = Copying(store, store._requests, source, key, OPTIONS)
    return copying.perform(len(DATA), if_absent=if_absent, at_once=5 * MIB, part=5 * MIB)


def test_in_parts(moto: servers.Server, opened: Callable[..., S3Store]) -> None:
    """A large object is copied range by range; the copy is whole, and described by what is said of it."""
    source, key = fresh("parts")
    servers.store(moto, source, DATA, Metadata={"secret": "x"})
    made = in_parts(opened(moto), source, key)
    assert (made.size, dict(made.metadata)) == (len(DATA), {"name": "new"})
    found = servers.head(moto, key)
    assert found is not None
    assert found["ContentType"] == "image/x-jetty"
    assert found["ETag"].endswith('-3"')
    assert servers.fetch(moto, key) == DATA


def test_in_parts_where_no_parts_are_copied(rclone: servers.Server, opened: Callable[..., S3Store]) -> None:
    """A server that stores an empty part and says 200 is found out at once; neither object nor upload is left."""
    source, key = fresh("empty")
    servers.store(rclone, source, DATA)
    store = opened(rclone)
    with pytest.raises(StoreError, match="does not copy parts"):
        in_parts(store, source, key)
    assert store.head(key) is None
    assert store.list_uploads(key) == []


def test_in_parts_if_absent(moto: servers.Server, opened: Callable[..., S3Store]) -> None:
    """`if_absent` holds for large objects, too: nothing is begun where the key is taken."""
    source, key = fresh("absent")
    servers.store(moto, source, DATA)
    store = opened(moto)
    in_parts(store, source, key, if_absent=True)
    with pytest.raises(AlreadyExists):
        in_parts(store, source, key, if_absent=True)
    assert store.list_uploads(key) == []


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_part_that_fails(
    moto: servers.Server, opened: Callable[..., S3Store], proxied: Callable[..., RecordingProxy], nth: int
) -> None:
    """A part that fails after the status line was sent ends the copy; neither object nor upload is left."""
    source, key = fresh("failing")
    servers.store(moto, source, DATA)
    store = opened(proxied(moto, faults=[Fault("part", 1, faults.ok_error(), part=nth, times=EVERY)]))
    store._checksum = "none"  # its probe sends parts, too
    with pytest.raises(ServerFault):
        in_parts(store, source, key)
    assert store.head(key) is None
    assert store.list_uploads(key) == []


def test_a_source_that_changes_meanwhile(
    moto: servers.Server, opened: Callable[..., S3Store], proxied: Callable[..., RecordingProxy]
) -> None:
    """Ranges of two different objects are never one copy, also where the server ignores the condition."""
    source, key = fresh("changing")
    servers.store(moto, source, DATA)
    proxy = proxied(moto, faults=[Fault("part", 1, faults.delay(3.0), part=2)])
    store = opened(proxy)
    store._checksum = "none"
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(in_parts, store, source, key)
        while not proxy.count("part"):
            time.sleep(0.01)
        servers.store(moto, source, noise(len(DATA), 1))
        with pytest.raises(StoreError, match="changed"):
            copying.result()
    assert store.head(key) is None
    assert store.list_uploads(key) == []


@pytest.mark.parametrize(
    "fault", [faults.ok_error(), faults.ok_error("SlowDown"), faults.html(), faults.error(500, "InternalError")]
)
def test_a_copy_that_fails(
    s3_server: servers.Server, opened: Callable[..., S3Store], proxied: Callable[..., RecordingProxy], fault: faults.Action
) -> None:
    """200 with an error in it, or with a page, is a failure; tried again, the copy is made."""
    source, key = fresh("error")
    servers.store(s3_server, source, b"data")
    store = opened(proxied(s3_server, faults=[Fault("put", 1, fault), Fault("put", 2, fault)]))
    with pytest.raises(NetworkError):
        store.copy(source, key, OPTIONS, 4)
    assert store.head(key) is None
    retries = Retries(RetryPolicy(attempts=3, base=0.01, cap=0.02))
    assert RetryingStore(store, retries).copy(source, key, OPTIONS, 4).size == 4
    assert servers.fetch(s3_server, key) == b"data"


def test_a_reply_that_is_lost(
    s3_server: servers.Server, opened: Callable[..., S3Store], proxied: Callable[..., RecordingProxy]
) -> None:
    """A copy whose reply is lost is made once more, with the same result."""
    source, key = fresh("lost")
    servers.store(s3_server, source, b"data", Metadata={"secret": "x"})
    store = opened(proxied(s3_server, faults=[Fault("put", 1, faults.drop_reply())]))
    made = RetryingStore(store, Retries(RetryPolicy(attempts=3, base=0.01, cap=0.02))).copy(source, key, OPTIONS, 4)
    assert "secret" not in made.metadata
    assert servers.fetch(s3_server, key) == b"data"


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_condition_that_does_not_hold(
    moto: servers.Server, opened: Callable[..., S3Store], proxied: Callable[..., RecordingProxy], if_absent: bool
) -> None:
    """412 means that the source changed, unless the key was to be free and is taken."""
    source, key = fresh("condition")
    servers.store(moto, source, b"data")
    store = opened(proxied(moto, faults=[Fault("put", 1, faults.error(412, "PreconditionFailed"))]))
    with pytest.raises(StoreError, match="changed"):
        store.copy(source, key, OPTIONS, 4, if_absent=if_absent)
    assert store.head(key) is None


def test_large_objects_are_told_from_small_ones(
    moto: servers.Server, opened: Callable[..., S3Store], proxied: Callable[..., RecordingProxy]
) -> None:
    """An object of exactly the size that one request takes is copied by one; one byte more takes parts."""
    source, key = fresh("limit")
    servers.store(moto, source, DATA)
    proxy = proxied(moto)
    store = opened(proxy)
    store._checksum = "none"
    copying = Copying(store, store._requests, source, key, OPTIONS)
    copying.perform(len(DATA), if_absent=False, at_once=len(DATA), part=5 * MIB)
    assert (proxy.count("put"), proxy.count("part")) == (1, 0)
    copying.perform(len(DATA), if_absent=False, at_once=len(DATA) - 1, part=5 * MIB)
    assert (proxy.count("put"), proxy.count("part")) == (1, 3)
    assert servers.fetch(moto, key) == DATA

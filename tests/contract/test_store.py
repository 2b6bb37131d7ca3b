"""What every store promises (`storage.base.Store`), on each store and, for S3, on two real servers.

Where a server does less than S3, that is a fact in `SUBJECTS`, and the test states what happens there instead.
"""

from __future__ import annotations

import threading
import time

import pytest

from jettyctl.core.model import MIB, ObjectOptions, Upload
from jettyctl.errors import AlreadyExists, Interrupted, JettyError, NetworkError, ServerFault, SourceChanged, StoreError
from jettyctl.files.crc import crc64
from tests.support import servers
from tests.support.bodies import SlowBody, body_of, changed_body, noise
from tests.support.memory_store import MemoryStore
from tests.support.stores import KEYS, PLAIN, Subject, content, finish, s3_store, send


def test_nothing_is_none(subject: Subject) -> None:
    """Looking for an object that is not there is an answer, not an error; reading it is an error."""
    key = subject.key("nothing")
    assert subject.store.head(key) is None
    with pytest.raises(StoreError):
        content(subject.store, key)


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_what_is_put_is_what_is_read(subject: Subject, size: int) -> None:
    """An object has exactly its bytes, its size and its metadata, also when it is empty."""
    key, data = subject.key("object"), noise(size)
    subject.store.put(key, body_of(data), ObjectOptions(metadata={"jetty-session": "abc", "plain": "a b"}))
    found = subject.again().head(key)
    assert found is not None
    assert found.size == size
    assert found.session_id == "abc"
    assert found.metadata["plain"] == "a b"
    assert found.crc64 in (None, crc64(data))
    assert found.etag
    assert content(subject.store, key) == data


def test_content_type_arrives(s3_server: servers.Server) -> None:
    """An S3 object has the content type that was asked for, put in one request or in parts."""
    store, options = s3_store(s3_server), ObjectOptions(content_type="image/x-jetty")
    store.put("typed", body_of(b"x"), options)
    upload = Upload("typed-parts", store.create("typed-parts", options, 1, 5 * MIB), 0.0)
    store.complete(upload, [store.put_part(upload, 1, body_of(b"x"))], size=1, crc64=crc64(b"x"))
    for key in ("typed", "typed-parts"):
        found = servers.head(s3_server, key)
        assert found is not None
        assert found["ContentType"] == "image/x-jetty"
    store.close()


@pytest.mark.parametrize("name", KEYS)
def test_keys_come_back_as_they_went(subject: Subject, name: str) -> None:
    """Every key names its own object, in one request, in parts, and in the list of unfinished uploads."""
    key, data = subject.key(name), name.encode()
    subject.store.put(key, body_of(data), PLAIN)
    assert content(subject.store, key) == data
    upload, receipts = send(subject, key, data * 2)
    assert [found.upload_id for found in subject.store.list_uploads(key)] == [upload.upload_id]
    finish(subject, upload, receipts, data * 2)
    assert content(subject.store, key) == data * 2


def test_a_line_break_in_a_key(subject: Subject) -> None:
    """A line break is a character like any other, where the server knows it."""
    key = subject.key("line\nbreak")
    if subject.facts.newline:
        subject.store.put(key, body_of(b"x"), PLAIN)
        assert content(subject.store, key) == b"x"
        assert subject.store.head(subject.key("line")) is None
    else:
        with pytest.raises(StoreError):
            subject.store.put(key, body_of(b"x"), PLAIN)


def test_an_object_is_no_directory(subject: Subject) -> None:
    """The first half of a key is not an object."""
    key = subject.key("half")
    subject.store.put(f"{key}/rest", body_of(b"x"), PLAIN)
    assert subject.store.head(key) is None
    with pytest.raises(StoreError):
        content(subject.store, key)
    assert subject.store.head(f"{key}/rest/more") is None


def test_if_absent(subject: Subject) -> None:
    """`if_absent` never replaces an object, put in one request or completed, where the server obeys."""
    key = subject.key("taken")
    subject.store.put(key, body_of(b"first"), PLAIN, if_absent=True)
    upload, receipts = send(subject, key, b"second")
    if subject.facts.refuses_taken:
        with pytest.raises(AlreadyExists):
            subject.store.put(key, body_of(b"other"), PLAIN, if_absent=True)
        with pytest.raises(AlreadyExists):
            finish(subject, upload, receipts, b"second", if_absent=True)
        assert content(subject.store, key) == b"first"
    else:
        subject.store.put(key, body_of(b"other"), PLAIN, if_absent=True)
        finish(subject, upload, receipts, b"second", if_absent=True)
        assert content(subject.store, key) == b"second"


def test_if_absent_makes_what_is_not_there(subject: Subject) -> None:
    """`if_absent` is no hindrance where nothing is, and the object is described like any other."""
    key = subject.key("free")
    upload, receipts = send(subject, key, b"data")
    finish(subject, upload, receipts, b"data", if_absent=True)
    found = subject.again().head(key)
    assert found is not None
    assert found.size == 4
    assert found.crc64 in (None, crc64(b"data"))
    assert content(subject.store, key) == b"data"


def test_changed_source(subject: Subject) -> None:
    """Bytes that are not those that were hashed never become a part or an object."""
    key = subject.key("changed")
    hashed = noise(600_000)
    found = hashed[:-1] + bytes([hashed[-1] ^ 1])
    upload = Upload(key, subject.store.create(key, PLAIN, None, 5 * MIB), 0.0)
    with pytest.raises(SourceChanged):
        subject.store.put_part(upload, 1, changed_body(hashed, found))
    with pytest.raises(SourceChanged):
        subject.store.put(key, changed_body(hashed, found), PLAIN)
    assert subject.store.list_parts(upload) == []
    assert subject.store.head(key) is None
    receipt = subject.store.put_part(upload, 1, body_of(hashed))
    finish(subject, upload, [receipt], hashed)
    assert content(subject.store, key) == hashed


def test_delete(subject: Subject) -> None:
    """A deleted object is gone, a second time is no error, and neighbours stay."""
    key, data = subject.key("deep/er/key"), b"data"
    subject.store.put(key, body_of(data), ObjectOptions(metadata={"age": "old"}))
    subject.store.put(f"{key}2", body_of(data), PLAIN)
    for _ in range(2):
        subject.store.delete(key)
        assert subject.again().head(key) is None
        with pytest.raises(StoreError):
            content(subject.store, key)
    assert content(subject.store, f"{key}2") == data
    subject.store.put(key, body_of(b"new"), PLAIN)
    found = subject.store.head(key)
    assert found is not None
    assert found.metadata.get("age") is None


def test_delete_leaves_nothing_in_the_way(subject: Subject) -> None:
    """Once the last key below a prefix is gone, the prefix is a key like any other."""
    prefix = subject.key("prefix")
    subject.store.put(f"{prefix}/deep/key", body_of(b"x"), PLAIN)
    subject.store.delete(f"{prefix}/deep/key")
    subject.store.put(prefix, body_of(b"y"), PLAIN)
    assert content(subject.store, prefix) == b"y"


def test_half_a_key_is_not_deleted(subject: Subject) -> None:
    """Deleting the first half of a key deletes nothing."""
    prefix = subject.key("prefix")
    subject.store.put(f"{prefix}/key", body_of(b"x"), PLAIN)
    if subject.facts.deletes_halves:
        subject.store.delete(prefix)
    else:
        with pytest.raises(ServerFault):
            subject.store.delete(prefix)
    assert content(subject.store, f"{prefix}/key") == b"x"


def test_delete_leaves_unfinished_uploads(subject: Subject) -> None:
    """An upload that goes on when its key is deleted can be completed."""
    key = subject.key("going on")
    subject.store.put(key, body_of(b"old"), PLAIN)
    upload, receipts = send(subject, key, b"new")
    subject.store.delete(key)
    finish(subject, upload, receipts, b"new")
    assert content(subject.store, key) == b"new"


def test_interrupt_ends_calls(subject: Subject) -> None:
    """An interrupt ends a call in flight soon, and those that come after it at once."""
    store = subject.again() if subject.name != "memory" else MemoryStore()
    key = subject.key("interrupted")
    upload = Upload(key, store.create(key, PLAIN, None, 5 * MIB), 0.0)
    failures: list[JettyError] = []

    def call() -> None:
        try:
            store.put_part(upload, 1, SlowBody())
        except JettyError as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.3)
    store.interrupt()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(failures[0], Interrupted | NetworkError)
    with pytest.raises((Interrupted, NetworkError)):
        store.put_part(upload, 1, body_of(b"late"))
    store.close()
    store.close()

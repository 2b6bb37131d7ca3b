"""What every store promises of copies that it makes by itself."""

from __future__ import annotations

import pytest

from jettyctl.core.model import ObjectOptions
from jettyctl.errors import AlreadyExists, StoreError
from jettyctl.files.crc import crc64
from tests.support.bodies import body_of, noise
from tests.support.stores import KEYS, PLAIN, Subject, content, finish, send


@pytest.mark.parametrize("size", [0, 300_000])
def test_a_copy_has_the_bytes_and_its_own_description(subject: Subject, size: int) -> None:
    """A copy is described by what is said of it alone; the source stays what it was, and either survives the other's end."""
    source, key, data = subject.key("source"), subject.key("copy"), noise(size)
    subject.store.put(source, body_of(data), ObjectOptions(metadata={"jetty-session": "old", "secret": "of the source"}))
    made = subject.store.copy(source, key, ObjectOptions(metadata={"jetty-session": "new", "plain": "a b"}), size)
    for found in (made, subject.again().head(key)):
        assert found is not None
        assert (found.size, found.session_id, found.metadata["plain"]) == (size, "new", "a b")
        assert "secret" not in found.metadata
        assert found.crc64 in (None, crc64(data))
    kept = subject.store.head(source)
    assert kept is not None
    assert (kept.session_id, kept.metadata["secret"], kept.metadata.get("plain")) == ("old", "of the source", None)
    subject.store.put(source, body_of(b"other bytes"), PLAIN)
    assert content(subject.store, key) == data
    subject.store.delete(source)
    assert content(subject.store, key) == data


def test_a_copy_replaces(subject: Subject) -> None:
    """What lay under the key is replaced, as often as one likes; the source is replaced by no copy of it."""
    source, key = subject.key("source"), subject.key("taken")
    subject.store.put(source, body_of(b"new bytes"), PLAIN)
    subject.store.put(key, body_of(b"old"), ObjectOptions(metadata={"age": "old"}))
    for name in ("first", "second"):
        subject.store.copy(source, key, ObjectOptions(metadata={"name": name}), 9)
        found = subject.store.head(key)
        assert found is not None
        assert (found.metadata.get("name"), found.metadata.get("age")) == (name, None)
        assert content(subject.store, key) == content(subject.store, source) == b"new bytes"
    subject.store.put(key, body_of(b"changed"), PLAIN)
    assert content(subject.store, source) == b"new bytes"


def test_a_copy_onto_itself(subject: Subject) -> None:
    """An object that is copied onto itself keeps its bytes and gets another description."""
    key = subject.key("itself")
    subject.store.put(key, body_of(b"data"), ObjectOptions(metadata={"age": "old"}))
    subject.store.copy(key, key, ObjectOptions(metadata={"name": "new"}), 4)
    found = subject.again().head(key)
    assert found is not None
    assert (found.size, found.metadata.get("name"), found.metadata.get("age")) == (4, "new", None)
    assert content(subject.store, key) == b"data"


@pytest.mark.parametrize("name", [*KEYS, "q?versionId=1", "line\nbreak"])
def test_keys_of_copies(subject: Subject, name: str) -> None:
    """Every key names its own object as the source and the target of a copy, and when it is deleted."""
    if "\n" in name and not subject.facts.newline:
        pytest.skip("the server has no such keys")
    source, key, data = subject.key(name), subject.key(f"copies/{name}"), name.encode()
    subject.store.put(source, body_of(data), PLAIN)
    subject.store.copy(source, key, PLAIN, len(data))
    assert content(subject.store, key) == data
    subject.store.delete(source)
    assert subject.store.head(source) is None
    assert content(subject.store, key) == data


def test_a_copy_of_nothing(subject: Subject) -> None:
    """Without the source, or with one of another size, there is no copy, and what lay under the key stays."""
    source, key = subject.key("source"), subject.key("kept")
    subject.store.put(source, body_of(b"data"), PLAIN)
    subject.store.put(key, body_of(b"kept"), ObjectOptions(metadata={"age": "old"}))
    for wrong, size in ((subject.key("nothing"), 4), (source, 5)):
        with pytest.raises(StoreError):
            subject.store.copy(wrong, key, PLAIN, size)
    found = subject.store.head(key)
    assert found is not None
    assert found.metadata["age"] == "old"
    assert content(subject.store, key) == b"kept"


def test_a_copy_if_absent(subject: Subject) -> None:
    """`if_absent` copies to a key that is free, and never onto an object that is there."""
    source, key = subject.key("source"), subject.key("free")
    subject.store.put(source, body_of(b"data"), PLAIN)
    subject.store.copy(source, key, PLAIN, 4, if_absent=True)
    subject.store.put(source, body_of(b"next"), PLAIN)
    for taken in (key, source):
        with pytest.raises(AlreadyExists):
            subject.store.copy(source, taken, PLAIN, 4, if_absent=True)
    assert content(subject.store, key) == b"data"


def test_a_copy_of_parts(subject: Subject) -> None:
    """What was made of parts is copied like any other object."""
    source, key, data = subject.key("parts"), subject.key("whole"), noise(subject.facts.part + 9)
    upload, receipts = send(subject, source, data)
    finish(subject, upload, receipts, data)
    made = subject.store.copy(source, key, PLAIN, len(data))
    assert made.crc64 in (None, crc64(data))
    assert content(subject.store, key) == data

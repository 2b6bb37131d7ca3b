"""What every store promises (`storage.base.Store`), on each store and, for S3, on two real servers.

Where a server does less than S3, that is a fact in `SUBJECTS`, and the test states what happens there instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from jettyctl.core.model import MIB, ObjectOptions, Receipt, Upload
from jettyctl.errors import (
    AlreadyExists,
    IntegrityError,
    Interrupted,
    JettyError,
    NetworkError,
    ServerFault,
    SourceChanged,
    StoreError,
    UploadGone,
)
from jettyctl.files.crc import crc64
from jettyctl.storage.base import Store
from jettyctl.storage.local import LocalStore
from jettyctl.storage.memory import MemoryStore
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.credentials import Keys, StaticKeys
from jettyctl.storage.s3.sign import Signer
from tests.support import servers
from tests.support.bodies import SlowBody, body_of, changed_body, noise

PLAIN = ObjectOptions()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a store does where stores differ; the defaults are S3's own behaviour."""

    part: int = 64 * 1024  # bytes of a part that is not the last
    refuses_taken: bool = True  # if_absent is obeyed
    newline: bool = True  # takes keys with a line break
    replaces_parts: bool = True  # takes other bytes under a number it has
    completes_once: bool = True  # a second Complete is UploadGone
    after_abort: type[JettyError] = UploadGone  # how a part after abort fails
    proves_whole: bool = True  # Complete is refused if size or CRC64 are wrong
    keeps_refused: bool = True  # an upload lives on after a Complete that was refused
    deletes_halves: bool = True  # deleting the first half of a key is no error


MOTO = Facts(
    part=5 * MIB,  # moto refuses smaller parts at Complete, as AWS does
    newline=False,  # moto answers 404 for such keys
    completes_once=False,  # moto answers the second Complete with 200 and the same object
    after_abort=ServerFault,  # moto answers 500
    proves_whole=False,  # moto verifies no checksum and no x-amz-mp-object-size
)
RCLONE = Facts(
    refuses_taken=False,  # rclone ignores If-None-Match
    replaces_parts=False,  # rclone answers 501 to other bytes under the same number
    proves_whole=False,  # rclone verifies nothing at Complete
    keeps_refused=False,  # rclone forgets the upload
    deletes_halves=False,  # rclone answers 500 where a directory is
)
SUBJECTS = {"memory": Facts(), "local": Facts(), "moto": MOTO, "rclone": RCLONE}


@dataclass(frozen=True, slots=True)
class Subject:
    """One store under test; `again` opens another on the same place."""

    name: str
    facts: Facts
    store: Store
    again: Callable[[], Store]

    def key(self, name: str) -> str:
        """A key of this test alone: servers live longer than a test."""
        return f"{time.monotonic_ns()}/{name}"


def s3_store(server: servers.Endpoint) -> S3Store:
    config = S3Config(server.bucket, servers.REGION, server.endpoint)
    return S3Store(config, Signer(StaticKeys(Keys(servers.ACCESS_KEY, servers.SECRET_KEY)), servers.REGION))


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    name = request.param
    opened: list[Store] = []

    def again() -> Store:
        if name == "memory":
            opened.append(opened[0] if opened else MemoryStore())
        elif name == "local":
            opened.append(LocalStore(str(tmp_path / "store")))
        else:
            opened.append(s3_store(request.getfixturevalue(name)))
        return opened[-1]

    yield Subject(name, SUBJECTS[name], again(), again)
    for store in opened:
        store.close()


def content(store: Store, key: str) -> bytes:
    return b"".join(store.read(key))


def begin(subject: Subject, key: str, size: int | None = None) -> Upload:
    return Upload(key, subject.store.create(key, PLAIN, size, subject.facts.part), 0.0)


def send(subject: Subject, key: str, data: bytes, numbers: list[int] | None = None) -> tuple[Upload, list[Receipt]]:
    """Begin an upload of `data` and put its parts, in the order of `numbers`."""
    part = subject.facts.part
    upload = begin(subject, key, len(data))
    count = max(1, -(-len(data) // part))
    receipts = [
        subject.store.put_part(upload, n, body_of(data[(n - 1) * part : n * part])) for n in numbers or range(1, count + 1)
    ]
    return upload, sorted(receipts, key=lambda receipt: receipt.number)


def finish(subject: Subject, upload: Upload, receipts: list[Receipt], data: bytes, *, if_absent: bool = False) -> None:
    subject.store.complete(upload, receipts, size=len(data), crc64=crc64(data), if_absent=if_absent)


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


KEYS = [
    "with space",
    "ünïcode ☃ 猫",
    "a+b",
    "100%",
    "%41%2F",
    "a=b&c",
    "q?x#y",
    "~tilde!*'()",
    "deep/er/and/deeper",
    ".dot",
    "-dash",
]


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


def test_parts_in_any_order(subject: Subject) -> None:
    """The object is its parts in order of number, in whatever order they came."""
    key, data = subject.key("order"), noise(2 * subject.facts.part + 7)
    upload, receipts = send(subject, key, data, [3, 1, 2])
    assert [(part.number, part.size) for part in subject.store.list_parts(upload)] == [
        (1, subject.facts.part),
        (2, subject.facts.part),
        (3, 7),
    ]
    finish(subject, upload, receipts, data)
    assert content(subject.store, key) == data


def test_listed_parts_complete_an_upload(subject: Subject) -> None:
    """What `list_parts` of another process says is enough to complete: a resume needs nothing else."""
    key, data = subject.key("resumed"), noise(subject.facts.part + 1)
    upload, receipts = send(subject, key, data)
    listed = subject.again().list_parts(upload)
    assert [(part.number, part.size, part.etag) for part in listed] == [(p.number, p.size, p.etag) for p in receipts]
    finish(subject, upload, listed, data)
    assert content(subject.store, key) == data


def test_the_same_part_twice(subject: Subject) -> None:
    """Sending a part again with the same bytes changes nothing."""
    key, data = subject.key("twice"), noise(subject.facts.part + 9)
    upload, receipts = send(subject, key, data)
    assert subject.store.put_part(upload, 2, body_of(data[subject.facts.part :])) == receipts[1]
    assert len(subject.store.list_parts(upload)) == 2
    finish(subject, upload, receipts, data)
    assert content(subject.store, key) == data


def test_other_bytes_replace_a_part(subject: Subject) -> None:
    """Of two different parts with one number, the later one counts, where the server permits it."""
    key, data = subject.key("replaced"), noise(subject.facts.part + 9)
    upload, receipts = send(subject, key, data)
    if not subject.facts.replaces_parts:
        with pytest.raises(StoreError):
            subject.store.put_part(upload, 2, body_of(b"newer"))
        return
    receipts[1] = subject.store.put_part(upload, 2, body_of(b"newer"))
    assert [part.size for part in subject.store.list_parts(upload)] == [subject.facts.part, 5]
    whole = data[: subject.facts.part] + b"newer"
    finish(subject, upload, receipts, whole)
    assert content(subject.store, key) == whole


@pytest.mark.slow
def test_more_parts_than_a_page(subject: Subject) -> None:
    """All parts are listed, in order, when they are more than a server names at once."""
    upload = begin(subject, subject.key("pages"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: subject.store.put_part(upload, n, body_of(b"%d" % n)), range(1, 1004)))
    listed = subject.store.list_parts(upload)
    assert [part.number for part in listed] == list(range(1, 1004))
    assert [part.size for part in listed] == [len(b"%d" % n) for n in range(1, 1004)]
    subject.store.abort(upload)


def test_sixteen_threads_at_once(subject: Subject) -> None:
    """Parts sent at the same time do not disturb each other."""
    key, part = subject.key("threads"), subject.facts.part
    data = noise(15 * part + 1)
    upload, barrier = begin(subject, key, len(data)), threading.Barrier(16)

    def put(number: int) -> Receipt:
        barrier.wait(20)
        return subject.store.put_part(upload, number, body_of(data[(number - 1) * part : number * part]))

    with ThreadPoolExecutor(16) as pool:
        receipts = list(pool.map(put, range(1, 17)))
    finish(subject, upload, receipts, data)
    assert content(subject.store, key) == data


def test_an_empty_part(subject: Subject) -> None:
    """An upload of one part without bytes makes an object without bytes."""
    key = subject.key("void")
    upload, receipts = send(subject, key, b"")
    finish(subject, upload, receipts, b"")
    found = subject.store.head(key)
    assert found is not None
    assert found.size == 0
    assert content(subject.store, key) == b""


def test_a_second_complete(subject: Subject) -> None:
    """After Complete the upload is gone; a server that answers again does so with the same object."""
    key = subject.key("again")
    upload, receipts = send(subject, key, b"data")
    finish(subject, upload, receipts, b"data")
    if subject.facts.completes_once:
        with pytest.raises(UploadGone):
            finish(subject, upload, receipts, b"data")
    else:
        finish(subject, upload, receipts, b"data")
    assert content(subject.store, key) == b"data"
    assert subject.store.list_uploads(key) == []


def test_readers_see_old_or_new(subject: Subject) -> None:
    """Until Complete an object is what it was; after it, all of the new one."""
    key = subject.key("replace")
    subject.store.put(key, body_of(b"old"), ObjectOptions(metadata={"age": "old"}))
    upload, receipts = send(subject, key, b"newer")
    assert content(subject.store, key) == b"old"
    finish(subject, upload, receipts, b"newer")
    found = subject.store.head(key)
    assert found is not None
    assert (found.size, found.metadata.get("age")) == (5, None)
    assert content(subject.store, key) == b"newer"


def test_abort(subject: Subject) -> None:
    """Abort forgets the parts, may be repeated, and leaves the object alone."""
    key = subject.key("aborted")
    subject.store.put(key, body_of(b"kept"), PLAIN)
    upload, _ = send(subject, key, b"data")
    for _ in range(2):
        subject.store.abort(upload)
        assert subject.store.list_uploads(key) == []
    with pytest.raises(subject.facts.after_abort):
        subject.store.put_part(upload, 1, body_of(b"late"))
    with pytest.raises((subject.facts.after_abort, UploadGone)):
        subject.store.list_parts(upload)
    assert content(subject.store, key) == b"kept"


def test_an_upload_never_begun(subject: Subject) -> None:
    """An id that the store never gave is gone to all calls, and no error to abort."""
    upload = Upload(subject.key("never"), "0123456789abcdef0123456789abcdef", 0.0)
    subject.store.abort(upload)
    for call in (lambda: subject.store.put_part(upload, 1, body_of(b"x")), lambda: subject.store.list_parts(upload)):
        with pytest.raises((subject.facts.after_abort, UploadGone)):
            call()


def test_uploads_of_exactly_one_key(subject: Subject) -> None:
    """Unfinished uploads are listed for the key that was asked for, not for those that begin with it."""
    key = subject.key("list")
    ours = {begin(subject, key).upload_id for _ in range(2)}
    others = [begin(subject, key + suffix) for suffix in ("2", "/below", " ", "+")]
    found = subject.again().list_uploads(key)
    assert {upload.upload_id for upload in found} == ours
    assert {upload.key for upload in found} == {key}
    for upload in [*found, *others]:
        subject.store.abort(upload)
    assert subject.store.list_uploads(key) == []


def test_complete_refuses_another_object(subject: Subject) -> None:
    """Complete with a wrong size or CRC64 is refused where the store checks; elsewhere, looking at the object tells."""
    key = subject.key("wrong")
    upload, receipts = send(subject, key, b"data")
    if not subject.facts.proves_whole:
        subject.store.complete(upload, receipts, size=5, crc64=crc64(b"Data!"))
        found = subject.store.head(key)
        assert found is not None
        assert found.size == 4
        return
    with pytest.raises(IntegrityError):
        subject.store.complete(upload, receipts, size=5, crc64=crc64(b"data"))
    with pytest.raises(IntegrityError):
        subject.store.complete(upload, receipts, size=4, crc64=crc64(b"Data"))
    assert subject.store.head(key) is None
    finish(subject, upload, receipts, b"data")
    assert content(subject.store, key) == b"data"


def test_a_part_that_was_never_received(subject: Subject) -> None:
    """Complete with a receipt that the store did not give is refused, and makes no object."""
    key = subject.key("forged")
    upload, receipts = send(subject, key, b"data")
    forged = Receipt(1, 4, "00000000000000000000000000000000")
    with pytest.raises(JettyError):
        finish(subject, upload, [forged], b"data")
    assert subject.store.head(key) is None
    if subject.facts.keeps_refused:
        finish(subject, upload, receipts, b"data")
        assert content(subject.store, key) == b"data"
    else:
        assert subject.store.list_uploads(key) == []


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

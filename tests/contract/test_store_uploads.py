"""What every store promises of uploads in parts, from the first part to Complete or abort."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jettyctl.core.model import ObjectOptions, Receipt, Upload
from jettyctl.errors import IntegrityError, JettyError, StoreError, UploadGone
from jettyctl.files.crc import crc64
from tests.support.bodies import body_of, noise
from tests.support.stores import PLAIN, Subject, begin, content, finish, send


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

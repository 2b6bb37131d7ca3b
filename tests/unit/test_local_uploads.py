"""Uploads to the embedded store that crash, tear, overlap or race: no object appears but of the bytes that were checked."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jettyctl.core.model import Receipt, Upload
from jettyctl.errors import Interrupted, JettyError, SourceChanged, StoreError, UploadGone
from jettyctl.files.body import FileBody
from jettyctl.files.crc import crc64
from jettyctl.storage.local import LocalStore
from tests.support.bodies import Bytes, body_of, changed_body, noise
from tests.support.local_stores import begin, tree


def test_upload_directory_without_description(tmp_path: Path) -> None:
    """A crash before `upload.json` was written leaves nothing that counts as an upload."""
    store = LocalStore(str(tmp_path))
    upload = begin(store, "k")
    os.unlink(tmp_path / "uploads" / upload.upload_id / "upload.json")
    assert store.list_uploads("k") == []
    with pytest.raises(UploadGone):
        store.put_part(upload, 1, body_of(b"x"))
    store.abort(upload)
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    "torn", [b'\n[2, 8, "00', b"\n[2", b"\n\0\0\0\0", b"\n\xff\xfe", b"\n5", b'\n[[2], 1, "0"]', b"\n{}", b'\n[2, 8, "zz"]']
)
def test_torn_line_of_parts(tmp_path: Path, torn: bytes) -> None:
    """A line that a crash cut off is a part not received; those before it and those after it stay."""
    store = LocalStore(str(tmp_path))
    upload = begin(store, "k")
    first = store.put_part(upload, 1, body_of(b"12345678"))
    with open(tmp_path / "uploads" / upload.upload_id / "parts", "ab") as parts:
        parts.write(torn)
    assert store.list_parts(upload) == [first]
    second = store.put_part(upload, 2, body_of(b"end"))
    assert store.list_parts(upload) == [first, second]
    store.complete(upload, [first, second], size=11, crc64=crc64(b"12345678end"))
    assert b"".join(store.read("k")) == b"12345678end"


def test_a_part_that_fails_midway_is_lost(tmp_path: Path) -> None:
    """A part sent again that fails after some bytes does not stand with its old receipt: its bytes are mixed."""
    store, old = LocalStore(str(tmp_path)), noise(600_000, 1)
    upload = begin(store, "k", chunk_size=1 << 20)
    receipt = store.put_part(upload, 1, body_of(old))
    with pytest.raises(SourceChanged):
        store.put_part(upload, 1, changed_body(old, noise(600_000, 2)))
    assert store.list_parts(upload) == []
    with pytest.raises(StoreError):
        store.complete(upload, [receipt], size=len(old), crc64=crc64(old))
    assert store.head("k") is None


OWNER = """
import sys, time
from jettyctl.core.model import Upload
from jettyctl.storage.local import LocalStore
print(LocalStore(sys.argv[1]).own_part(Upload("k", sys.argv[2], 0.0), 1), flush=True)
time.sleep(60)
"""


def test_one_process_writes_a_part(tmp_path: Path) -> None:
    """A part has one owner among all processes; one that is killed is in nobody's way, and other parts are free."""
    store = LocalStore(str(tmp_path))
    upload = begin(store, "k", None)
    command = [sys.executable, "-c", OWNER, str(tmp_path), upload.upload_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        owner.stdout.readline()
        assert store.own_part(upload, 1) is None
        other = store.own_part(upload, 2)
        assert other is not None
        os.close(other)
        owner.kill()
        owner.wait()
    right = store.own_part(upload, 1)
    assert right is not None
    assert store.own_part(upload, 1) is None
    os.close(right)
    store.abort(upload)
    with pytest.raises(UploadGone):
        store.own_part(upload, 1)


def test_parts_that_leave_a_gap(tmp_path: Path) -> None:
    """Parts that do not lie one behind the other are refused: the object would have a hole."""
    store = LocalStore(str(tmp_path))
    upload = begin(store, "k")
    short, third = store.put_part(upload, 1, body_of(b"123")), store.put_part(upload, 3, body_of(b"abc"))
    second = store.put_part(upload, 2, body_of(b"12345678"))
    for receipts, data in (([short, second], b"12312345678"), ([second, third], b"12345678abc")):
        with pytest.raises(StoreError):
            store.complete(upload, receipts, size=len(data), crc64=crc64(data))
    with pytest.raises(StoreError):
        store.put_part(upload, 1, body_of(b"123456789"))  # would run into the second
    with pytest.raises(StoreError):
        store.put_part(upload, 0, body_of(b"x"))
    assert store.head("k") is None


class Overtaken(LocalStore):
    """A store in which a part is sent again just when a Complete has seen that all are there."""

    late: threading.Thread | None = None
    refused: JettyError | None = None

    def list_parts(self, upload: Upload) -> list[Receipt]:
        found = super().list_parts(upload)
        if self.late is None:
            self.late = threading.Thread(target=self._send, args=(upload,))
            self.late.start()
            self.late.join(0.3)
        return found

    def _send(self, upload: Upload) -> None:
        try:
            self.put_part(upload, 1, body_of(b"poisoned"))
        except JettyError as error:
            self.refused = error


def test_nobody_writes_into_an_object(tmp_path: Path) -> None:
    """A part that comes while its upload is completed is refused: the object keeps the bytes that were checked."""
    store = Overtaken(str(tmp_path))
    upload = begin(store, "key", 8)
    receipt = store.put_part(upload, 1, body_of(b"12345678"))
    store.complete(upload, [receipt], size=8, crc64=crc64(b"12345678"))
    assert store.late is not None
    store.late.join()
    assert isinstance(store.refused, Interrupted)
    assert b"".join(store.read("key")) == b"12345678"
    info = store.head("key")
    assert info is not None
    assert info.crc64 == crc64(b"12345678")


class Endless(FileBody):
    """A body whose rest does not come before `more`."""

    def __init__(self, data: bytes, begun: threading.Event, more: threading.Event) -> None:
        super().__init__(Bytes(data), 0, len(data), crc64(data))
        self._begun, self._more = begun, more

    def slices(self) -> Iterator[bytes]:
        self._begun.set()
        assert self._more.wait(10)
        yield from super().slices()


def test_complete_does_not_overtake_a_writer(tmp_path: Path) -> None:
    """While a part is being written, its upload is not completed, and goes on after."""
    store = LocalStore(str(tmp_path))
    upload = begin(store, "key", 8)
    receipt = store.put_part(upload, 1, body_of(b"12345678"))
    begun, more = threading.Event(), threading.Event()
    writer = threading.Thread(target=store.put_part, args=(upload, 1, Endless(b"12345678", begun, more)))
    writer.start()
    assert begun.wait(10)
    with pytest.raises(Interrupted):
        store.complete(upload, [receipt], size=8, crc64=None)
    more.set()
    writer.join()
    store.complete(upload, [receipt], size=8, crc64=None)
    assert b"".join(store.read("key")) == b"12345678"


def test_crash_after_publishing(tmp_path: Path) -> None:
    """An object published by link just before a crash cannot be written to through the upload that is left over."""
    store = LocalStore(str(tmp_path))
    upload = begin(store, "k")
    receipt = store.put_part(upload, 1, body_of(b"x"))
    (tmp_path / "objects").mkdir()
    os.link(tmp_path / "uploads" / upload.upload_id / "data", store.path_of("k"))
    for call in (lambda: store.put_part(upload, 1, body_of(b"y")), lambda: store.complete(upload, [receipt], size=1, crc64=None)):
        with pytest.raises(UploadGone):
            call()
    assert b"".join(store.read("k")) == b"x"
    store.abort(upload)
    assert b"".join(store.read("k")) == b"x"


def test_a_stranger_takes_the_key_first(tmp_path: Path) -> None:
    """Of many uploads that complete at once with `if_absent`, one makes the object and the others are refused."""
    store = LocalStore(str(tmp_path))
    uploads = [begin(store, "k") for _ in range(8)]
    receipts = [store.put_part(upload, 1, body_of(b"%d" % n)) for n, upload in enumerate(uploads)]
    barrier, made = threading.Barrier(8), []

    def complete(n: int) -> None:
        barrier.wait(10)
        with contextlib.suppress(JettyError):
            made.append(store.complete(uploads[n], [receipts[n]], size=1, crc64=crc64(b"%d" % n), if_absent=True))

    threads = [threading.Thread(target=complete, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.head("k")
    assert found is not None
    assert len(made) == 1
    assert found.crc64 == made[0].crc64 == crc64(b"".join(store.read("k")))
    assert not any(name.endswith(".tmp") for name in tree(tmp_path))

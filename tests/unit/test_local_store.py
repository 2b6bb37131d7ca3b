"""The embedded store where it differs from others: it lives in a directory, and directories can be tampered with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jettyctl.core.model import ObjectOptions, Receipt, Upload
from jettyctl.errors import Interrupted, JettyError, SourceChanged, StoreError, UploadGone, UsageError
from jettyctl.files.body import FileBody
from jettyctl.files.crc import crc64
from jettyctl.storage.durable import link_or_copy
from jettyctl.storage.local import LocalStore
from tests.support.bodies import Bytes, body_of, changed_body, noise

PLAIN = ObjectOptions()
SEGMENTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "~", "\0", "C:", "\\..\\", "%2e%2e", "%2F..", "..%c0%af", "-", "x", "\u202e", "\udc80", "ﬁ", "a\nb"]
    ),
    st.text(max_size=300),
)
KEYS = st.lists(SEGMENTS, min_size=1, max_size=6).map("/".join)


def tree(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every entry below a directory with its kind and content."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in sorted(directory.rglob("*")):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(directory))] = (stat.S_IFMT(path.lstat().st_mode), content)
    return found


def begin(store: LocalStore, key: str, size: int | None = None, chunk_size: int = 8) -> Upload:
    return Upload(key, store.create(key, PLAIN, size, chunk_size), 0.0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=KEYS)
def test_hostile_keys_stay_below_the_root(tmp_path: Path, key: str) -> None:
    """Whatever a key is made of, nothing outside the root changes, and what is stored under it is found under it."""
    (tmp_path / "outside").mkdir(exist_ok=True)
    (tmp_path / "outside" / "file").write_bytes(b"untouched")
    root = tmp_path / "outside" / "deeper" / "root"
    shutil.rmtree(root.parent, ignore_errors=True)
    store = LocalStore(str(root))
    with contextlib.suppress(StoreError):  # a name too long
        store.put(key, body_of(b"hostile"), PLAIN)
        assert b"".join(store.read(key)) == b"hostile"
        assert os.path.realpath(store.path_of(key)).startswith(f"{os.path.realpath(root)}/objects/")
    store.abort(Upload(key, "0" * 32, 0.0))
    outside = {name: entry for name, entry in tree(tmp_path).items() if not name.startswith("outside/deeper/root/")}
    directory = (stat.S_IFDIR, b"")
    expected = {"outside": directory, "outside/deeper": directory, "outside/file": (stat.S_IFREG, b"untouched")}
    assert outside in (expected | {"outside/deeper/root": directory}, {k: v for k, v in expected.items() if "deeper" not in k})


@settings(max_examples=200, deadline=None)
@given(first=st.text(max_size=20), second=st.text(max_size=20))
def test_two_keys_are_two_files(first: str, second: str) -> None:
    """No two keys share a file."""
    store = LocalStore("/nowhere")
    if first != second and "\0" not in first + second:  # no key holds a NUL
        assert store.path_of(first) != store.path_of(second)


@pytest.mark.parametrize("upload_id", ["../../outside", "..", ".", "", "a/b", "/etc", "a\0b"])
def test_hostile_upload_ids(tmp_path: Path, upload_id: str) -> None:
    """An upload id from a hostile journal leads nowhere."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "data").write_bytes(b"untouched")
    store = LocalStore(str(tmp_path / "root" / "store"))
    upload = Upload("k", upload_id, 0.0)
    before = tree(tmp_path)
    with pytest.raises(UploadGone):
        store.put_part(upload, 1, body_of(b"x"))
    with contextlib.suppress(UploadGone):
        store.abort(upload)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("planted", ["objects", "objects/dir", "meta", "meta/dir", "uploads"])
def test_planted_links_are_not_entered(tmp_path: Path, planted: str) -> None:
    """A symbolic link inside the store never leads a write out of it."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / planted).parent.mkdir(parents=True)
    (root / planted).symlink_to(outside)
    store = LocalStore(str(root))
    with pytest.raises(StoreError) as raised:
        store.put("dir/key", body_of(b"x"), PLAIN)
    assert raised.value.hint
    assert list(outside.iterdir()) == []


def test_a_planted_object_link_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    """A link in an object's place is no object; putting one there replaces the link and spares what it points to."""
    secret, store = tmp_path / "secret", LocalStore(str(tmp_path / "root"))
    secret.write_bytes(b"secret")
    store.put("key", body_of(b"x"), PLAIN)
    os.unlink(store.path_of("key"))
    os.symlink(secret, store.path_of("key"))
    assert store.head("key") is None
    with pytest.raises(StoreError):
        list(store.read("key"))
    store.put("key", body_of(b"new"), PLAIN)
    assert b"".join(store.read("key")) == b"new"
    assert secret.read_bytes() == b"secret"


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    """The owner decides where the root lies: it may be reached through a link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    store = LocalStore(str(tmp_path / "root"))
    store.put("a/b", body_of(b"x"), PLAIN)
    assert (tmp_path / "disk/objects/a/b").read_bytes() == b"x"


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


@pytest.mark.parametrize("how", ["replaced", "appended", "edited"])
def test_data_replaced_by_hand(tmp_path: Path, how: str) -> None:
    """A file that someone changed is described by its size, never by the checksum and metadata of what was uploaded."""
    store = LocalStore(str(tmp_path))
    store.put("k", body_of(b"uploaded"), ObjectOptions(metadata={"jetty-session": "s"}))
    path = Path(store.path_of("k"))
    before = store.head("k")
    assert before is not None
    assert (before.crc64, before.session_id) == (crc64(b"uploaded"), "s")
    if how == "replaced":
        path.unlink()
        path.write_bytes(b"UPLOADED")
    else:
        with path.open("r+b") as file:
            file.seek(0, os.SEEK_END if how == "appended" else os.SEEK_SET)
            file.write(b"!")
        os.utime(path, ns=(0, before.size))
    after = store.head("k")
    assert after is not None
    assert (after.crc64, after.sha256, after.session_id, after.size) == (None, None, None, path.stat().st_size)
    assert after.etag != before.etag


@pytest.mark.parametrize("damage", [b"", b"[]", b"5", b"{}", b"\xff", b'{"size": 1}', b"null"])
def test_damaged_description(tmp_path: Path, damage: bytes) -> None:
    """A description that cannot be read is none: the file is still there, without checksum."""
    store = LocalStore(str(tmp_path))
    store.put("k", body_of(b"x"), PLAIN)
    (tmp_path / "meta" / "k").write_bytes(damage)
    found = store.head("k")
    assert found is not None
    assert (found.size, found.crc64) == (1, None)


def test_damaged_description_that_fits(tmp_path: Path) -> None:
    """A description whose checksum is no number is not believed, and does not fail."""
    store = LocalStore(str(tmp_path))
    store.put("k", body_of(b"x"), PLAIN)
    meta = tmp_path / "meta" / "k"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "crc64": "zz"}))
    found = store.head("k")
    assert found is not None
    assert found.crc64 is None


@pytest.mark.parametrize("damage", [b"", b"[]", b"5", b"\xff"])
def test_damaged_upload(tmp_path: Path, damage: bytes) -> None:
    """An upload whose description cannot be read is gone."""
    store = LocalStore(str(tmp_path))
    upload = begin(store, "k")
    (tmp_path / "uploads" / upload.upload_id / "upload.json").write_bytes(damage)
    with pytest.raises(UploadGone):
        store.list_parts(upload)
    assert store.list_uploads("k") == []


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


def test_longest_name(tmp_path: Path) -> None:
    """A name as long as the file system takes is stored and described; one byte more is refused before the first byte."""
    store = LocalStore(str(tmp_path))
    store.put("n" * 255, body_of(b"x"), ObjectOptions(metadata={"a": "b"}))
    found = store.head("n" * 255)
    assert found is not None
    assert found.metadata == {"a": "b"}
    with pytest.raises(StoreError):
        store.create("n" * 256, PLAIN, 1, 1)


def test_an_object_in_the_way(tmp_path: Path) -> None:
    """A key below an object, or one that is a directory, is refused with a hint and leaves nothing behind."""
    store = LocalStore(str(tmp_path))
    store.put("a", body_of(b"x"), PLAIN)
    store.put("b/c", body_of(b"y"), PLAIN)
    before = tree(tmp_path)
    for key in ("a/b", "b"):
        with pytest.raises(UsageError) as raised:
            store.put(key, body_of(b"z"), PLAIN)
        assert raised.value.hint
    assert tree(tmp_path) == before


def test_a_copy_is_a_second_name(tmp_path: Path) -> None:
    """A copy takes no room, also onto a copy that is there, and leaves nothing but the objects and their descriptions."""
    store = LocalStore(str(tmp_path))
    store.put("source", body_of(noise(100_000)), PLAIN)
    for _ in range(2):
        store.copy("source", "deep/copy", ObjectOptions(metadata={"a": "b"}), 100_000)
    assert os.path.samefile(store.path_of("source"), store.path_of("deep/copy"))
    assert os.stat(store.path_of("source")).st_nlink == 2
    assert list((tmp_path / "uploads").iterdir()) == []
    assert not any(name.endswith(".tmp") for name in tree(tmp_path))


def test_a_copy_of_what_was_placed_by_hand(tmp_path: Path) -> None:
    """A file that nobody described is copied like any other, and its copy is described from its bytes."""
    store = LocalStore(str(tmp_path))
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "placed").write_bytes(b"by hand")
    made = store.copy("placed", "copy", PLAIN, 7)
    assert made.crc64 == crc64(b"by hand")
    assert store.head("copy") == made


def test_a_copy_without_links(tmp_path: Path) -> None:
    """Where a file can have no second name, here because that would be on another device, its bytes are copied."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as first:
        if os.fstat(first.fileno()).st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is only one file system")
        first.write(noise(3_000_000))
        first.flush()
        link_or_copy(first.name, str(tmp_path / "second"))
    assert (tmp_path / "second").read_bytes() == noise(3_000_000)
    assert stat.S_IMODE((tmp_path / "second").stat().st_mode) == 0o600


def test_a_planted_link_is_not_copied(tmp_path: Path) -> None:
    """A symbolic link among the objects is no source of a copy, and none is deleted through."""
    outside, store = tmp_path / "outside", LocalStore(str(tmp_path / "root"))
    outside.write_bytes(b"secret")
    store.put("other", body_of(b"x"), PLAIN)
    os.symlink(outside, store.path_of("planted"))
    with pytest.raises(StoreError):
        store.copy("planted", "copy", PLAIN, 6)
    store.delete("planted")
    assert outside.read_bytes() == b"secret"
    assert store.head("copy") is None


def test_deleting_removes_what_lies_around(tmp_path: Path) -> None:
    """With the last object its description and its directories are gone, also if the object itself was gone before."""
    store = LocalStore(str(tmp_path))
    store.put("deep/er/key", body_of(b"x"), PLAIN)
    store.put("deep/er/lost", body_of(b"x"), PLAIN)
    os.unlink(store.path_of("deep/er/lost"))
    store.delete("deep/er/key")
    assert (tmp_path / "meta" / "deep" / "er").exists()
    store.delete("deep/er/lost")
    assert sorted(tree(tmp_path)) == ["lock", "meta", "objects", "uploads"]


def test_deleting_while_others_put(tmp_path: Path) -> None:
    """A directory that empties while another object is being put into it is never missed."""
    stores, failures = [LocalStore(str(tmp_path)) for _ in range(4)], []

    def work(store: LocalStore, name: str) -> None:
        try:
            for number in range(25):
                store.put(f"deep/er/{name}", body_of(b"%d" % number), PLAIN)
                assert b"".join(store.read(f"deep/er/{name}")) == b"%d" % number
                store.delete(f"deep/er/{name}")
        except (JettyError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(store, str(number))) for number, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(tree(tmp_path)) == ["lock", "meta", "objects", "uploads"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_disk_full_before_the_first_byte(tiny_disk: Path) -> None:
    """An upload that does not fit is refused when it begins, with a hint, and takes no room."""
    store = LocalStore(str(tiny_disk / "root"))
    with pytest.raises(StoreError) as raised:
        store.create("big", PLAIN, 1 << 20, 1 << 20)
    assert "room" in raised.value.hint
    assert list((tiny_disk / "root" / "uploads").iterdir()) == []
    store.put("small", body_of(b"x"), PLAIN)


def test_disk_full_in_between(tiny_disk: Path) -> None:
    """A part that does not fit fails with a hint, is not listed, and no object appears; what was there stays whole."""
    store, data = LocalStore(str(tiny_disk / "root")), noise(100_000)
    store.put("k", body_of(data), PLAIN)
    upload = begin(store, "k", None, 1 << 20)
    with pytest.raises(StoreError) as raised:
        store.put_part(upload, 1, body_of(noise(400_000)))
    assert "room" in raised.value.hint
    assert store.list_parts(upload) == []
    assert b"".join(store.read("k")) == data
    store.abort(upload)
    with pytest.raises(StoreError):
        store.put("other", body_of(noise(400_000)), PLAIN)
    assert store.head("other") is None
    assert list((tiny_disk / "root" / "uploads").iterdir()) == []
    store.put("after", body_of(data), PLAIN)


def test_disk_full_at_the_end(tiny_disk: Path) -> None:
    """With no room for the description, Complete fails, no object and no leftover shows; with room again, it succeeds."""
    root = tiny_disk / "root"
    store = LocalStore(str(root))
    upload = begin(store, "k", None, 1 << 20)
    receipt = store.put_part(upload, 1, body_of(b"data"))
    filler = tiny_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    for absent in (True, False):
        with pytest.raises(StoreError):
            store.complete(upload, [receipt], size=4, crc64=crc64(b"data"), if_absent=absent)
        assert store.head("k") is None
        assert not any(name.endswith(".tmp") for name in tree(root))
    filler.unlink()
    store.complete(upload, [receipt], size=4, crc64=crc64(b"data"), if_absent=True)
    found = store.head("k")
    assert found is not None
    assert found.crc64 == crc64(b"data")


def test_modes(tmp_path: Path) -> None:
    """Every file is 0600 and every directory 0700, whatever the umask."""
    before = os.umask(0)
    try:
        store = LocalStore(str(tmp_path / "new" / "root"))
        store.put("deep/er/key", body_of(b"x"), PLAIN)
        upload = begin(store, "deep/unfinished", 3)
        store.put_part(upload, 1, body_of(b"abc"))
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert len(modes) > 10
    assert {mode for name, mode in modes.items() if (tmp_path / name).is_dir()} == {0o700}
    assert {mode for name, mode in modes.items() if (tmp_path / name).is_file()} == {0o600}

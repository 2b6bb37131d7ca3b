"""The embedded store where it differs from others: names, copies, directories, modes and room are a file system's."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jettyctl.core.model import ObjectOptions
from jettyctl.errors import JettyError, StoreError, UsageError
from jettyctl.files.crc import crc64
from jettyctl.storage.durable import link_or_copy
from jettyctl.storage.local import LocalStore
from tests.support.bodies import body_of, noise
from tests.support.local_stores import PLAIN, begin, tree


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


def test_new_directories_survive_a_power_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each directory that is made is synced into its parent, so that the object in it keeps its path; others cost nothing."""
    synced: set[Path] = set()
    sync = os.fsync

    def noted(fd: int) -> None:
        synced.add(Path(os.readlink(f"/proc/self/fd/{fd}")))
        sync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    store = LocalStore(str(tmp_path / "store"))
    store.put("a/b/c", body_of(b"x"), PLAIN)
    assert synced >= {path.parent for path in tmp_path.rglob("*") if path.is_dir()}
    synced.clear()
    store.put("a/b/d", body_of(b"x"), PLAIN)
    assert synced & {path for path in tmp_path.rglob("*") if path.is_dir()} == {
        Path(store.path_of("a/b/d")).parent,
        tmp_path / "store" / "uploads",
    }


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

"""An embedded store in hostile hands: nothing leads out of its directory, and nothing forged in it is believed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jettyctl.core.model import ObjectOptions, Upload
from jettyctl.errors import StoreError, UploadGone
from jettyctl.files.crc import crc64
from jettyctl.storage.local import LocalStore
from tests.support.bodies import body_of
from tests.support.local_stores import PLAIN, begin, tree

SEGMENTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "~", "\0", "C:", "\\..\\", "%2e%2e", "%2F..", "..%c0%af", "-", "x", "\u202e", "\udc80", "ﬁ", "a\nb"]
    ),
    st.text(max_size=300),
)
KEYS = st.lists(SEGMENTS, min_size=1, max_size=6).map("/".join)


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

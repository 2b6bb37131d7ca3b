"""`jettyctl verify` says that bytes are the same only if they are, and how it knows."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.support.running import Jettyctl, random_file
from tests.support.servers import Server, store

SIZE = 3_000_000


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """The content of `file.bin` in the test's directory."""
    random_file(tmp_path / "file.bin", SIZE)
    return (tmp_path / "file.bin").read_bytes()


@pytest.fixture
def stored(jettyctl: Jettyctl, env: dict[str, str], content: bytes) -> Path:
    """`file.bin` uploaded to `local:backup/`; the embedded store's own file of it."""
    env["JETTY_DATA_DIR"] = os.path.join(env["HOME"], "jetty")
    jettyctl("upload", "file.bin", "local:backup/", check=0)
    return Path(env["JETTY_DATA_DIR"], "store", "objects", "backup", "file.bin")


def test_the_local_store_is_read_back(jettyctl: Jettyctl, stored: Path) -> None:
    """What the embedded store noted when it stored an object says nothing of the disk now."""
    result = jettyctl("verify", "file.bin", "local:backup/file.bin", check=0)
    assert result.stdout == "identical  local:backup/file.bin  2.9 MiB  by sha256 of what was read back\n"
    assert result.stderr == ""


def test_json(jettyctl: Jettyctl, stored: Path, content: bytes) -> None:
    """`--json` is one object, and a prefix takes the file's name."""
    (line,) = jettyctl("verify", "file.bin", "local:backup/", "--json", "--read-back", check=0).events
    assert line == {
        "schema": 1,
        "type": "verify",
        "source": "file.bin",
        "url": "local:backup/file.bin",
        "identical": True,
        "size": SIZE,
        "method": "sha256-read-back",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_a_replaced_object_is_found(jettyctl: Jettyctl, stored: Path, content: bytes) -> None:
    """Other bytes of the same size at the store: exit status 6."""
    stored.write_bytes(content[::-1])
    result = jettyctl("verify", "file.bin", "local:backup/", check=6)
    assert result.stdout == ""
    assert result.stderr.startswith("jettyctl: local:backup/file.bin is not file.bin: the SHA-256 of what was read back")


def test_reading_back_finds_rot(jettyctl: Jettyctl, stored: Path, content: bytes) -> None:
    """A bit that flipped under an unchanged time stamp is found, whatever the stored checksum says."""
    before = stored.stat()
    with open(stored, "r+b") as file:
        file.seek(SIZE // 2)
        file.write(bytes([content[SIZE // 2] ^ 1]))
    os.utime(stored, ns=(before.st_atime_ns, before.st_mtime_ns))
    (error,) = jettyctl("verify", "file.bin", "local:backup/", "--json", check=6).events
    assert (error["type"], error["code"], error["exit_code"]) == ("error", "integrity", 6)


def test_a_changed_file_is_found(jettyctl: Jettyctl, stored: Path, content: bytes, tmp_path: Path) -> None:
    """Other bytes of the same size in the file: exit status 6."""
    (tmp_path / "file.bin").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = jettyctl("verify", "file.bin", "local:backup/", check=6)
    assert "the SHA-256 of what was read back is another" in result.stderr


def test_another_size_needs_no_reading(jettyctl: Jettyctl, stored: Path, tmp_path: Path) -> None:
    """Another size: exit status 6, with both sizes."""
    (tmp_path / "file.bin").write_bytes(b"short")
    result = jettyctl("verify", "file.bin", "local:backup/", check=6)
    assert f"it has {SIZE} bytes, the file has 5" in result.stderr


def test_no_object(jettyctl: Jettyctl, stored: Path) -> None:
    """A missing object: exit status 6, and what to do."""
    result = jettyctl("verify", "file.bin", "local:elsewhere", check=6)
    assert result.stderr == "jettyctl: there is no object local:elsewhere. Check the address, or upload the file.\n"


def test_no_file(jettyctl: Jettyctl) -> None:
    """A missing file is an error of the source, not of the store."""
    assert "missing does not exist" in jettyctl("verify", "missing", "local:", check=1).stderr


def test_not_an_address(jettyctl: Jettyctl, content: bytes) -> None:
    """Something else in place of the address is a usage error."""
    assert "is not a destination" in jettyctl("verify", "file.bin", "file.bin", check=2).stderr


def test_an_empty_file(jettyctl: Jettyctl, s3_server: Server, tmp_path: Path) -> None:
    """No bytes are the same as no bytes."""
    (tmp_path / "empty").write_bytes(b"")
    store(s3_server, "verify/empty", b"")
    jettyctl("verify", "empty", f"s3://{s3_server.bucket}/verify/", server=s3_server, check=0)


def test_an_object_of_another_client(jettyctl: Jettyctl, s3_server: Server, content: bytes) -> None:
    """Where the server has verified no checksum, the object is read back and compared."""
    store(s3_server, "verify/file.bin", content)
    result = jettyctl("verify", "file.bin", f"s3://{s3_server.bucket}/verify/", server=s3_server, check=0)
    assert result.stdout.startswith(f"identical  s3://{s3_server.bucket}/verify/file.bin  2.9 MiB  by sha256 of what was read")


def test_what_upload_sent(jettyctl: Jettyctl, s3_server: Server, content: bytes) -> None:
    """An uploaded file is identical, also after upload has found out what the server verifies."""
    url = f"s3://{s3_server.bucket}/verify/uploaded.bin"
    jettyctl("upload", "file.bin", url, server=s3_server, check=0)
    (line,) = jettyctl("verify", "file.bin", url, "--json", server=s3_server, check=0).events
    assert line["identical"] is True


def test_wrong_bytes_at_a_server(jettyctl: Jettyctl, s3_server: Server, content: bytes) -> None:
    """Other bytes of the same size at a server: exit status 6."""
    store(s3_server, "verify/other.bin", content[::-1])
    jettyctl("verify", "file.bin", f"s3://{s3_server.bucket}/verify/other.bin", server=s3_server, check=6)


def test_no_object_at_a_server(jettyctl: Jettyctl, s3_server: Server, content: bytes) -> None:
    """A key that the server does not have: exit status 6."""
    url = f"s3://{s3_server.bucket}/verify/nothing"
    assert f"there is no object {url}" in jettyctl("verify", "file.bin", url, server=s3_server, check=6).stderr

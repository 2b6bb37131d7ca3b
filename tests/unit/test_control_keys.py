"""Keys of control planes: kept for their user only, one for each, and shown nowhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from jettyctl.control import keys
from jettyctl.errors import AccessError, UsageError

KEY, OTHER = "jty_abcdefghijklmnop", "jty_qrstuvwxyz012345"
ORIGIN = "https://control.example"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path) -> Path:
    """Where the configuration would be; it does not exist yet."""
    os.environ["JETTY_CONFIG_DIR"] = str(tmp_path / "config")
    return tmp_path / "config"


def test_a_key_is_kept_for_its_control_plane_only(directory: Path) -> None:
    """Each origin has its key; another port, scheme or host is another origin."""
    keys.keep(ORIGIN, keys.parsed(KEY))
    keys.keep("http://127.0.0.1:1", keys.parsed(OTHER))
    assert keys.key_for(ORIGIN).secret == KEY
    assert keys.key_for("http://127.0.0.1:1").secret == OTHER
    for origin in ("https://control.example:8443", "http://control.example", "https://control.example.evil"):
        with pytest.raises(AccessError, match="no key") as caught:
            keys.key_for(origin)
        assert "jettyctl login" in caught.value.hint


def test_only_the_user_can_read_the_file(directory: Path) -> None:
    """The file is made with mode 0600 whatever the umask, in a directory of mode 0700."""
    before = os.umask(0)
    try:
        keys.keep(ORIGIN, keys.parsed(KEY))
    finally:
        os.umask(before)
    assert stat.S_IMODE((directory / "keys.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [path.name for path in directory.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606])
def test_a_file_that_others_can_read_is_refused(directory: Path, mode: int) -> None:
    """A key that others could have read is not used, and the message says what to do."""
    keys.keep(ORIGIN, keys.parsed(KEY))
    (directory / "keys.json").chmod(mode)
    with pytest.raises(UsageError, match="others can read") as caught:
        keys.key_for(ORIGIN)
    assert "chmod 600" in caught.value.hint


def test_a_link_is_not_followed(directory: Path, tmp_path: Path) -> None:
    """A planted link does not make us read another file."""
    directory.mkdir()
    (tmp_path / "elsewhere").write_text("{}")
    (directory / "keys.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="cannot read"):
        keys.key_for(ORIGIN)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b"\xff", b"[" * 60_000])
def test_a_broken_file_is_told(directory: Path, content: bytes) -> None:
    """What is no mapping of texts is one error with a way out."""
    directory.mkdir()
    (directory / "keys.json").write_bytes(content)
    (directory / "keys.json").chmod(0o600)
    with pytest.raises(UsageError, match="is broken"):
        keys.key_for(ORIGIN)


def test_forgetting() -> None:
    """A key that was forgotten is gone, and the others stay."""
    keys.keep(ORIGIN, keys.parsed(KEY))
    keys.keep("https://b.example", keys.parsed(OTHER))
    assert keys.forget(ORIGIN)
    assert not keys.forget(ORIGIN)
    assert keys.key_for("https://b.example").secret == OTHER
    with pytest.raises(AccessError):
        keys.key_for(ORIGIN)


def test_variables_go_before_the_file(tmp_path: Path) -> None:
    """JETTY_API_KEY goes before JETTY_API_KEY_FILE, and that before what was kept."""
    keys.keep(ORIGIN, keys.parsed(KEY))
    (tmp_path / "key").write_text(f"{OTHER}\n")
    os.environ["JETTY_API_KEY_FILE"] = str(tmp_path / "key")
    assert keys.key_for(ORIGIN).secret == OTHER
    os.environ["JETTY_API_KEY"] = "jty_from_the_variable"
    assert keys.key_for(ORIGIN).secret == "jty_from_the_variable"


def test_a_key_does_not_print_itself() -> None:
    """Neither its text nor its representation shows it."""
    key = keys.parsed(f" {KEY}\n")
    assert key.secret == KEY
    assert KEY not in repr(key)
    assert KEY not in f"{key} {[key]}"


@pytest.mark.parametrize("text", ["", "short", "two words of it", "jty_with\ttab_inside", "jty_ünicode_key", "x" * 600])
def test_what_is_no_key(text: str) -> None:
    """A text that is no key is refused without being repeated."""
    with pytest.raises(UsageError, match="not a key") as caught:
        keys.parsed(text)
    assert not text or text not in f"{caught.value} {caught.value.hint}"


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(UsageError, match="nowhere"):
        keys.from_file(str(tmp_path / "nowhere"))

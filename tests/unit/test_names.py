"""Every file name has a key, every such key leads back, and no name can steer a terminal."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jettyctl.core.names import check_key, key_from_name, name_from_key, printable
from jettyctl.errors import UsageError

NAMES = st.one_of(
    st.binary(max_size=40),
    st.lists(st.sampled_from([b"%", b"25", b"2", b"5", b"8", b"0", b"fF", b"\x80", b"\xff", b"\xc3\xa9", b"/"])).map(b"".join),
).map(os.fsdecode)


@given(NAMES)
@example("%80")
@example("%2580")
@example("%25")
@example("100%")
@example(os.fsdecode(b"%25\x80"))
@example(os.fsdecode(b"%\x80"))
def test_round_trip(name: str) -> None:
    """A key leads back to the bytes of the name that it was made of."""
    assert os.fsencode(name_from_key(key_from_name(name))) == os.fsencode(name)


@given(NAMES)
def test_keys_are_utf8(name: str) -> None:
    """Stores refuse what is not UTF-8, or worse, change it: no key is."""
    key_from_name(name).encode("utf-8")


@given(NAMES, NAMES)
def test_keys_do_not_collide(one: str, other: str) -> None:
    """Two names never share a key."""
    assert (key_from_name(one) == key_from_name(other)) == (one == other)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="%")))
def test_common_names_are_their_own_keys(name: str) -> None:
    """A name of valid text without percent signs is not changed at all."""
    assert key_from_name(name) == name


@pytest.mark.parametrize("name", ["100%", "50% off.txt", "%20", "%7F", "%25", "%", "%%", "%zz"])
def test_percent_signs_stay_where_they_cannot_be_misread(name: str) -> None:
    """Only a percent sign that would read as an undecodable byte is escaped."""
    assert key_from_name(name) == name


@pytest.mark.parametrize("key", ["a", "a/b", "a//b", "/a", "a/", "...", "a/..b", ".hidden", " ", "-r", "é" * 512, "x" * 1024])
def test_check_key_accepts(key: str) -> None:
    """Unusual keys that a store can hold are not refused."""
    assert check_key(key, 1024) == key


@pytest.mark.parametrize("key", ["", ".", "..", "a/../b", "./a", "a/.", "a\0b", "\udc80", "a\ud800", "x" * 1025, "é" * 512 + "x"])
def test_check_key_refuses(key: str) -> None:
    """Keys that would be too long, escape their prefix or be no text are refused, with what to do."""
    with pytest.raises(UsageError) as caught:
        check_key(key, 1024)
    assert caught.value.hint
    assert printable(caught.value.message) == caught.value.message


BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(st.text(st.characters(categories=["C", "Z", "L"])) | NAMES)
@example(BIDI)
@example("\x1b[2J\r\n\x7f\x9b\u2028\ufeff\u00ad")
def test_printable_is_harmless(text: str) -> None:
    """Control, format and bidirectional characters never reach the terminal, and every result can be written."""
    shown = printable(text)
    shown.encode("utf-8")
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") or c in BIDI]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.txt", "plain name.txt"),
        ("Grüße 日本", "Grüße 日本"),
        ("a\nb", "a\\x0ab"),
        ("\x1b[31m", "\\x1b[31m"),
        (os.fsdecode(b"\xff"), "\\xff"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_printable_shows(text: str, shown: str) -> None:
    """Text stays readable; what is not text is shown as an escape."""
    assert printable(text) == shown

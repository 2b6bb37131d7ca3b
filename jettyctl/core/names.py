"""Keys from file names, and names fit for a terminal.

File names are bytes; Python carries undecodable ones as surrogate escapes. A key must be valid UTF-8, so such bytes are
written as %XX. To stay reversible, a literal percent sign is escaped only where it would read as such a byte.
"""

from __future__ import annotations

import re
import unicodedata

from jettyctl.errors import UsageError

_LOOKS_ESCAPED = re.compile(r"%(?=(?:25)*[89A-Fa-f][0-9A-Fa-f])")
_ESCAPED_BYTE = re.compile(r"%([89A-Fa-f][0-9A-Fa-f])")
_UNDECODED = re.compile("[\udc80-\udcff]")  # a byte, as `os.fsdecode` carries it
_NO_UTF8 = re.compile("[\0\ud800-\udfff]")  # nor is NUL wanted
_DOTS = re.compile(r"(?:^|/)\.\.?(?:/|$)")  # as a segment
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def key_from_name(name: str) -> str:
    """The key for a relative path (as `os.fsdecode` gives it): valid UTF-8, and reversible by `name_from_key`."""
    escaped = _LOOKS_ESCAPED.sub("%25", name)
    return _UNDECODED.sub(lambda match: f"%{ord(match[0]) - 0xDC00:02X}", escaped)


def name_from_key(key: str) -> str:
    """The relative path that `key_from_name` made this key of."""
    unescaped = _ESCAPED_BYTE.sub(lambda match: chr(0xDC00 + int(match[1], 16)), key)
    return re.sub(r"%25(?=(?:25)*[89A-Fa-f][0-9A-Fa-f])", "%", unescaped)


def check_key(key: str, max_bytes: int) -> str:
    """The key itself. Raises UsageError for one that no store should be asked to hold."""
    shown = printable(key)
    if not key:
        raise UsageError("the object has no name", hint="Give a key after the bucket: s3://bucket/key.")
    if len(key.encode("utf-8", "surrogatepass")) > max_bytes:
        raise UsageError(f"the key is longer than {max_bytes} bytes: {shown[:60]}…", hint="Use a shorter prefix or name.")
    if _DOTS.search(key):
        raise UsageError(f"the key has a '.' or '..' in it: {shown}", hint="Name the object without them.")
    if _NO_UTF8.search(key):
        raise UsageError(f"the key is not valid UTF-8: {shown}", hint="Use a key of plain text.")
    return key


def printable(text: str) -> str:
    """The text with everything that could steer a terminal, or hide in it, written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _harmless(c) else _escape(c) for c in text)


def _harmless(c: str) -> bool:
    return c == " " or (c not in _BIDI and unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def _escape(c: str) -> str:
    code = ord(c)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

"""Content-Digest (RFC 9530): what the client says of the bytes, checked against the bytes that pass.

`crc64nvme` is not registered; it is what our client has at hand for every part, at a fraction of the cost of SHA-256.
Algorithms that are not known here are not looked at, as the RFC wants it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Protocol

from jettyctl.server.edge.replies import Refused

_MEMBER = re.compile(rb"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):[ \t]*")


class _Sum(Protocol):
    def update(self, data: memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc64:
    """CRC64NVME in the shape of hashlib's."""

    def __init__(self) -> None:
        from jettyctl.files.crc import crc64  # loads a runtime of many megabytes: only when a client uses it

        self._crc64 = crc64
        self._value = 0

    def update(self, data: memoryview) -> None:
        self._value = self._crc64(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(8, "big")


_KNOWN: Mapping[str, tuple[int, Callable[[], _Sum]]] = {
    "sha-256": (32, hashlib.sha256),
    "sha-512": (64, hashlib.sha512),
    "crc64nvme": (8, _Crc64),
}


def parse_digests(values: list[bytes]) -> dict[str, bytes]:
    """The digests that can be checked, by algorithm. Raises Refused for what is not a Content-Digest."""
    found: dict[str, bytes] = {}
    for member in b",".join(values).split(b",") if values else []:
        match = _MEMBER.fullmatch(member)
        if not match or match[1].decode() in found:
            raise _invalid()
        name = match[1].decode()
        if name in _KNOWN:
            found[name] = _decoded(match[2], _KNOWN[name][0])
    return found


class Checks:
    """The sums of one body."""

    def __init__(self, expected: Mapping[str, bytes]) -> None:
        self._sums = [(_KNOWN[name][1](), digest) for name, digest in expected.items()]

    def update(self, data: memoryview) -> None:
        """More of the body."""
        for sum_, _ in self._sums:
            sum_.update(data)

    def verify(self) -> None:
        """Raises Refused if the whole body is not what the client said."""
        if any(sum_.digest() != digest for sum_, digest in self._sums):
            raise Refused(400, "BadDigest", "The Content-Digest did not match what the edge received.")


def _decoded(text: bytes, length: int) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        raise _invalid() from None
    if len(digest) != length:
        raise _invalid()
    return digest


def _invalid() -> Refused:
    return Refused(400, "InvalidDigest", "The Content-Digest is not one.")

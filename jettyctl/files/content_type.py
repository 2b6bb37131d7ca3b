"""The media type of a file, guessed from its name."""

from __future__ import annotations

import mimetypes

DEFAULT = "application/octet-stream"


def _own_table() -> mimetypes.MimeTypes:
    """Python's own table: the same answer on every machine. Told that it is done, the module does not read the system's."""
    before, mimetypes.inited = mimetypes.inited, True
    try:
        return mimetypes.MimeTypes()
    finally:
        mimetypes.inited = before


_TYPES = _own_table()


def guess_content_type(name: str) -> str:
    """As `text/html` or `application/gzip`; what a compressed file decompresses to does not matter to a store."""
    kind, encoding = _TYPES.guess_type(name)
    if encoding:
        return {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}.get(encoding, DEFAULT)
    return kind or DEFAULT

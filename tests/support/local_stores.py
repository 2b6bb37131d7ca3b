"""Uploads begun in an embedded store, and all that is in its directory."""

from __future__ import annotations

import stat
from pathlib import Path

from jettyctl.core.model import ObjectOptions, Upload
from jettyctl.storage.local import LocalStore

PLAIN = ObjectOptions()


def tree(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every entry below a directory with its kind and content."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in sorted(directory.rglob("*")):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(directory))] = (stat.S_IFMT(path.lstat().st_mode), content)
    return found


def begin(store: LocalStore, key: str, size: int | None = None, chunk_size: int = 8) -> Upload:
    """A new upload."""
    return Upload(key, store.create(key, PLAIN, size, chunk_size), 0.0)

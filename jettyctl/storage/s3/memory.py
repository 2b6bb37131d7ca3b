"""What probes found out about endpoints, kept across runs."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid

LIFETIME = 30 * 86_400.0  # seconds; servers are upgraded


class ChecksumMemory:
    """Which checksum each endpoint verifies. This one forgets with the process."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def recall(self, endpoint: str) -> str | None:
        """The checksum, or None: to be probed."""
        return self._known.get(endpoint)

    def learn(self, endpoint: str, checksum: str) -> None:
        """A probe's result."""
        self._known[endpoint] = checksum


class RememberedChecksums(ChecksumMemory):
    """The same, in a JSON file. It is a cache: what cannot be read is probed again, what cannot be written is lost."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def recall(self, endpoint: str) -> str | None:
        entry = self._read().get(endpoint)
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], int | float):
            return str(entry[0]) if 0 <= time.time() - entry[1] < LIFETIME else None
        return None

    def learn(self, endpoint: str, checksum: str) -> None:
        temporary = f"{self._path}.{uuid.uuid4().hex[:8]}.tmp"
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w", encoding="ascii") as file:
                json.dump({**self._read(), endpoint: [checksum, time.time()]}, file)
            os.replace(temporary, self._path)

    def _read(self) -> dict[str, object]:
        try:
            with open(self._path, encoding="ascii") as file:
                known = json.load(file)
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

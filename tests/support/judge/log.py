"""Every request that a judge saw, for tests to count: what was sent, not what the client says that it sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from tests.support.judge.replies import Asked


@dataclass(slots=True)
class Entry:
    """One request. Times are of the monotonic clock.

    `applied`: the server did what was asked. `delivered`: its true and whole reply was written. `covered`, of a request to
    complete: how many bytes the parts that it lists have together. `who`: the id of the key that signed it.
    """

    number: int
    op: str
    key: str
    part: int | None
    upload_id: str | None
    attempt: int
    began: float
    fault: str = ""
    status: int = 0
    who: str = ""
    code: str = ""
    size: int = 0
    applied: bool = False
    delivered: bool = False
    covered: int | None = None
    ended: float | None = None


@dataclass(slots=True)
class Log:
    """`attempts` counts the requests of each operation, key and part; `hits` the faults of each kind and operation."""

    entries: list[Entry] = field(default_factory=list)
    attempts: Counter[tuple[str, str, int | None]] = field(default_factory=Counter)
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)

    def begin(self, asked: Asked, at: float) -> Entry:
        """A request whose head was read."""
        op, part = asked.op, asked.part
        self.attempts[op, asked.key, part] += 1
        attempt = self.attempts[op, asked.key, part]
        entry = Entry(len(self.entries) + 1, op, asked.key, part, asked.asks("uploadId"), attempt, at, who=asked.access)
        self.entries.append(entry)
        return entry

    def struck(self, entry: Entry, kind: str) -> None:
        """A fault befalls a request."""
        entry.fault = kind
        self.hits[kind, entry.op] += 1

    def of(self, op: str, key: str | None = None) -> list[Entry]:
        """The requests of one operation."""
        return [entry for entry in self.entries if entry.op == op and key in (None, entry.key)]

    def sent_again(self, key: str) -> Iterator[Entry]:
        """Requests for parts that were begun after the whole reply to the same part of the same upload was on its way.

        Not if the parts were listed while the first was in flight: who came after its sender's death could not know.
        """
        answered: dict[tuple[str | None, int | None], tuple[float, float]] = {}
        listed = [entry.began for entry in self.of("list_parts", key)]
        for entry in self.of("part", key):
            place = entry.upload_id, entry.part
            began, ended = answered.get(place, (0.0, entry.began))
            if entry.began > ended and not any(began < moment <= ended for moment in listed):
                yield entry
            if entry.applied and entry.delivered and entry.ended is not None:
                answered[place] = entry.began, entry.ended

    def short_completes(self, key: str, size: int) -> list[Entry]:
        """Requests to complete an upload with parts that are not the whole file."""
        return [entry for entry in self.of("complete", key) if entry.covered not in (None, size)]

    def lines(self) -> Iterator[str]:
        """The entries in JSON."""
        return (json.dumps(asdict(entry)) for entry in self.entries)

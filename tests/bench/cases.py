"""What is measured, as data. A new case is a new line here, one behind the emulator too: `wan` holds its options."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison.

    `server` is `null` (accepts everything, keeps nothing, so that the time is the client's own) or `rclone` (stores, for
    cases that need true answers about what is there). `kind` is `upload`, `again` (each client's one object, already
    uploaded from the unchanged file) or `version`. `sparse` files are mostly holes: cheap to make, slow to nobody.
    """

    name: str
    about: str
    size: int
    kind: str = "upload"
    server: str = "null"
    sparse: bool = False
    rss_bound: int | None = None  # for jettyctl
    wan: tuple[str, ...] = ()  # options of `wan run`; needs root, and the null server


CASES = (
    Case("loop-1g", "1 GiB of random bytes over loopback", GIB),
    Case("memory-3g", "3 GiB over loopback: peak memory", 3 * GIB, sparse=True, rss_bound=120 * MIB),
    Case("again-1g", "the same unchanged 1 GiB again", GIB, kind="again", server="rclone"),
    Case("start-version", "printing the version", 0, kind="version"),
    Case("start-1k", "uploading 1 KiB", KIB),
)


def chosen(names: list[str]) -> list[Case]:
    """Cases by name or by the beginning of one; all without names. Raises ValueError for a name that fits nothing."""
    for name in names:
        if not any(case.name.startswith(name) for case in CASES):
            raise ValueError(f"no case {name}; there are {', '.join(case.name for case in CASES)}")
    return [case for case in CASES if not names or case.name.startswith(tuple(names))]

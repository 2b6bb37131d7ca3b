"""The promise of who may have a file already: what a clone needs instead of the file's bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jettyctl.core.model import ObjectInfo, ObjectOptions


@dataclass(frozen=True, slots=True)
class Challenge:
    """What is to be proven (see `core.possession`): good once, for one user, and not for long."""

    nonce: str
    seed: bytes
    user_id: str


class Dedup(Protocol):
    """Calls block, from any thread. Every failure is a JettyError, after which the file is sent as any other."""

    @property
    def smallest(self) -> int:
        """Bytes; smaller files are sent sooner than they are asked about."""

    def may_be_known(self, size: int, sample: str) -> bool:
        """Whether it is worth hashing the file. False says that it would be in vain."""

    def challenge(self, size: int, blake3: str) -> Challenge:
        """What to prove of this content. It tells nothing of whether the content is known."""

    def clone(
        self, challenge: Challenge, proven: str, key: str, options: ObjectOptions, *, if_absent: bool
    ) -> ObjectInfo | None:
        """Make the object of what is there; None if it is not, or the proof is not one. Raises AlreadyExists."""

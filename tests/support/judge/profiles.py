"""What the vendors allow and verify, as data. A row says what is known of a vendor; it is no promise that it is still so."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.judge.hashes import CHECKSUMS

MIB = 1 << 20
GIB = 1 << 30
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Profile:
    """Sizes in bytes, `expiry` in seconds. `verifies` names what a wrong value of is refused; other checksums are ignored.

    `conditions`: If-None-Match and If-Match on PUT and Complete. `object_size`: x-amz-mp-object-size at Complete.
    `equal_parts`: all parts but the last have one size. `exact_listing`: only the uploads of exactly the asked key are listed.
    """

    name: str
    min_part: int = 5 * MIB
    max_part: int = 5 * GIB
    max_parts: int = 10_000
    max_put: int = 5 * GIB
    verifies: frozenset[str] = frozenset({"md5", *CHECKSUMS})
    conditions: bool = True
    object_size: bool = False
    equal_parts: bool = False
    exact_listing: bool = False
    expiry: float | None = None


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("aws", object_size=True),
        Profile("r2", verifies=frozenset({"md5", "sha256"}), equal_parts=True, expiry=7 * DAY),
        Profile("minio", exact_listing=True),
        Profile("ceph", verifies=frozenset({"md5", "sha256"}), conditions=False),
        Profile("thousand", verifies=frozenset({"md5", "sha256"}), max_parts=1_000),
    )
}

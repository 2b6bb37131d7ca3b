"""Stores under test, and uploads to them. Where a server does less than S3, that is a fact in `SUBJECTS`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from jettyctl.core.model import MIB, ObjectOptions, Receipt, Upload
from jettyctl.errors import JettyError, ServerFault, UploadGone
from jettyctl.files.crc import crc64
from jettyctl.storage.base import Store
from jettyctl.storage.s3.client import S3Config, S3Store
from jettyctl.storage.s3.credentials import Keys, StaticKeys
from jettyctl.storage.s3.sign import Signer
from tests.support import servers
from tests.support.bodies import body_of

PLAIN = ObjectOptions()

KEYS = [
    "with space",
    "ünïcode ☃ 猫",
    "a+b",
    "100%",
    "%41%2F",
    "a=b&c",
    "q?x#y",
    "~tilde!*'()",
    "deep/er/and/deeper",
    ".dot",
    "-dash",
]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a store does where stores differ; the defaults are S3's own behaviour."""

    part: int = 64 * 1024  # bytes of a part that is not the last
    refuses_taken: bool = True  # if_absent is obeyed
    newline: bool = True  # takes keys with a line break
    replaces_parts: bool = True  # takes other bytes under a number it has
    completes_once: bool = True  # a second Complete is UploadGone
    after_abort: type[JettyError] = UploadGone  # how a part after abort fails
    proves_whole: bool = True  # Complete is refused if size or CRC64 are wrong
    keeps_refused: bool = True  # an upload lives on after a Complete that was refused
    deletes_halves: bool = True  # deleting the first half of a key is no error


MOTO = Facts(
    part=5 * MIB,  # moto refuses smaller parts at Complete, as AWS does
    newline=False,  # moto answers 404 for such keys
    completes_once=False,  # moto answers the second Complete with 200 and the same object
    after_abort=ServerFault,  # moto answers 500
    proves_whole=False,  # moto verifies no checksum and no x-amz-mp-object-size
)
RCLONE = Facts(
    refuses_taken=False,  # rclone ignores If-None-Match
    replaces_parts=False,  # rclone answers 501 to other bytes under the same number
    proves_whole=False,  # rclone verifies nothing at Complete
    keeps_refused=False,  # rclone forgets the upload
    deletes_halves=False,  # rclone answers 500 where a directory is
)
SUBJECTS = {"memory": Facts(), "local": Facts(), "moto": MOTO, "rclone": RCLONE}


@dataclass(frozen=True, slots=True)
class Subject:
    """One store under test; `again` opens another on the same place."""

    name: str
    facts: Facts
    store: Store
    again: Callable[[], Store]

    def key(self, name: str) -> str:
        """A key of this test alone: servers live longer than a test."""
        return f"{time.monotonic_ns()}/{name}"


def s3_store(server: servers.Endpoint) -> S3Store:
    config = S3Config(server.bucket, servers.REGION, server.endpoint)
    return S3Store(config, Signer(StaticKeys(Keys(servers.ACCESS_KEY, servers.SECRET_KEY)), servers.REGION))


def content(store: Store, key: str) -> bytes:
    return b"".join(store.read(key))


def begin(subject: Subject, key: str, size: int | None = None) -> Upload:
    return Upload(key, subject.store.create(key, PLAIN, size, subject.facts.part), 0.0)


def send(subject: Subject, key: str, data: bytes, numbers: list[int] | None = None) -> tuple[Upload, list[Receipt]]:
    """Begin an upload of `data` and put its parts, in the order of `numbers`."""
    part = subject.facts.part
    upload = begin(subject, key, len(data))
    count = max(1, -(-len(data) // part))
    receipts = [
        subject.store.put_part(upload, n, body_of(data[(n - 1) * part : n * part])) for n in numbers or range(1, count + 1)
    ]
    return upload, sorted(receipts, key=lambda receipt: receipt.number)


def finish(subject: Subject, upload: Upload, receipts: list[Receipt], data: bytes, *, if_absent: bool = False) -> None:
    subject.store.complete(upload, receipts, size=len(data), crc64=crc64(data), if_absent=if_absent)

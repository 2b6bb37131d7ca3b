"""The store, for code on the event loop: its calls block, so each runs on a thread that is there for it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

from jettyctl.core.backoff import RetryPolicy
from jettyctl.core.model import Limits, ObjectInfo, ObjectOptions, Receipt, Upload
from jettyctl.core.names import check_key
from jettyctl.core.targets import parse_destination
from jettyctl.errors import (
    AccessError,
    AlreadyExists,
    IntegrityError,
    JettyError,
    NetworkError,
    NoSuchBucket,
    StoreError,
    UntrustedServer,
    UploadGone,
    UsageError,
)
from jettyctl.server.control import failures, log
from jettyctl.server.control.failures import ApiError
from jettyctl.server.control.settings import Settings
from jettyctl.storage.base import Claim, SignedRequest, Store
from jettyctl.storage.local import LocalStore
from jettyctl.storage.retry import Retries, RetryingStore

if TYPE_CHECKING:  # a service with the embedded store does not load the other
    from jettyctl.storage.s3.client import S3Store

T = TypeVar("T")
THREADS = 32  # calls to the store at the same time; most wait for the network
OWN = ".jetty"  # the first segment of keys that the service keeps for itself
READ_SECONDS = 300  # how long the address of an object's bytes is good for
_PATIENCE = RetryPolicy(attempts=4, base=0.2, cap=2.0)  # a client waits for the answer, and can try again itself
_SHARED = f"{OWN}/by-hash/"


class Objects:
    """The store of the service. Failures of the store are raised as ApiError, but where a method says otherwise."""

    def __init__(self, store: LocalStore | S3Store, prefix: str) -> None:
        self.local = store if isinstance(store, LocalStore) else None
        self._s3 = None if isinstance(store, LocalStore) else store
        self._bare: Store = store
        self._prefix = prefix
        self._stopping = threading.Event()
        self.store: Store = RetryingStore(store, Retries(_PATIENCE, wait=self._stopping.wait, draw=random.random))
        self._threads = ThreadPoolExecutor(THREADS, "store")

    @property
    def limits(self) -> Limits:
        """What the store takes. Keys are shorter by the service's own prefix."""
        return self._bare.limits

    @property
    def checksum(self) -> str:
        """How the store verifies parts; `auto` until `settled` has found out."""
        return self._bare.checksum

    @property
    def kind(self) -> Literal["local", "s3"]:
        """Whether parts come through this process (`local`), or go to the store itself."""
        return "local" if self.local else "s3"

    async def settled(self) -> str:
        """How the store verifies parts, asked of it if nobody knows yet."""
        store = self._s3
        if store and store.checksum == "auto":
            await self.run(lambda: store.settle(f"{self._prefix}{OWN}"))
        return self.checksum

    def storage_key(self, tenant_id: str, key: str) -> str:
        """Where a user's object lies in the store. Raises ApiError 400 for a key that cannot be."""
        segments = key.split("/")
        if segments[0].casefold() == OWN or "" in segments:
            raise failures.bad_request(f"key: no segment may be empty, and none of the first may be {OWN}.")
        return self._checked(f"{self._prefix}{tenant_id}/{key}")

    def shared_key(self, tenant_id: str, sha256: str) -> str:
        """Where the one copy lies that all references without a name of their own share."""
        return f"{self._prefix}{tenant_id}/{_SHARED}{sha256}"

    async def head(self, key: str) -> ObjectInfo | None:
        return await self.run(lambda: self.store.head(key))

    async def create(self, key: str, options: ObjectOptions, size: int, chunk_size: int) -> str:
        return await self.run(lambda: self.store.create(key, options, size, chunk_size))

    async def list_parts(self, upload: Upload) -> list[Receipt]:
        return await self.run(lambda: self.store.list_parts(upload))

    async def abort(self, upload: Upload) -> None:
        await self.run(lambda: self.store.abort(upload))

    async def list_uploads(self, key: str) -> list[Upload]:
        return await self.run(lambda: self.store.list_uploads(key))

    async def copy(self, source_key: str, key: str, options: ObjectOptions, size: int, *, if_absent: bool = False) -> ObjectInfo:
        return await self.run(lambda: self.store.copy(source_key, key, options, size, if_absent=if_absent))

    async def delete(self, key: str) -> None:
        await self.run(lambda: self.store.delete(key))

    async def complete(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, crc64: int | None, if_absent: bool
    ) -> ObjectInfo:
        """One request, never repeated here. Raises the store's own JettyError: what it means, only a look can tell."""
        return await self._threaded(
            lambda: self._bare.complete(upload, receipts, size=size, crc64=crc64, if_absent=if_absent)
        )

    async def sign_parts(self, upload: Upload, wanted: Sequence[tuple[int, Claim]]) -> list[SignedRequest]:
        """A request for each part, to be sent by the client. S3 only."""
        store = self._s3
        assert store
        return await self.run(lambda: [store.sign_part(upload, number, claim) for number, claim in wanted])

    async def sign_read(self, key: str) -> SignedRequest:
        """A GET of an object, to be sent by the client. S3 only."""
        store = self._s3
        assert store
        return await self.run(lambda: store.sign_read(key, seconds=READ_SECONDS))

    async def file_of(self, key: str) -> str:
        """The file that holds an object. Embedded store only."""
        store = self.local
        assert store
        return await self.run(lambda: store.path_of(key))

    async def run(self, call: Callable[[], T]) -> T:
        """A blocking call of the store on one of its threads."""
        try:
            return await self._threaded(call)
        except JettyError as error:
            raise refused(error) from error

    async def _threaded(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _checked(self, storage_key: str) -> str:
        try:
            check_key(storage_key, self.limits.max_key_bytes)
            if self.local:
                self.local.path_of(storage_key)
        except UsageError as error:
            raise failures.bad_request(f"key: {error.message}") from None
        except StoreError as error:  # a directory of the service's machine, which is not the client's to know
            log.write("error", store=error.code, error=error.message)
            raise failures.bad_request("key: it cannot be stored here. Choose another.") from None
        return storage_key

    def close(self) -> None:
        """End calls in flight soon, and give back threads and connections."""
        self._stopping.set()
        self._bare.interrupt()
        self._threads.shutdown(cancel_futures=True)
        self._bare.close()


@asynccontextmanager
async def open_objects(settings: Settings, environment: Mapping[str, str] = os.environ) -> AsyncIterator[Objects]:
    """The store that the settings name, open while the context lasts. Raises UsageError for one that cannot be."""
    objects = _opened(settings, environment)
    asking = asyncio.create_task(_settle(objects))
    try:
        yield objects
    finally:
        asking.cancel()
        await asyncio.get_running_loop().run_in_executor(None, objects.close)


def _opened(settings: Settings, environment: Mapping[str, str]) -> Objects:
    if settings.store.startswith("local:"):
        return Objects(LocalStore(os.path.abspath(settings.store.removeprefix("local:"))), "")
    from jettyctl.storage.s3.client import S3Store
    from jettyctl.storage.s3.requests import S3Config
    from jettyctl.storage.s3.settings import resolve
    from jettyctl.storage.s3.sign import Signer

    place = parse_destination(settings.store)
    if not place.is_prefix:
        raise UsageError(f"{settings.store} is no prefix", hint="End it with a slash: s3://bucket/prefix/")
    found = resolve(
        environment,
        endpoint_url=settings.endpoint_url,
        region=settings.region,
        profile=settings.profile,
        ca_file=settings.ca_file,
    )
    config = S3Config(place.bucket, found.region, found.endpoint_url, ca_file=found.ca_file)
    return Objects(S3Store(config, Signer(found.source, found.region)), place.key)


async def _settle(objects: Objects) -> None:
    """Ask once at the start, so that no upload waits for it; a store that does not answer now is asked by the first."""
    try:
        await objects.settled()
    except ApiError as error:
        log.write("warning", store=objects.kind, error=error.error)


def refused(error: JettyError) -> ApiError:
    """What a client is told of a failure of the store. Who runs the service finds the rest in the log."""
    if isinstance(error, UploadGone):
        return ApiError(410, "upload gone", "The store does not know this upload any more. Begin a new session.")
    if isinstance(error, AlreadyExists):
        return failures.conflict("exists", "There is an object with this key.")
    if isinstance(error, IntegrityError):
        return failures.conflict("integrity", "The bytes in the store are not those that were announced. Send them again.")
    if isinstance(error, UsageError):
        return failures.bad_request(f"{error.message}. {error.hint}")
    log.write("error", store=error.code, error=error.message)
    if isinstance(error, NetworkError) and not isinstance(error, UntrustedServer):
        after = str(max(1, round(error.retry_after or 1)))
        return ApiError(503, "store not available", "The store does not answer. Try again.", headers={"Retry-After": after})
    if isinstance(error, AccessError | NoSuchBucket | UntrustedServer):
        return ApiError(502, "the store refuses the service", "Tell who runs the service: its credentials, bucket or TLS.")
    if isinstance(error, StoreError):
        return ApiError(502, "the store refuses", error.message)
    return ApiError(503, "store not available", "Try again.", headers={"Retry-After": "1"})


def key_name(storage_key: str) -> str:
    """A short name of a key, for locks: keys themselves can be longer than a column."""
    return f"key-{hashlib.sha256(storage_key.encode()).hexdigest()[:56]}"

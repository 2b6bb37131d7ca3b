"""The stores of a run, with retry and rate limit around them. They are made before the engine is imported, so that a first
connection is opened meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from jettyctl import paths
from jettyctl.connection import Connection
from jettyctl.core.backoff import RetryPolicy
from jettyctl.core.events import Note, Retried
from jettyctl.core.model import Target
from jettyctl.core.targets import Destination, control_origin, origin_of
from jettyctl.errors import UsageError
from jettyctl.storage.base import Store
from jettyctl.storage.limit import LimitedStore, RateLimit
from jettyctl.storage.retry import Retries, RetryingStore

if TYPE_CHECKING:  # a store is imported where it is made: a run needs one kind
    from jettyctl.control.store import ControlStore
    from jettyctl.storage.s3.client import S3Store
    from jettyctl.storage.s3.settings import S3Settings

Place = tuple[str, str, str, Connection]


class Stores:
    """Makes each store once. Belongs to one thread; what it makes may be used by any."""

    def __init__(self, connection: Connection, *, take_over: bool = False, policy: RetryPolicy | None = None) -> None:
        """`take_over` is said to control planes. `policy` is how often requests are tried."""
        self.connection = connection
        self._take_over = take_over
        self._stores: dict[Place, Store] = {}
        self._s3_stores: dict[Place, S3Store] = {}
        self._planes: dict[str, ControlStore] = {}
        self._portable: set[Place] = set()
        self.rate = RateLimit(connection.limit_rate) if connection.limit_rate else None
        self._retries = Retries(policy or RetryPolicy())
        self._note: Callable[[Note], None] = lambda _: None

    def hear(
        self,
        wait: Callable[[float], bool],
        retried: Callable[[Retried], None],
        throttled: Callable[[float], None],
        note: Callable[[Note], None],
    ) -> None:
        """Whom stores tell what they meet, on any thread, and how they wait: see `Retries`."""
        self._retries.wait, self._retries.notify, self._retries.throttled, self._note = wait, retried, throttled, note

    def reach(self, destination: Destination, connections: int) -> None:
        """Begin to open connections to where files will go. Raises UsageError."""
        if destination.scheme == "s3":
            target = Target("s3", self.endpoint(destination), destination.bucket, "")
            self.store(target)
            self.s3(target, self.connection).open_ahead(connections)

    def close(self) -> None:
        """End all connections."""
        for store in self._stores.values():
            store.close()

    def endpoint(self, destination: Destination) -> str:
        """The endpoint part of a target: the store's directory, the S3 endpoint's URL, "" for AWS itself, or the origin of
        a control plane. Raises UsageError where none is configured.
        """
        if destination.scheme == "local":
            return paths.local_store()
        return self.s3_endpoint() if destination.scheme == "s3" else self.plane(destination.authority)

    def plane(self, authority: str = "") -> str:
        """The origin of the control plane at `host[:port]`, or of the configured one. Raises UsageError if there is none."""
        configured = control_origin(self.connection.control) if self.connection.control else ""
        if authority and configured.partition("://")[2] != authority:
            return origin_of(authority)
        if not configured:
            hint = "Run `jettyctl config set control https://HOST`, or write jetty://HOST/prefix/."
            raise UsageError("no control plane is configured", hint=hint)
        return configured

    def control_store(self, origin: str, how: Connection | None = None, *, if_absent: bool = False) -> ControlStore:
        """The control plane at an origin, as the user whose key is kept for it. Raises AccessError if none is."""
        if origin not in self._planes:
            from jettyctl.control.store import ControlStore, client_of, holder_of

            how = how or self.connection
            self._planes[origin] = ControlStore(
                client_of(control_origin(origin), verify=how.verify_tls, ca_file=how.ca_file),
                holder=holder_of(paths.holder_file()),
                take_over=self._take_over,
                if_absent=if_absent,
                verify=how.verify_tls,
                ca_file=how.ca_file,
            )
        return self._planes[origin]

    def store(self, target: Target, connection: Connection | None = None, *, if_absent: bool = False) -> Store:
        """The store of a target's bucket, with retry and rate limit around it.

        `if_absent` says of all uploads to a control plane, when they begin, that they must not replace an object.
        """
        how = connection or self.connection
        place = _place(target, how)
        if place not in self._stores:
            store: Store
            if target.scheme == "local":
                store = _local(target)
            elif target.scheme == "jetty":
                store = self.control_store(target.endpoint, how, if_absent=if_absent)
            else:
                store = self._s3_stores[place] = self._s3(target, how)
            if self.rate:
                store = LimitedStore(store, self.rate)
            self._stores[place] = RetryingStore(store, self._retries)
        return self._stores[place]

    def s3(self, target: Target, how: Connection) -> S3Store:
        """The store itself, of a target whose `store` was asked for."""
        return self._s3_stores[_place(target, how)]

    def portable(self, target: Target, how: Connection) -> bool:
        """Whether another process can reach the store as well, with no question asked again."""
        return _place(target, how) in self._portable

    def s3_endpoint(self) -> str:
        """The configured one; "" for AWS itself."""
        return self._settings(self.connection).endpoint_url or ""

    @staticmethod
    def _settings(asked: Connection) -> S3Settings:
        from jettyctl.storage.s3.settings import resolve

        return resolve(
            os.environ, endpoint_url=asked.endpoint_url, region=asked.region, profile=asked.profile, ca_file=asked.ca_file
        )

    def _s3(self, target: Target, how: Connection) -> S3Store:
        from jettyctl.storage.s3.client import S3Config, S3Store
        from jettyctl.storage.s3.credentials import StaticKeys
        from jettyctl.storage.s3.memory import RememberedChecksums
        from jettyctl.storage.s3.sign import Signer

        settings = self._settings(how)
        if how == self.connection and not self.rate and (isinstance(settings.source, StaticKeys) or not how.sign):
            self._portable.add(_place(target, how))
        config = S3Config(
            bucket=target.bucket,
            region=settings.region,
            endpoint_url=target.endpoint or None,
            addressing=how.addressing,
            verify_tls=how.verify_tls,
            ca_file=settings.ca_file,
            checksum=how.checksum,
        )
        signer = Signer(settings.source if how.sign else None, settings.region)
        store = S3Store(config, signer, memory=RememberedChecksums(paths.endpoints_file()), note=self._told)
        store.open_ahead(1)
        return store

    def _told(self, note: Note) -> None:
        self._note(note)  # who hears it may change


def _place(target: Target, how: Connection) -> Place:
    return target.scheme, target.endpoint, target.bucket, how


def _local(target: Target) -> Store:
    from jettyctl.storage.local import LocalStore

    return LocalStore(target.endpoint)

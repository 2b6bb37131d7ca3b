"""Copies within a bucket, which no command makes by itself: the control plane asks its store for them, as this does."""

from __future__ import annotations

import sys
from contextlib import closing

from jettyctl.connection import Connection
from jettyctl.core.model import ObjectOptions, Target
from jettyctl.errors import JettyError
from jettyctl.storage.retry import RetryingStore
from jettyctl.storage.s3.copy import Copying
from jettyctl.stores import Stores

PART = 5 << 20


def copy(source: str, key: str, size: str, how: str) -> int:
    """`how` is `whole` or `parts`; the exit status that a command would have."""
    with closing(Stores(Connection())) as stores:
        target = Target("s3", stores.s3_endpoint(), "bucket", key)
        store = stores.store(target)
        try:
            if how == "whole":
                store.copy(source, key, ObjectOptions(), int(size))
            else:
                assert isinstance(store, RetryingStore)
                bare = stores.s3(target, stores.connection)
                copying = Copying(bare, bare._requests, source, key, ObjectOptions())
                store._try("copy", lambda: copying.perform(int(size), if_absent=False, at_once=PART, part=PART))
        except JettyError as error:
            print(f"jettyctl: {error.message}", file=sys.stderr)
            return error.exit_status
    return 0

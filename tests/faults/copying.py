"""Copies within a bucket, which no command makes by itself: the control plane asks its store for them, as this does."""

from __future__ import annotations

import sys

from jettyctl.connection import Connection
from jettyctl.core.model import ObjectOptions, Target
from jettyctl.errors import JettyError
from jettyctl.storage.retry import RetryingStore
from jettyctl.storage.s3.copy import Copying
from jettyctl.wiring import Runtime

PART = 5 << 20


def copy(source: str, key: str, size: str, how: str) -> int:
    """`how` is `whole` or `parts`; the exit status that a command would have."""
    with Runtime(Connection()) as runtime:
        target = Target("s3", runtime._s3_endpoint(), "bucket", key)
        store = runtime.store(target)
        try:
            if how == "whole":
                store.copy(source, key, ObjectOptions(), int(size))
            else:
                assert isinstance(store, RetryingStore)
                bare = next(iter(runtime._bare.values()))
                copying = Copying(bare, bare._requests, source, key, ObjectOptions())
                store._try("copy", lambda: copying.perform(int(size), if_absent=False, at_once=PART, part=PART))
        except JettyError as error:
            print(f"jettyctl: {error.message}", file=sys.stderr)
            return error.exit_status
    return 0

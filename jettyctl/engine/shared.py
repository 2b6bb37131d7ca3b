"""What all uploads of a run share, and what the user asked for. Wired together in one place, outside of the engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, ParamSpec, TypeVar

from jettyctl.core.events import Event
from jettyctl.core.model import ObjectOptions, Target
from jettyctl.engine.meter import Meter
from jettyctl.engine.routes import Routes
from jettyctl.engine.slots import Slots
from jettyctl.engine.stop import Stop
from jettyctl.files.cache import HashCache
from jettyctl.journal.base import Journal
from jettyctl.storage.base import Store

if TYPE_CHECKING:  # most runs have no edges, and nobody to ask for clones
    from jettyctl.edges.base import EdgeSource
    from jettyctl.engine.workers import Desk, Worker
    from jettyctl.storage.dedup import Dedup

P = ParamSpec("P")
T = TypeVar("T")

IfExists = Literal["overwrite", "skip", "fail"]


class Wishes(NamedTuple):
    """How the user wants files to be sent. `threads` None: as the size table says."""

    chunk_size: Literal["auto", "tier"] | int = "auto"
    threads: int | None = None
    if_exists: IfExists = "overwrite"
    restart: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One source to one target. `path` is as the user gave it; `-` is standard input."""

    path: str
    target: Target
    store: Store
    options: ObjectOptions
    wishes: Wishes
    edges: EdgeSource | None = None
    dedup: Dedup | None = None
    follow: bool = True  # a symbolic link at `path` may be followed
    connection: Mapping[str, object] = field(default_factory=dict)  # kept in the session, so that a resume needs no flags
    leave: Callable[[str], None] = field(default=lambda _: None)  # told the id of each upload that this run works on no more
    portable: bool = False  # another process can do it as well: it needs nothing that only this one has


@dataclass(slots=True)
class Shared:
    """The run's common parts.

    `carriers` run what a slot was taken for, `leaders` what reads ahead of them, `helpers` all other blocking calls: none of
    them waits for a thread of another kind. `emit` is called on the event loop only; carriers add to `told`. `hire` makes one
    of `most_workers` other processes.
    """

    journal: Journal
    cache: HashCache
    slots: Slots
    meter: Meter
    stop: Stop
    carriers: Executor
    helpers: Executor
    leaders: Executor
    emit: Callable[[Event], None]
    spool_dir: str
    routes: Routes
    loop: asyncio.AbstractEventLoop
    hire: Callable[[Desk], Worker]
    most_workers: int = 0
    limit_rate: float | None = None  # bytes a second that the user allows
    now: Callable[[], float] = field(default=time.time)
    idle: threading.Lock = field(default_factory=threading.Lock)  # held for good by the first file that is sent in parts
    told: deque[Event] = field(default_factory=deque)  # by carriers, emitted by the loop within a moment

    async def help(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call on a helper thread."""
        return await self.loop.run_in_executor(self.helpers, lambda: call(*args, **kwargs))

    async def carry(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call that holds a slot."""
        return await self.loop.run_in_executor(self.carriers, lambda: call(*args, **kwargs))

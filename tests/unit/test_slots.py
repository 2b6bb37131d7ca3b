"""Slots, and who gets them: files that are sent whole stand in line, the chunks of large files wait for any of several."""

from __future__ import annotations

import asyncio

from jettyctl.core.pace import Pacer
from jettyctl.engine.lanes import Lane, Lanes
from jettyctl.engine.routes import DirectRoute
from jettyctl.engine.slots import Slots
from tests.support.memory_store import MemoryStore


def test_neither_kind_waits_for_all_of_the_other() -> None:
    """Where both want one slot, they have it in turn."""

    async def story() -> list[str]:
        slots = Slots(Pacer(1), lambda: 0, most=1)
        had, freed = list[str](), asyncio.Event()
        slots.on_free = freed.set

        async def whole() -> None:
            async with slots.one():
                had.append("whole")
                await asyncio.sleep(0)

        async def chunks(count: int) -> None:
            slots.wanted += 1
            while count:
                if slots.try_acquire(in_turn=True):
                    had.append("chunk")
                    count -= 1
                    await asyncio.sleep(0)
                    slots.release()
                freed.clear()
                await asyncio.wait_for(freed.wait(), 1)
            slots.wanted -= 1
            slots.grant()  # the one that was left again

        await asyncio.gather(*(whole() for _ in range(8)), chunks(3))
        return had

    had = asyncio.run(story())
    assert had.count("whole") == 8
    assert [index for index, kind in enumerate(had) if kind == "chunk"][-1] < 8


def test_who_gave_up_waits_for_no_slot() -> None:
    """A file that failed is not held up by another one that holds every slot; the line is as if it had never stood there."""

    async def story() -> None:
        slots = Slots(Pacer(1), lambda: 0, most=1)
        lanes = Lanes(Lane(DirectRoute(MemoryStore()), slots, lambda: 0, trusted=True, count=lambda _: None))
        await slots.acquire()
        failed = asyncio.Event()
        waiting = asyncio.ensure_future(lanes.take(lambda _: True, failed.is_set))
        await asyncio.sleep(0)
        assert slots.wanted == 1
        failed.set()
        lanes.changed()
        assert await asyncio.wait_for(waiting, 5) is None
        assert (slots.wanted, slots.in_flight) == (0, 1)
        slots.release()
        assert slots.free

    asyncio.run(story())

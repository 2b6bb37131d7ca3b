"""Slots, and who gets them: files that are sent whole stand in line, the chunks of large files wait for any of several."""

from __future__ import annotations

import asyncio

from jettyctl.core.pace import Pacer
from jettyctl.engine.slots import Slots


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

"""One client's connection: its requests, one after the other, each judged on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from jettyctl.server.edge.channel import Channel
from jettyctl.server.edge.heads import MAX_HEAD, Head, parse
from jettyctl.server.edge.log import AccessLog, Entry
from jettyctl.server.edge.policy import Health, Limits, Origin, Part, Probe, decide
from jettyctl.server.edge.relay import Inflow, swallow
from jettyctl.server.edge.replies import ClientGone, Refused, Reply

LINGER = 2.0  # seconds for which the rest of a refused body is dropped, so that the client can read why

CLIENT_GONE = 499

Carry = Callable[[Part, Inflow], Awaitable[Reply]]


class Connection:
    """Use `run` once."""

    def __init__(
        self,
        channel: Channel,
        origins: dict[str, Origin],
        limits: Limits,
        log: AccessLog,
        carry: Carry,
        health: Callable[[], Reply],
    ) -> None:
        self._channel = channel
        self._origins = origins
        self._limits = limits
        self._log = log
        self._carry = carry
        self._health = health
        self.busy = False
        self.closing = False  # set it to have the connection end after the request that it is at

    async def run(self) -> None:
        """Serve until either side wants no more."""
        patience = self._limits.head
        try:
            while await self._arrived(patience) and await self._one():
                patience = self._limits.idle
        except ConnectionError:
            pass
        finally:
            self._channel.abort()

    async def _arrived(self, patience: float) -> bool:
        """Whether the first bytes of another request came."""
        self.busy = False
        if self.closing:
            return False
        try:
            async with asyncio.timeout(patience):
                self.busy = await self._channel.ready()
        except TimeoutError:
            return False
        return self.busy

    async def _one(self) -> bool:
        """One request; whether another may follow."""
        loop = asyncio.get_running_loop()
        began, entry = loop.time(), Entry(self._channel.peer)
        keep = False
        try:
            reply, keep = await self._answered(entry)
            keep = keep and not self.closing
            entry.status = reply.status
            async with asyncio.timeout(self._limits.idle):
                await self._channel.send(reply.encode(close=not keep))
        except (ClientGone, ConnectionError, TimeoutError):
            entry.status, keep = CLIENT_GONE, False
        entry.seconds = loop.time() - began
        self._log.add(entry)
        if not keep and entry.status != CLIENT_GONE:
            await say_goodbye(self._channel)
        return keep

    async def _answered(self, entry: Entry) -> tuple[Reply, bool]:
        """The reply, and whether the end of the request is known for sure."""
        try:
            head = await self._head()
        except Refused as refused:
            return refused.reply, False
        entry.method, entry.path = head.method, head.path
        inflow = None
        try:
            request = decide(head, self._origins, self._limits)
            if isinstance(request, Health):
                return self._health(), not head.closes
            inflow = Inflow(self._channel, request, self._limits)
            reply = await (swallow(inflow) if isinstance(request, Probe) else self._carry(request, inflow))
        except Refused as refused:
            reply = refused.reply
        finally:
            entry.received = inflow.received if inflow else 0
        return reply, inflow is not None and not inflow.left and not head.closes

    async def _head(self) -> Head:
        try:
            async with asyncio.timeout(self._limits.head):
                raw = await self._channel.head(MAX_HEAD)
        except TimeoutError:
            raise Refused(408, "EdgeTooSlow", "The head comes too slowly.") from None
        if not raw:
            raise ClientGone
        return parse(raw)


async def say_goodbye(channel: Channel) -> None:
    """Close so that the client sees the reply: what it still sends is dropped for a moment, not answered with a reset."""
    channel.finish()
    try:
        async with asyncio.timeout(LINGER):
            while await channel.receive():
                pass
    except (TimeoutError, ConnectionError):
        pass

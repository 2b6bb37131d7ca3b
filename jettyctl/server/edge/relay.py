"""One part on its way: from the client's connection to the origin's, and the reply back.

The last bytes of a part leave only when its Content-Digest is right. An origin that was promised more bytes than it
gets cannot take the part as good, so a wrong one ends here, with the connection.
"""

from __future__ import annotations

import asyncio

from jettyctl.server.edge.channel import Channel
from jettyctl.server.edge.digest import Checks
from jettyctl.server.edge.origin import Pool, Upstream
from jettyctl.server.edge.policy import Limits, Pace, Part, Probe
from jettyctl.server.edge.replies import CONTINUE, ClientGone, OriginLost, Refused, Reply


class Inflow:
    """The body of one request as it comes from the client: counted, and held to the time limits."""

    def __init__(self, client: Channel, request: Part | Probe, limits: Limits) -> None:
        self._client = client
        self._request = request
        self._limits = limits
        self._pace = Pace(limits)
        self.received = 0

    @property
    def left(self) -> int:
        return self._request.length - self.received

    async def begin(self) -> None:
        """Ask for the body, if the client waits to be asked."""
        if self._request.expects:
            try:
                await self._client.send(CONTINUE)
            except ConnectionError:
                raise ClientGone from None

    async def read(self) -> memoryview:
        """The next bytes. Raises Refused for a client that is too slow, ClientGone."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._limits.idle):
                view = await self._client.receive(self.left)
        except TimeoutError:
            raise _slow_client() from None
        if not view:
            raise ClientGone
        self.received += len(view)
        if self._pace.too_slow(len(view), loop.time() - began):
            raise _slow_client()
        return view


class Relay:
    """Carries one part."""

    def __init__(self, part: Part, inflow: Inflow, pool: Pool, limits: Limits) -> None:
        self._part = part
        self._inflow = inflow
        self._pool = pool
        self._limits = limits
        self._complete = False

    async def run(self) -> Reply:
        """The origin's reply. Raises Refused, ClientGone. The client's body may not have been read to its end."""
        try:
            async with asyncio.timeout(self._limits.whole):
                upstream = await self._pool.take(self._part.origin)
                try:
                    reply = await self._exchange(upstream)
                except BaseException:
                    upstream.close()
                    raise
        except TimeoutError:
            raise Refused(408, "EdgeTooSlow", "The part took longer than this edge allows.") from None
        self._pool.give_back(self._part.origin, upstream)
        return reply

    async def _exchange(self, upstream: Upstream) -> Reply:
        """Send and listen at once: an origin may refuse a part before it has all of it."""
        checks = Checks(self._part.digests)
        if not self._part.length:
            checks.verify()
        await upstream.begin(self._part)
        await self._inflow.begin()
        sending = asyncio.create_task(self._send(upstream, checks))
        answering = asyncio.create_task(upstream.reply())
        try:
            await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not isinstance(sending.exception(), OriginLost):
                sending.result()
            reply = await self._reply(answering)
        finally:
            sending.cancel()
            answering.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)
        if reply.status < 300 and not self._complete:
            raise OriginLost("The origin calls a part good that it does not have.")
        return reply

    async def _send(self, upstream: Upstream, checks: Checks) -> None:
        pace, loop = Pace(self._limits), asyncio.get_running_loop()
        while self._inflow.left:
            view = await self._inflow.read()
            checks.update(view)
            if not self._inflow.left:
                checks.verify()
                self._complete = True
            began = loop.time()
            try:
                async with asyncio.timeout(self._limits.idle):
                    await upstream.send(view)
            except TimeoutError:
                raise _slow_origin() from None
            if pace.too_slow(len(view), loop.time() - began):
                raise _slow_origin()
        self._complete = True
        upstream.end()

    async def _reply(self, answering: asyncio.Task[Reply]) -> Reply:
        try:
            async with asyncio.timeout(self._limits.reply):
                return await answering
        except TimeoutError:
            raise _slow_origin() from None


async def swallow(inflow: Inflow) -> Reply:
    """Take a probe's body and drop it."""
    await inflow.begin()
    while inflow.left:
        await inflow.read()
    return Reply(204)


def _slow_client() -> Refused:
    return Refused(408, "EdgeTooSlow", "The body comes too slowly.")


def _slow_origin() -> Refused:
    return Refused(504, "EdgeOriginTimeout", "The origin takes the part, or answers, too slowly.")

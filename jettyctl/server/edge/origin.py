"""Connections to the origins: kept open between parts, spoken to through h11, which holds both sides to the framing."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import defaultdict
from functools import cache

import certifi
import h11

from jettyctl.server.edge.channel import Channel
from jettyctl.server.edge.heads import malformed
from jettyctl.server.edge.policy import Limits, Origin, Part, end_to_end
from jettyctl.server.edge.replies import OriginLost, Refused, Reply

REPLY_LIMIT = 8 << 20  # bytes of a reply that is held in memory
KEPT_SECONDS = 5.0  # idle connections: shorter than servers keep theirs, or a part meets a closed one
KEPT = 32  # idle connections to one origin

_HEAD_LIMIT = 64 << 10
_BLOCK = 64 << 10
_FALLBACK = 0.25  # seconds until the next address of a host is tried beside the first


class Upstream:
    """One connection to an origin, for one part after the other."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)

    @property
    def reusable(self) -> bool:
        """Whether another part may go this way."""
        return self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE} and self._channel.quiet

    async def begin(self, part: Part) -> None:
        """Send the head. Raises OriginLost, as all others here."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        try:
            head = self._http.send(h11.Request(method="PUT", target=part.target, headers=list(part.headers)))
        except h11.LocalProtocolError:  # a second opinion on what our own grammar let pass
            raise malformed("A header line is not one.") from None
        await self._send(head)

    async def send(self, data: memoryview) -> None:
        """Send more of the body."""
        for piece in self._http.send_with_data_passthrough(h11.Data(data=data)) or ():  # type: ignore[arg-type]
            await self._send(piece)

    def end(self) -> None:
        """The body is complete."""
        self._http.send(h11.EndOfMessage())

    async def reply(self) -> Reply:
        """The whole reply; interim ones are passed over, redirects are not followed."""
        response, body = None, bytearray()
        try:
            while not isinstance(event := await self._event(), h11.EndOfMessage):
                if isinstance(event, h11.Response):
                    response = event
                elif isinstance(event, h11.Data):
                    body += event.data
                if len(body) > REPLY_LIMIT or isinstance(event, h11.ConnectionClosed):
                    raise OriginLost("The origin sent no reply, or one that is too long.")
        except h11.RemoteProtocolError:
            raise OriginLost("The origin went away, or does not speak HTTP.") from None
        assert response is not None
        headers = end_to_end(response.headers.raw_items())
        return Reply(response.status_code, bytes(body), headers, bytes(response.reason))

    def watch(self) -> None:
        """Notice when the origin closes the idle connection."""
        self._channel.watch()

    def close(self) -> None:
        """Cut the connection; a part that is under way never becomes whole."""
        self._channel.abort()

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await self._channel.receive()))
        return event  # type: ignore[return-value]

    async def _send(self, data: bytes | memoryview | None) -> None:
        try:
            await self._channel.send(data or b"")
        except ConnectionError:
            raise OriginLost("The origin closed the connection in the middle of the part.") from None


class Pool:
    """Connections to all origins."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: defaultdict[Origin, list[Upstream]] = defaultdict(list)

    async def take(self, origin: Origin) -> Upstream:
        """A connection: a kept one, or a new one. Raises Refused."""
        kept = self._kept[origin]
        while kept:
            upstream = kept.pop()
            if upstream.reusable:
                return upstream
            upstream.close()
        return Upstream(await self._connect(origin))

    def give_back(self, origin: Origin, upstream: Upstream) -> None:
        """Keep a connection for the next part, if it can be used again."""
        if not upstream.reusable or len(self._kept[origin]) >= KEPT:
            return upstream.close()
        upstream.watch()
        self._kept[origin].append(upstream)
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._expire, origin, upstream)
        return None

    def close(self) -> None:
        """Close what is kept."""
        for kept in self._kept.values():
            while kept:
                kept.pop().close()

    def _expire(self, origin: Origin, upstream: Upstream) -> None:
        """Close a connection that is idle. One that was used meanwhile just ends a little earlier."""
        with contextlib.suppress(ValueError):
            self._kept[origin].remove(upstream)
            upstream.close()

    async def _connect(self, origin: Origin) -> Channel:
        secure = origin.scheme == "https"
        try:
            async with asyncio.timeout(self._limits.connect):
                _, channel = await asyncio.get_running_loop().create_connection(
                    lambda: Channel(size=_BLOCK),
                    origin.host,
                    origin.port,
                    ssl=_tls() if secure else None,
                    server_hostname=origin.host if secure else None,
                    happy_eyeballs_delay=_FALLBACK,
                )
        except TimeoutError:
            raise Refused(504, "EdgeOriginUnreachable", "The origin does not answer.") from None
        except (OSError, UnicodeError):  # ssl.SSLError is an OSError
            raise Refused(502, "EdgeOriginUnreachable", "The edge cannot connect to the origin.") from None
        return channel


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # beside the system's authorities: slim images have none
    return context

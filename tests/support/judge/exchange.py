"""One request and its answer on the wire, and all the ways in which that can go wrong."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from tests.support import wire
from tests.support.judge import multipart, operations
from tests.support.judge.answers import ANSWERS, with_wrong_etag
from tests.support.judge.faults import Strike
from tests.support.judge.hashes import Hashes
from tests.support.judge.log import Entry
from tests.support.judge.operations import Bucket
from tests.support.judge.replies import Asked, Refusal, Reply, Request, error, http_date
from tests.support.wire import CutError, Head

LOOK = 0.05  # seconds between two looks whether a client is gone
DOCUMENT = 4 << 20  # bytes of a body that is kept because it is XML
GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR

HANDLERS: dict[str, Callable[[Bucket, Request], Reply]] = {
    "put": operations.put,
    "copy": operations.copy,
    "head": operations.head,
    "get": operations.get,
    "delete": operations.delete,
    "create": multipart.create,
    "part": multipart.part,
    "part_copy": multipart.part_copy,
    "list_parts": multipart.list_parts,
    "list_uploads": multipart.list_uploads,
    "complete": multipart.complete,
    "abort": multipart.abort,
}


class HangUpError(Exception):
    """This connection is over."""


@dataclass(slots=True)
class Exchange:
    """`keep` is the largest body whose bytes are kept. `deafen` stops the listener for a while."""

    bucket: Bucket
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: Head
    asked: Asked
    entry: Entry
    strike: Strike | None
    keep: int
    trap: str
    deafen: Callable[[], Awaitable[None]]

    async def run(self) -> bool:
        """Whether the connection can be used again. Raises CutError, ConnectionError and HangUpError."""
        kind = self.strike.kind.name if self.strike else ""
        await self._before(kind)
        if self.head.headers.get("expect", "").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            payload = self.bucket.admit(self.asked)
        except Refusal as refusal:
            await self._refused(refusal)
            return await self._answer(refusal.reply) and self.head.keeps_alive
        body = await self._body(kind)
        if self.strike and kind in ANSWERS:
            answer = ANSWERS[kind](self.asked, self.strike, self.trap, self.bucket.now())
            return await self._answer(answer) and kind != "timeout-400"
        reply = self._handled(kind, payload, body)
        if kind == "duplicate":
            reply = self._handled(kind, payload, body)
        return await self._after(kind, reply) and self.head.keeps_alive

    async def _before(self, kind: str) -> None:
        if kind == "refuse":
            await self.deafen()
            self._reset()
        elif kind == "black-hole":
            await self._until_gone()
        elif kind == "delay":
            assert self.strike
            await asyncio.sleep(0.1 + self.strike.pick("delay", 900) / 1000)

    async def _refused(self, refusal: Refusal) -> None:
        """Read what is sent all the same, so that the answer is not lost in a reset."""
        self.entry.code = refusal.code
        async for block in self._blocks():
            self.entry.size += len(block)

    async def _body(self, kind: str) -> Hashes:
        length = wire.request_length(self.head)
        document = self.asked.method == "POST" and length <= DOCUMENT
        names = (name[len("x-amz-checksum-") :] for name in self.head.headers if name.startswith("x-amz-checksum-"))
        body = Hashes(keep=document or length <= self.keep, asked=tuple(names))
        cut = self.strike.pick("reset", length) if self.strike and kind == "reset" else None
        flip = self.strike.pick("bit", 8 * length) if self.strike and kind == "flip-request" and length else None
        async for block in self._blocks():
            hit = flip is not None and 0 <= flip // 8 - self.entry.size < len(block)
            arrived = flipped(block, (flip or 0) - 8 * self.entry.size) if hit else block
            self.entry.size += len(block)
            if cut is not None and self.entry.size > cut:
                self._reset()
            body.update(arrived)
        if cut is not None:
            self._reset()
        return body

    def _blocks(self) -> AsyncIterator[bytes]:
        return wire.body(self.reader, wire.request_length(self.head))

    def _handled(self, kind: str, payload: str, body: Hashes) -> Reply:
        op = self.entry.op
        if kind == "ignored-copy":
            op = {"copy": "put", "part_copy": "part"}[op]
        try:
            if kind == "flip-request" and not body.size:  # a bit of what was signed
                raise Refusal(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
            self.bucket.verify(self.asked, payload, body)
            if op == "complete":
                self.entry.covered = self._covered(body)
            handler = HANDLERS.get(op)
            if handler is None:
                raise Refusal(501, "NotImplemented", "The judge does not know this operation.")
            reply = handler(self.bucket, Request(self.asked, body))
        except Refusal as refusal:
            self.entry.code = refusal.code
            return refusal.reply
        self.entry.applied = True
        return reply

    def _covered(self, body: Hashes) -> int | None:
        """How many bytes the parts have that a request to complete lists; None where it will be refused anyway."""
        upload = self.bucket.shelf.uploads.get(self.entry.upload_id or "")
        if upload is None:
            return None
        wanted = dict(multipart.listed(body.content or b""))
        return sum(upload.parts[number].size for number in wanted if number in upload.parts)

    async def _after(self, kind: str, reply: Reply) -> bool:
        """Say it, or not."""
        assert self.strike or not kind
        if kind == "lost-reply":
            raise HangUpError
        if kind == "withheld-reply":
            await self._until_gone()
        if kind == "late-500":
            return await self._answer(error(500, "InternalError", "We encountered an internal error. Please try again."))
        if kind == "wrong-etag":
            return await self._answer(with_wrong_etag(reply))
        raw = self._raw(reply)
        if self.strike and kind == "truncated-reply":
            self.writer.write(raw[: self.strike.pick("cut", len(raw))])
            await self.writer.drain()
            raise HangUpError
        if self.strike and kind == "flip-reply":
            self.writer.write(flipped(raw, self.strike.pick("bit", 8 * len(raw))))
            await self.writer.drain()
            raise HangUpError  # a length that was hit would leave both sides waiting
        if kind == "trickle":
            await self._trickle(raw)
        return await self._answer(reply, true=kind in ("", "delay", "duplicate"))

    async def _answer(self, reply: Reply, *, true: bool = False) -> bool:
        self.entry.status, self.entry.delivered = reply.status, true
        try:
            self.writer.write(self._raw(reply))
            await self.writer.drain()
        except OSError:
            self.entry.delivered = False
            raise
        return True

    def _raw(self, reply: Reply) -> bytes:
        headers = {"Date": http_date(self.bucket.now()), "Server": "judge", **reply.headers}
        if reply.length is not None:
            lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, "Content-Length": str(reply.length)}.items())
            return f"HTTP/1.1 {reply.status} OK\r\n{lines}\r\n".encode("latin-1", "replace")
        return wire.reply(reply.status, reply.body, headers, self.asked.method)

    async def _trickle(self, raw: bytes) -> None:
        for position in range(len(raw)):
            if self._gone():
                raise HangUpError
            self.writer.write(raw[position : position + 1])
            await asyncio.sleep(1.0)
        raise HangUpError

    async def _until_gone(self) -> None:
        while not self._gone():
            await asyncio.sleep(LOOK)
        raise HangUpError

    def _gone(self) -> bool:
        """Whether the client closed. The stream does not tell: it may have stopped reading."""
        looking = select.poll()
        looking.register(self._socket.fileno(), GONE)
        return bool(looking.poll(0))

    @property
    def _socket(self) -> socket.socket:
        found: socket.socket = self.writer.get_extra_info("socket")
        return found

    def _reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        raise HangUpError


def flipped(data: bytes, bit: int) -> bytes:
    """The bytes with one bit turned over."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


OVER = (CutError, ConnectionError, HangUpError, TimeoutError, OSError)

"""One request and its reply on one connection: HTTP/1.1, written here, parsed by llhttp (httptools), which is strict.

httpcore and h11 took half of the time of a small file: they model every event of both sides in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import httptools

from jettyctl.errors import ServerFault, UsageError
from jettyctl.net.sockets import Connection, NotTaken

Headers = list[tuple[str, str]]

READ = 64 * 1024  # bytes read from a socket at a time
TOGETHER = 64 * 1024  # bytes of a body that are copied behind the head, to leave in one packet and one system call
HEAD_LIMIT = 100 * 1024  # bytes of all that comes before a reply's body
_TARGET = re.compile("[!-~]+")
_NO_HEADER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Exchange:
    """A request on its way. After `send`, the reply's `status` and `headers` are there; then its body may be read.

    `silence` is how many seconds the server may think, `patience` how long it may take no byte of the request. Header names
    of a reply are lower case. Raises NetworkError (Stalled, ServerFault), and what the body raises.
    """

    def __init__(self, connection: Connection, method: str, silence: float, patience: float) -> None:
        self._connection = connection
        self._method = method
        self._silence = silence
        self._patience = patience
        self._parser = httptools.HttpResponseParser(self)
        self._headed = self._whole = self._surplus = self._cut = False
        self._pieces: list[bytes] = []
        self._before = 0
        self.status = 0
        self.headers: dict[str, str] = {}

    def send(self, head: bytes, content: bytes | Iterator[bytes] | None) -> None:
        """Send the request, and read the reply's head. An answer that comes before the body's end is what counts."""
        slices = iter((content,)) if isinstance(content, bytes) else iter(content or ())
        first = next(slices, b"")  # it may be refused: then nothing is sent
        try:
            if len(first) <= TOGETHER:
                self._connection.write(head + first, self._patience)
            else:
                self._connection.write(head, self._patience)
                self._connection.write(first, self._patience)
            for data in slices:
                self._connection.write(data, self._patience)
        except NotTaken:
            self._cut = True  # the connection is of no more use, but may hold the reason
        while not self._headed:
            self._receive()

    def body(self) -> Iterator[bytes]:
        """The reply's body as it comes."""
        if self._bodyless():
            return
        while True:
            pieces, self._pieces = self._pieces, []
            yield from pieces
            if self._whole:
                return
            self._receive()

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        over = self._headed and (self._whole or self._bodyless()) and not self._pieces
        return over and not (self._cut or self._surplus) and self._keeps_alive()

    def on_message_begin(self) -> None:
        """Of the parser: a reply after the one that was asked for, or the one after a 1xx."""
        self._surplus = self._whole
        if not self._whole:
            self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the parser."""
        if not self._headed:  # later ones are trailers
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """Of the parser."""
        status = self._parser.get_status_code()
        if not self._headed and status >= 200:
            self.status, self._headed = status, True

    def on_body(self, data: bytes) -> None:
        """Of the parser."""
        if not self._surplus:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """Of the parser."""
        self._whole = self._headed

    def _receive(self) -> None:
        data = self._connection.read(READ, self._silence)
        if not self._headed:
            self._before += len(data)
            if self._before > HEAD_LIMIT + READ:
                raise ServerFault("the reply's headers have no end")
        if not data:
            self._end()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # its text may hold what we sent
            if not (self._whole or (self._headed and self._bodyless())):  # what comes after the reply is nobody's
                raise ServerFault("the reply is not HTTP") from None
            self._surplus = True

    def _end(self) -> None:
        """The server hung up: that is how a body without a length ends, and wrong otherwise."""
        if not self._headed or "content-length" in self.headers or "transfer-encoding" in self.headers:
            raise ServerFault("the reply is not HTTP, or was cut off: the server hung up")
        self._whole = self._cut = True

    def _bodyless(self) -> bool:
        return self._method in ("HEAD", "CONNECT")

    def _keeps_alive(self) -> bool:
        asked = self.headers.get("connection", "").lower()
        return "keep-alive" in asked if self._parser.get_http_version() == "1.0" else "close" not in asked


def head_of(method: str, target: str, headers: Headers) -> bytes:
    """The bytes of a request up to its body. Raises UsageError, without any value, for what would break out of its line."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    text = "\r\n".join(lines)
    broken = text.count("\n") != len(headers) or text.count("\r") != len(headers)
    if broken or _NO_HEADER.search(text) or not _TARGET.fullmatch(target):
        hint = "Look for line breaks in the credentials, and in what the options say of the object."
        raise UsageError("a header cannot be sent: HTTP has no place for one of its characters", hint=hint)
    return f"{text}\r\n\r\n".encode()

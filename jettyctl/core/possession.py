"""Proof that somebody holds a file's bytes, not only its hashes: what a clone costs instead of an upload.

Who stored an object reads it once, and keeps the answers to many challenges. A challenge is a secret seed that names
ranges of the file; its answer is a digest of the bytes there. A client that wants a clone gets one seed and a nonce,
reads the ranges from its own file, and sends an HMAC under the answer: the answer itself never travels, and nobody reads
the object again. A seed is burned once it was given to a client, whatever came of it.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Iterable

from jettyctl.core.model import Range

# Who lacks m bytes of the file answers for one range with a probability of at most 1 - m / size, wherever those bytes lie:
# of size - 255 equally likely ranges at most size - m - 255 are among the bytes that they have (when these are in one
# piece). Who has 99 % of the bytes therefore passes with at most 0.99**640 = 0.16 %; who has 99.9 %, with 53 %.
RANGES = 640
RANGE_LENGTH = 256  # bytes

_LABEL = b"jettyctl possession 1"  # no other use of SHA-256 or SHAKE yields these values


def ranges(seed: bytes, size: int) -> tuple[Range, ...]:
    """What the challenge `seed` asks of a file of `size` bytes, by offset. Ranges may overlap.

    A file no larger than all ranges together is asked for whole, in one range.
    """
    if size <= RANGES * RANGE_LENGTH:
        return (Range(0, size),)
    stream = hashlib.shake_256(_encoded(_LABEL, b"ranges", b"%d" % size, seed)).digest(8 * RANGES)
    places = size - RANGE_LENGTH + 1  # the remainder of 64 bits favours none of them by more than size / 2**64
    offsets = sorted(number % places for number in struct.unpack(f">{RANGES}Q", stream))
    return tuple(Range(offset, RANGE_LENGTH) for offset in offsets)


class Answers:
    """The answers to many challenges at once, from one pass over the bytes.

    `update` takes the bytes in order, in pieces of any size; no more than one range of them is kept.
    """

    def __init__(self, seeds: Iterable[bytes], size: int) -> None:
        self._size = size
        self._position = 0
        self._sums = {seed: _new_answer(seed, size) for seed in seeds}
        todo = [(offset, length, add.update) for seed, add in self._sums.items() for offset, length in ranges(seed, size)]
        # Ranges of one file are equally long, so who begins first also ends first. The sort is stable, and merges runs.
        self._todo = sorted(todo, key=lambda item: item[0])
        self._next = 0  # index of the first range that is not complete
        self._kept = bytearray()  # the bytes from the start of that range to `_position`
        self.update(b"")

    def update(self, data: bytes | memoryview) -> None:
        """The next bytes of the file."""
        view = memoryview(data)
        if self._kept:
            start = self._position - len(self._kept)
            self._kept += view[: self._todo[self._next][1]]  # enough for all ranges that begin before `view`
            self._take(memoryview(self._kept), start)
        self._take(view, self._position)
        self._keep(view)

    def digest(self, seed: bytes) -> bytes:
        """The answer to one of the challenges. Raises ValueError before the last byte, or after more than that."""
        if self._position != self._size:
            raise ValueError(f"{self._position} bytes of {self._size}")
        return self._sums[seed].digest()

    def _take(self, window: memoryview, start: int) -> None:
        """Add all ranges that lie within the bytes at hand, which begin at `start`."""
        todo, index, end = self._todo, self._next, start + len(window)
        while index < len(todo):
            offset, length, add = todo[index]
            if offset < start or offset + length > end:
                break
            add(offset.to_bytes(8, "big"))
            add(window[offset - start : offset - start + length])
            index += 1
        self._next = index

    def _keep(self, view: memoryview) -> None:
        """Keep what the ranges that are not complete have begun with."""
        start, self._position = self._position, self._position + len(view)
        first = self._todo[self._next][0] if self._next < len(self._todo) else self._position
        if first >= start:
            self._kept = bytearray(view[first - start :])
        else:  # it began in earlier bytes: `view` is short, and was added to them whole
            del self._kept[: first - (self._position - len(self._kept))]


def answer_of(seed: bytes, size: int, read: Callable[[int, int], bytes]) -> bytes:
    """The same answer from a file at hand; `read(offset, length)` gives exactly these bytes, and its errors pass through."""
    answer = _new_answer(seed, size)
    for offset, length in ranges(seed, size):
        answer.update(offset.to_bytes(8, "big"))
        answer.update(read(offset, length))
    return answer.digest()


def proof(digest: bytes, *, nonce: str, user_id: str, size: int, blake3: str, seed: bytes) -> str:
    """What the client sends, in hex: an HMAC-SHA256 under the answer `digest`, good for this nonce, user and file only."""
    said = _encoded(_LABEL, b"proof", _bytes(nonce), _bytes(user_id), b"%d" % size, _bytes(blake3), seed)
    return hmac.new(digest, said, hashlib.sha256).hexdigest()


def proven(given: str, digest: bytes, *, nonce: str, user_id: str, size: int, blake3: str, seed: bytes) -> bool:
    """Whether `given`, whatever a client sent, is that proof. The time taken does not tell how nearly it is."""
    expected = proof(digest, nonce=nonce, user_id=user_id, size=size, blake3=blake3, seed=seed)
    return hmac.compare_digest(_bytes(given), _bytes(expected))


def _new_answer(seed: bytes, size: int) -> hashlib._Hash:
    """An answer begins with its challenge, so that even for a small file, asked for whole, each is of use once only."""
    return hashlib.sha256(_encoded(_LABEL, b"answer", b"%d" % size, seed))


def _encoded(*fields: bytes) -> bytes:
    """The fields in one string, each after its length: no two lists of fields have the same."""
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)


def _bytes(text: str) -> bytes:
    """JSON may hold lone surrogates; two texts that differ still differ here."""
    return text.encode("utf-8", "surrogatepass")

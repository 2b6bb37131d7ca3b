"""Hostile file names, uploaded by the directory: keys and bytes come back as they were, and no name reaches a terminal raw.

The content of each file is its own name, so that a key tells which bytes belong to it without knowing how keys are made.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from jettyctl.core.names import name_from_key
from tests.faults.figures import Figure
from tests.faults.running import run
from tests.support.judge import Judge, JudgeThread
from tests.support.running import clean_environment

COUNT = 2_000
DEADLINE = 120.0  # seconds
LONGEST = 255  # bytes that a file system takes
FORBIDDEN = b"/\0"
OURS = re.compile(rb"\x1b\[(?:[0-9]{1,2}(?:;[0-9]{1,3})*)?m|\x1b\[[0-9]?[AGKJ]|\x1b\[\?(?:25|7|2004)[hl]")  # what a display needs
RAW = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
MARK = "RAW-LINE"  # begins a line of its own only if a line break in a name was printed as one

BY_HAND = (
    b"-rf",
    b"--",
    b"--version",
    b"...",
    b".. ",
    b" ",
    b"\t",
    b"\n",
    b"~",
    b"*",
    b"?",
    b"%",
    b"%41",
    b"%FF",
    b"%25FF",
    b"\xff",
    b"%\xff",
    b"\xed\xb2\x80",  # a surrogate, as UTF-8 would have it
    b"\xed\xa0\x80",
    b"\xc0\xaf",  # an overlong slash
    b"\xef\xbb\xbfbom",
    b"\xf4\x90\x80\x80",  # beyond Unicode
    b"a+b&c=d#e;f?g",
    b"s3:",
    b"back\\slash",
    b"quote'\"`$(x)",
    b"<Key>&amp;]]>",
    b"line\n" + MARK.encode(),
    b"return\r" + MARK.encode(),
    b"\x1b[777;777H" + MARK.encode(),
    b"\x1b[777A",
    b"\x1b]52;c;cHduZWQ=\x07",
    b"\x1b]0;title\x1b\\",
    b"\x9b777A",
    "\x9b777A".encode(),
    "\u202egnp.exe".encode(),
    "\u2066\u200f".encode(),
    "\ufffe\uffff".encode(),
    "\U0010ffff".encode(),
    "e\u0301".encode(),  # NFD, beside NFC
    "\u00e9".encode(),
    "\u1100\u1161".encode(),
    "\uac00".encode(),
    "\u212b".encode(),
    "\u00c5".encode(),
    b"\x7f" * 9,
    b"x" * LONGEST,
    b"\xff" * LONGEST,  # three times as long in a key
    b"%80" * (LONGEST // 3),  # five thirds as long
)


def hostile(count: int, seed: int = 1) -> list[bytes]:
    """That many different names: those above, all single bytes, and random ones."""
    singles = (bytes([value]) for value in range(1, 256) if value not in (*FORBIDDEN, ord(".")))
    found = dict.fromkeys((*BY_HAND, *singles))
    source = random.Random(seed)
    while len(found) < count:
        name = _random(source)
        if name not in (b"", b".", b".."):
            found[name] = None
    return list(found)[:count]


def _random(source: random.Random) -> bytes:
    """Of any bytes, of text in a random form, of what steers terminals, or of what looks like an escape."""
    length = source.choice((1, 2, 5, 20, 60, LONGEST))
    match source.randrange(4):
        case 0:
            raw = source.randbytes(length)
        case 1:
            starts = (0x41, 0xE9, 0x301, 0x1100, 0x200B, 0x1F600)
            text = "".join(chr(source.choice(starts) + source.randrange(9)) for _ in range(length))
            raw = unicodedata.normalize(source.choice(("NFC", "NFD")), text).encode()
        case 2:
            pieces = (b"\x1b", b"[777m", b"\n", b"\r", b"\x9b", b"\x07", b"-", b"\xe2\x80\xae", MARK.encode())
            raw = b"".join(source.choice(pieces) for _ in range(length))
        case _:
            raw = b"".join(source.choice((b"%", b"2", b"5", b"F", b"8", b"\xff", b"a")) for _ in range(length))
    return raw[:LONGEST].translate(None, FORBIDDEN)


def written(directory: str, names: Sequence[bytes]) -> None:
    """A file for each name, with the name in it."""
    os.makedirs(directory)
    for name in names:
        with open(os.path.join(os.fsencode(directory), name), "wb") as file:
            file.write(name)


def _environment(directory: str, judge: Judge) -> dict[str, str]:
    env = {**clean_environment(os.path.join(directory, "home")), **judge.env, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    return {**env, "JETTY_DATA_DIR": os.path.join(directory, "data")}


async def _round(directory: str, names: Sequence[bytes]) -> list[str]:
    source = os.path.join(directory, "source")
    written(source, names)
    judge = await Judge(keep=LONGEST).open()
    try:
        args = ["upload", "-r", source, "s3://bucket/"]
        ended = await run(args, _environment(directory, judge), os.path.join(directory, "run"), DEADLINE)
    finally:
        await judge.shut()
    if ended.status != 0:
        return [f"exit {ended.status}: {ended.said.strip()[-500:]}"]
    return [*_differences(names, {key: stored.content for key, stored in judge.shelf.objects.items()})]


def _differences(names: Sequence[bytes], stored: Mapping[str, bytes | None]) -> Iterator[str]:
    """What did not come back as it was."""
    back = {}
    for key, content in stored.items():
        back[os.fsencode(name_from_key(key))] = content
        if content is not None and _is_plain(content) and key != content.decode():
            yield f"{content!r} needs no escape, and became {key!r}"
        if any("\ud800" <= c <= "\udfff" for c in key):
            yield f"{content!r} became a key that is not UTF-8: {key!r}"
    for name in names:
        if back.get(name) != name:
            yield f"{name!r} came back as {back.get(name)!r}"
    if len(stored) != len(names):
        yield f"{len(stored)} keys of {len(names)} names"


def _is_plain(name: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        return "%" not in name.decode()
    return False


def round_trip(names: Sequence[bytes]) -> list[str]:
    """Upload files of these names to a judge; what did not come back as it was."""
    directory = tempfile.mkdtemp(prefix="jettyctl-names-")
    try:
        return asyncio.run(_round(directory, names))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def raw_on_terminal(names: Sequence[bytes]) -> tuple[list[str], int]:
    """Upload them at a terminal: all of them, once more, and with failures. What was printed raw, and how many bytes in all."""
    directory = tempfile.mkdtemp(prefix="jettyctl-names-")
    try:
        source = os.path.join(directory, "source")
        written(source, names)
        with JudgeThread() as judge:
            env = _environment(directory, judge)
            every = [os.path.join(os.fsencode(source), name) for name in names[:200]]
            outputs = [
                on_terminal(["upload", "-r", "-vv", source, "s3://bucket/"], env),
                on_terminal(["upload", "-vv", "--if-exists", "fail", "--", *every, "s3://bucket/"], env),
                on_terminal(["upload", "-vv", "--", *every, "s3://absent/"], env),
                on_terminal(["upload", "--", *(name + b"!" for name in every), "s3://bucket/"], env),
            ]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return [problem for output in outputs for problem in raw(output)], sum(map(len, outputs))


def on_terminal(args: Sequence[str | bytes], env: Mapping[str, str]) -> bytes:
    """Everything that a run writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen([sys.executable, "-m", "jettyctl", *args], env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output, began = b"", time.monotonic()
    with contextlib.suppress(OSError):  # the end, as Linux says it
        while time.monotonic() - began < DEADLINE and (data := os.read(ours, 1 << 16)):
            output += data
    os.close(ours)
    process.wait(DEADLINE)
    return output


def raw(output: bytes) -> Iterator[str]:
    """What no name may bring to a terminal."""
    text = OURS.sub(b"", output).decode("utf-8", "surrogateescape")
    for found in RAW.finditer(text):
        yield f"{found[0]!r} in {text[max(0, found.start() - 40) : found.end() + 20]!r}"
    if any(0xDC80 <= ord(c) <= 0xDCFF for c in text):
        yield "bytes that are not UTF-8"
    if re.search(rf"[\r\n]{MARK}", text):
        yield "a line break in a name was printed as one"


def figures() -> list[Figure]:
    """The rows of the report."""
    names = hostile(COUNT)
    different = round_trip(names)
    printed, size = raw_on_terminal(names)
    got = f"{len(names)} names, {len(different)} differ"
    shown = f"{len(printed)} in {size / 1e6:.1f} MB of output"
    return [
        Figure("Hostile names round-tripped", f"{COUNT:,}, keys and bytes equal", got, not different, tuple(different[:20])),
        Figure("Raw control bytes of names on a terminal", "0", shown, not printed and size > 0, tuple(printed[:20])),
    ]

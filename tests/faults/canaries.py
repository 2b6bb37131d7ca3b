"""Secrets that are canaries: runs as loud as they get, well and failing, and a search of all that they leave behind.

What is searched: both outputs, and every file below the run's directories: the journal and its side files, the cache of
hashes, the configuration, whatever was made in the working directory. Of processes also their arguments, as others see them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.faults.figures import Figure
from tests.faults.running import run
from tests.faults.trial import MIB
from tests.support.judge import KINDS, Cell, Judge, JudgeThread
from tests.support.judge.signature import Key
from tests.support.running import clean_environment, random_file
from tests.support.servers import free_port

ACCESS = "AKIACANARYCANARY0001"
SECRET = "canary/secret+key=of-nobody-0123456789ab"
TOKEN = "canary-session-token/+==" + "t0k3n" * 20
API_KEY = "jty_canary0123456789abcdefghijklmnopqrstuvwxyzABCDEF"
PASSWORD = "canary-password-in-an-address"  # of a proxy or an endpoint
SECRETS = (SECRET, TOKEN, API_KEY, PASSWORD)
SIGNATURE = re.compile(rb"Signature=\s*[0-9a-fA-F]{8}|AWS4-HMAC-SHA256 Credential")
OPERATIONS = ("head", "create", "part", "complete", "put", "list_parts", "abort")
AT_ONCE, WAITING = 4, 32  # runs at the same time: those that work, and those that wait
CHUNK = 5 * MIB
BIG, SMALL = CHUNK + 100_000, 150_000  # bytes
DEADLINE = 90.0  # seconds
LOUD = ("-vv",), ("-vv", "--json")


def _forms(secret: str) -> Iterator[bytes]:
    """A secret, and how it would look in an address, in XML or JSON, in base64."""
    raw = secret.encode()
    yield raw
    yield quote(secret, safe="").encode()
    yield base64.b64encode(raw).rstrip(b"=")
    yield secret.replace("/", "\\/").encode()


NEEDLES = tuple(dict.fromkeys(form for secret in SECRETS for form in _forms(secret)))


def hits(where: str, content: bytes) -> Iterator[str]:
    """The secrets in some bytes. They are not repeated."""
    for needle in NEEDLES:
        if needle in content:
            yield f"{where}: a secret, {content.count(needle)} times"
    if SIGNATURE.search(content):
        yield f"{where}: a signature"


@dataclass(slots=True)
class Search:
    """What was found, and how much was looked at."""

    found: list[str] = field(default_factory=list)
    runs: int = 0
    files: int = 0
    size: int = 0

    def below(self, name: str, directory: str) -> None:
        """All files of a run."""
        self.runs += 1
        for parent, _, names in os.walk(directory):
            for each in names:
                with contextlib.suppress(FileNotFoundError), open(os.path.join(parent, each), "rb") as file:
                    self.look(f"{name}: {each}", file.read())

    def look(self, where: str, content: bytes) -> None:
        self.files += 1
        self.size += len(content)
        self.found += hits(where, content)


def environment(directory: str, judge: Judge) -> dict[str, str]:
    """With all canaries in it, and everything told that can be."""
    env = {**clean_environment(os.path.join(directory, "home")), **judge.env}
    loud = {"JETTY_DEBUG": "1", "PYTHONFAULTHANDLER": "1"}
    return {
        **env,
        **loud,
        "JETTY_DATA_DIR": os.path.join(directory, "data"),
        "AWS_SESSION_TOKEN": TOKEN,
        "JETTY_API_KEY": API_KEY,
    }


def keys() -> dict[str, Key]:
    """The only key that the judge takes."""
    return {ACCESS: Key(SECRET, TOKEN)}


async def _cell(search: Search, top: str, kind: str, op: str, number: int) -> None:
    """One kind of fault at one operation, and the same command once more without."""
    directory = os.path.join(top, f"{kind}-{op}")
    judge = await Judge(keys=keys()).open()
    try:
        env = environment(directory, judge)
        loud = LOUD[number % 2]
        file = os.path.join(top, "small" if op == "put" else "big")
        args = ["upload", *loud, "--chunk-size", str(CHUNK), file, "s3://bucket/key"]
        if op in ("list_parts", "abort"):
            judge.schedule = Cell(1, "expired", "part", "key", part=2)
            await run(args, env, os.path.join(directory, "before"), DEADLINE)
        judge.schedule = Cell(1, kind, op, "key", times=1 if KINDS[kind].slow else 2)
        again = ["--restart"] if op == "abort" else []
        for name in ("run", "again"):
            await run([*args, *again], env, os.path.join(directory, name), DEADLINE)
            search.runs += 1
        await run(["sessions", "list", *(loud[1:])], env, os.path.join(directory, "sessions"), DEADLINE)
    finally:
        await judge.shut()
    search.below(f"{kind} x {op}", directory)
    shutil.rmtree(directory)


async def _matrix(search: Search, top: str, kinds: Sequence[str], operations: Sequence[str]) -> None:
    working, waiting = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(WAITING)

    async def one(number: int, kind: str, op: str) -> None:
        async with waiting if KINDS[kind].slow else working:
            await _cell(search, top, kind, op, number)

    cells = [(kind, op) for kind in kinds for op in operations if KINDS[kind].befalls(op)]
    await asyncio.gather(*(one(number, *cell) for number, cell in enumerate(cells)))


def _failing(top: str, judge: Judge) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """What users do wrong, and what goes wrong around them: name, arguments, changes of the environment."""
    big, closed = os.path.join(top, "big"), free_port()
    yield "well", ["upload", big, "s3://bucket/well"], {}
    yield "wrong secret", ["upload", big, "s3://bucket/a"], {"AWS_ACCESS_KEY_ID": "AKIASOMEBODYELSE0000"}
    yield "wrong token", ["upload", big, "s3://bucket/a"], {"AWS_SESSION_TOKEN": TOKEN + "x"}
    yield "spoilt secret", ["upload", big, "s3://bucket/a"], {"AWS_SECRET_ACCESS_KEY": SECRET + "x"}
    yield "no header", ["upload", big, "s3://bucket/a"], {"AWS_SESSION_TOKEN": TOKEN + "\nx: y"}
    yield "no ASCII", ["upload", big, "s3://bucket/a"], {"AWS_SECRET_ACCESS_KEY": SECRET + "\u00e9"}
    yield "closed port", ["upload", big, "s3://bucket/a"], {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{closed}"}
    yield "endpoint", ["upload", big, "s3://bucket/a"], {"AWS_ENDPOINT_URL_S3": f"http://me:{PASSWORD}@127.0.0.1:{closed}"}
    proxy = f"http://me:{PASSWORD}@127.0.0.1:{closed}"
    yield "proxy", ["upload", big, "s3://bucket/a"], {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "", "no_proxy": ""}
    yield "no plane", ["upload", big, f"jetty://127.0.0.1:{closed}/a"], {}
    yield "no plane there", ["upload", big, "jetty:a"], {"JETTY_CONTROL": judge.endpoint}
    yield "bad API key", ["upload", big, "jetty:a"], {"JETTY_CONTROL": judge.endpoint, "JETTY_API_KEY": f"two words {API_KEY}"}
    yield "settings", ["config", "list", "--all"], {}
    yield "sessions", ["sessions", "list", "--json"], {}
    yield "verify", ["verify", big, "s3://bucket/well", "-vv"], {}


def _processes(search: Search, top: str) -> None:
    """Real processes, whose arguments are looked at while they run; one of them dies with a traceback of all its threads."""
    directory = os.path.join(top, "processes")
    with JudgeThread(keys=keys(), keep=BIG) as judge:
        env = environment(directory, judge)
        for name, args, changes in _failing(top, judge):
            loud = ["-vv", "--json"] if args[0] == "upload" else []
            _process(search, name, [*args, *loud], {**env, **changes})
        slow = ["upload", "-vv", "--limit-rate", "1MiB/s", os.path.join(top, "big"), "s3://bucket/slow"]
        said = _process(search, "aborted", slow, env, signal.SIGABRT)
        if b"most recent call first" not in said:
            search.found.append("the run that was to die with a traceback showed none")
    search.below("processes", directory)


def _process(search: Search, name: str, args: Sequence[str], env: Mapping[str, str], number: int | None = None) -> bytes:
    """One run to its end, or to the signal `number` after a second; what it said."""
    search.runs += 1
    command = [sys.executable, "-m", "jettyctl", *args]
    process = subprocess.Popen(command, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < (1.5 if number else 0.5):
        for pid in (process.pid, *_children(process.pid)):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                search.look(f"{name}: arguments", file.read())
        time.sleep(0.1)
    if number:
        process.send_signal(number)
    try:
        said = process.communicate(timeout=6)[0]
    except subprocess.TimeoutExpired:  # it tries again for minutes: it has said what it says
        process.kill()
        said = process.communicate()[0]
    search.look(f"{name}: output", said)
    return said


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]
    return []


def searched(kinds: Sequence[str], operations: Sequence[str] = OPERATIONS, *, processes: bool = True) -> Search:
    """Run it all and search."""
    search, top = Search(), tempfile.mkdtemp(prefix="jettyctl-canaries-")
    try:
        random_file(os.path.join(top, "big"), BIG, seed=1)
        random_file(os.path.join(top, "small"), SMALL, seed=2)
        asyncio.run(_matrix(search, top, kinds, operations))
        if processes:
            _processes(search, top)
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return search


def figures() -> list[Figure]:
    """The rows of the report."""
    search = searched(list(KINDS))
    got = f"{len(search.found)} in {search.runs} runs, {search.files} files and outputs ({search.size / 1e6:.0f} MB)"
    return [Figure("Secret canary hits", "0", got, not search.found and search.runs > 100, tuple(search.found[:20]))]

"""What a benchmark stands on: the file, the server, and a directory that holds both."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import subprocess
import time

from tests.bench.cases import MIB, Case
from tests.support.servers import Server

HERE = os.path.dirname(os.path.abspath(__file__))
WAN = os.path.join(HERE, "wan", "wan")
SOURCE = os.path.join(HERE, "s3null.c")
ISLAND = 64 * MIB  # of random bytes, in every GiB of a sparse file


def cache_directory() -> str:
    """Where compiled servers are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.join(base, "jettyctl-bench")
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def null_server() -> str:
    """The path of the compiled s3null; compiled once per version of its source."""
    with open(SOURCE, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()[:16]
    binary = os.path.join(cache_directory(), f"s3null-{digest}")
    if not os.path.exists(binary):
        partial = f"{binary}.{os.getpid()}"
        compiler = shlex.split(os.environ.get("CC", "cc"))
        subprocess.run([*compiler, "-O2", "-o", partial, SOURCE], check=True)
        os.replace(partial, binary)
    return binary


class NullServer(Server):
    """s3null on loopback."""

    def command(self) -> list[str]:
        return [null_server(), str(self.port)]


class WanServer(Server):
    """s3null behind the emulator. Every run starts its own, so there is no process here."""

    @property
    def endpoint(self) -> str:
        return f"http://10.99.0.2:{self.port}"

    def start(self) -> WanServer:
        null_server()
        self.port = 9000  # in a namespace of its own, where nothing else listens
        return self

    def close(self) -> None:
        """Nothing runs."""

    def wrap(self, case: Case, command: list[str]) -> list[str]:
        server = shlex.join([null_server(), str(self.port), "any"])
        return [WAN, "run", *case.wan, "--server", server, "--wait-port", str(self.port), "--", *command]


def make_file(path: str, case: Case) -> None:
    """The case's file, in the page cache afterwards. Its bytes depend on its size only.

    It is an hour old: clients that compare times send a file again if it changed in the second of its upload.
    """
    source = random.Random(case.size)
    step = 1024 * MIB if case.sparse else ISLAND
    with open(path, "wb") as file:
        file.truncate(case.size)
        for offset in range(0, case.size, step):
            file.seek(offset)
            end = min(offset + ISLAND, case.size)
            for at in range(offset, end, MIB):
                file.write(source.randbytes(min(MIB, end - at)))
    os.utime(path, (time.time() - 3600,) * 2)

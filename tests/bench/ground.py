"""What a benchmark stands on: the files, and the server."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping

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


def compiled(source: str, *options: str) -> str:
    """The path of the program that a C file makes; compiled once per version of it. Raises CalledProcessError."""
    with open(source, "rb") as file:
        digest = hashlib.sha256(file.read() + repr(options).encode()).hexdigest()[:16]
    name = os.path.basename(source).removesuffix(".c")
    binary = os.path.join(cache_directory(), f"{name}-{digest}")
    if not os.path.exists(binary):
        partial = f"{binary}.{os.getpid()}"
        compiler = shlex.split(os.environ.get("CC", "cc"))
        subprocess.run([*compiler, "-O2", "-o", partial, source, *options], check=True)
        os.replace(partial, binary)
    return binary


def null_server() -> str:
    """The path of the compiled s3null."""
    return compiled(SOURCE)


def no_emulator() -> str | None:
    """Why the network emulator cannot run here."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the network emulator needs root on Linux"
    if not os.path.exists("/dev/net/tun") or shutil.which("ip") is None:
        return "the network emulator needs /dev/net/tun and iproute2"
    return None


class NullServer(Server):
    """s3null on loopback."""

    def command(self) -> list[str]:
        return [null_server(), str(self.port)]

    @property
    def counts_url(self) -> str:
        """Where it tells what it took; always plain."""
        return f"http://127.0.0.1:{self.port}"


class WanServer(Server):
    """s3null behind the emulator. Every run starts its own, so there is no process here."""

    @property
    def endpoint(self) -> str:
        return f"http://10.99.0.2:{self.port}"

    @property
    def counts_url(self) -> str:
        return self.endpoint

    def start(self) -> WanServer:
        null_server()
        self.port = 9000  # in a namespace of its own, where nothing else listens
        return self

    def close(self) -> None:
        """Nothing runs."""

    def wrap(self, case: Case, command: list[str], env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """The command behind the emulator, and the emulator's own environment: its program is kept where the null server's is."""
        inside = ["env", f"XDG_CACHE_HOME={env['XDG_CACHE_HOME']}", *command]
        server = shlex.join([null_server(), str(self.port), "any"])
        launch = [WAN, "run", *case.wan, "--server", server, "--wait-port", str(self.port), "--", *inside]
        return launch, {**env, "XDG_CACHE_HOME": os.path.dirname(cache_directory())}


def make_files(path: str, case: Case) -> None:
    """The case's file, or its directory of many, in the page cache afterwards. Their bytes depend on the case only.

    They are an hour old: clients that compare times send a file again if it changed in the second of its upload.
    """
    if case.files == 1:
        _make_file(path, case, random.Random(case.size))
        return
    source = random.Random(case.files)
    for number in range(case.files):
        folder = os.path.join(path, f"{number % case.folders:02}")
        os.makedirs(folder, exist_ok=True)
        _make_file(os.path.join(folder, f"{number:05}.bin"), case, source)


def _make_file(path: str, case: Case, source: random.Random) -> None:
    step = 1024 * MIB if case.sparse else ISLAND
    with open(path, "w+b") as file:
        file.truncate(case.size)
        for offset in range(0, case.size, step):
            file.seek(offset)
            end = min(offset + ISLAND, case.size)
            for at in range(offset, end, MIB):
                file.write(source.randbytes(min(MIB, end - at)))
        if case.sparse:  # holes come into the page cache by being read; else the first client would pay for that
            file.seek(0)
            while file.read(ISLAND):
                pass
    os.utime(path, (time.time() - 3600,) * 2)

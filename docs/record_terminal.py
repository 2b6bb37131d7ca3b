"""Makes docs/upload.svg from a real run: an upload that is interrupted with Ctrl-C, and the same command again.

    python docs/record_terminal.py

Needs the `test` extra (for `rclone serve s3`) and a POSIX system.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.text import Text

from tests.support.running import clean_environment, random_file
from tests.support.servers import RcloneServer

WIDTH = 118
COMMAND = ["jettyctl", "upload", "disk.img", "s3://bucket/images/", "--limit-rate", "60MB/s"]


def run(directory: Path, environment: dict[str, str], interrupt_after: float | None) -> str:
    """The terminal's output of one run; the live line is kept as it stood when it was last drawn."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.execve(sys.executable, [sys.executable, "-m", "jettyctl", *COMMAND[1:]], environment)  # noqa: S606 - that is the point
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    output, end = b"", time.monotonic() + (interrupt_after or 1e9)
    while True:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGINT)
            end = 1e18
        try:
            output += os.read(fd, 65536)
        except OSError:
            break
    os.waitpid(pid, 0)
    return transcript(output.decode())


def transcript(output: str) -> str:
    """Plain lines, with one drawing of the live line, about the last but few, where it stood."""
    lines = [line for line in re.split(r"(?:\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh]|[\r\n])+", output) if line.strip()]
    bars = [line for line in lines if "━" in line]
    kept = bars[int(len(bars) * 0.8)] if bars else ""
    first = next((number for number, line in enumerate(lines) if line == kept), 0)
    return "\n".join(line for number, line in enumerate(lines) if "━" not in line or number == first)


def main() -> None:
    """Record, and write the picture."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        random_file(directory / "disk.img", 256 << 20)
        (directory / "buckets").mkdir()
        with RcloneServer(directory / "buckets") as server:
            environment = {**clean_environment(directory), **server.env, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
            environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
            first = run(directory, environment, 2.5)
            second = run(directory, environment, None)
    prompt = f"\x1b[1;32m$\x1b[0m {' '.join(COMMAND)}"
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: SIM115 - closed with the process
    console.print(Text.from_ansi(f"{prompt}\n{first}\n\n{prompt}\n{second}"))
    console.save_svg(str(Path(__file__).with_name("upload.svg")), title="jettyctl")


if __name__ == "__main__":
    main()

"""Run a command and print what it cost as JSON. A program of its own, for two reasons.

Linux counts the memory of the process that a child was started from into the child's peak: started from a large Python
process, every client would look large. And with the emulator, this runs inside the client's network namespace.

    python -I -S launcher.py LOG [COUNTS-URL] -- COMMAND [ARG...]

With COUNTS-URL, what the command added to the counts of a null server is reported too: `stored`, a list of objects, their
bytes, and the bytes of bodies that came.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> int:
    split = sys.argv.index("--")
    log, command = sys.argv[1], sys.argv[split + 1 :]
    url = sys.argv[2] if split == 3 else None
    before = counts(url) if url else []
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    actions = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    begun = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    cost = {
        "wall": time.perf_counter() - begun,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": usage.ru_maxrss * 1024,  # of the largest single process
        "status": os.waitstatus_to_exitcode(status),
        "stored": [now - then for now, then in zip(counts(url), before, strict=True)] if url else None,
    }
    import json

    print(json.dumps(cost))
    return 0


def counts(url: str) -> list[int]:
    """Over a plain socket: an HTTP library would be memory that the client's peak starts from."""
    import socket

    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET /?counts HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        reply = connection.recv(4096).decode()
    return [int(number) for number in reply.rpartition("\r\n\r\n")[2].split()]


if __name__ == "__main__":
    sys.exit(main())

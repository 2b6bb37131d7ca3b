"""Run a command and print what it cost as JSON. A program of its own, for two reasons.

Linux counts the memory of the process that a child was started from into the child's peak: started from a large Python
process, every client would look large. And with the emulator, this runs inside the client's network namespace.

    python -I -S launcher.py LOG [HEAD-URL] -- COMMAND [ARG...]

With HEAD-URL, the object's size at a server that checks no signatures is reported too.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> int:
    split = sys.argv.index("--")
    log, command = sys.argv[1], sys.argv[split + 1 :]
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
        "stored": stored_size(sys.argv[2]) if split == 3 else None,
    }
    import json

    print(json.dumps(cost))
    return 0


def stored_size(url: str) -> int | None:
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("HEAD", parts.path)
    reply = connection.getresponse()
    return int(reply.headers["Content-Length"]) if reply.status == 200 else None


if __name__ == "__main__":
    sys.exit(main())

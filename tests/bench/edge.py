"""How much one core of an edge passes on loopback: `python -m tests.bench.edge`.

The origin drops what it gets (s3null), the client sends the same block again and again; both run on other cores than the
edge where the machine has them. So the figure is the edge's own, as far as the kernel's loopback allows.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.bench.ground import NullServer

MIB = 1 << 20
PART = 64 * MIB
STREAMS = 4
SECONDS = 6.0
QUERY = f"partNumber=1&uploadId=u1&X-Amz-Signature={'a' * 64}"
Header = Callable[[], str]


def main() -> None:
    """Print a line for each case."""
    cores = sorted(os.sched_getaffinity(0))
    edge_core, others = {cores[-1]}, set(cores[:-1]) or set(cores)
    os.sched_setaffinity(0, others)
    sum_ = base64.b64encode(hashlib.sha256(bytes(PART)).digest()).decode()
    with NullServer() as origin, running_edge(origin.endpoint, edge_core) as (port, process):
        host = origin.endpoint.removeprefix("http://")
        for name, header in (("plain", ""), ("Content-Digest sha-256", f"Content-Digest: sha-256=:{sum_}:\r\n")):
            gigabits, share = measure(port, process.pid, host, header)
            print(f"{name:24} {gigabits:6.2f} Gbit/s   edge CPU {share:4.0%} of one core")


@contextmanager
def running_edge(origin: str, cores: set[int]) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """An edge as a process, and its port."""
    command = [sys.executable, "-m", "jettyctl", "edge", "--origin", origin, "--listen", "127.0.0.1:0", "--quiet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        os.sched_setaffinity(process.pid, cores)
        assert process.stderr is not None
        yield int(process.stderr.readline().split(" for ")[0].rpartition(":")[2]), process
        process.terminate()


def measure(port: int, pid: int, host: str, header: str) -> tuple[float, float]:
    """Gbit/s of all streams together, and the edge's share of its core."""
    ends = time.monotonic() + SECONDS
    counts = [0] * STREAMS
    threads = [threading.Thread(target=push, args=(port, host, header, ends, counts, n)) for n in range(STREAMS)]
    began, before = time.monotonic(), cpu_seconds(pid)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    return sum(counts) * PART * 8 / seconds / 1e9, (cpu_seconds(pid) - before) / seconds


def push(port: int, host: str, header: str, ends: float, counts: list[int], number: int) -> None:
    """Send parts over one connection until the time is up."""
    head = f"PUT /bucket/key?{QUERY} HTTP/1.1\r\nHost: {host}\r\n{header}Content-Length: {PART}\r\n\r\n".encode()
    block = bytes(MIB)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        while time.monotonic() < ends:
            sock.sendall(head)
            for _ in range(PART // MIB):
                sock.sendall(block)
            answer = sock.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            counts[number] += 1


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()

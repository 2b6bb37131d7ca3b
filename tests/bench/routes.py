"""`python -m tests.bench.routes`: one file over several routes at once, beside what each route reaches alone.

Behind the network emulator (root on Linux, a C compiler): a server that keeps nothing (`s3null`) and can be reached
straight on a slow path, and an edge on each of three other paths. Each route is first measured alone, with uploads straight to
the server over its path; the sum is what all of them together can reach at most.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from statistics import median

from tests.bench.ground import WAN, null_server
from tests.support.running import clean_environment, random_file
from tests.support.servers import ACCESS_KEY, SECRET_KEY

MIB = 1 << 20
PORT, EDGE_PORT = 9000, 53777


@dataclass(frozen=True, slots=True)
class Path:
    """A path of the emulator: round trip in ms, rate in Mbit/s, and whether an edge stands at its end."""

    name: str
    delay: float
    rate: float
    edge: bool

    @property
    def option(self) -> str:
        return f"{self.name}:delay={self.delay / 2},rate={self.rate}"


SETUPS = {
    "unequal": (
        Path("near", 20, 40, True),
        Path("mid", 60, 80, True),
        Path("far", 120, 20, True),
        Path("direct", 80, 10, False),
    ),
    "good-direct": (
        Path("bad1", 200, 5, True),
        Path("bad2", 250, 3, True),
        Path("bad3", 300, 2, True),
        Path("direct", 40, 100, False),
    ),
}


def address(paths: tuple[Path, ...], path: Path) -> str:
    """The server's address on a path: the emulator counts them from 1."""
    return f"10.99.{paths.index(path) + 1}.2"


def servers(paths: tuple[Path, ...]) -> str:
    """The shell line that runs in the server's namespace: the store, and the edges."""
    direct = address(paths, paths[-1])
    store = f"{null_server()} {PORT} any"
    origin = f"http://{direct}:{PORT}"
    edges = [
        f"{shlex.quote(sys.executable)} -m jettyctl edge --quiet --origin {origin} --listen {address(paths, path)}:{EDGE_PORT}"
        for path in paths
        if path.edge
    ]
    return "sh -c " + shlex.quote(" & ".join([*edges, f"exec {store}"]))


def client(paths: tuple[Path, ...], directory: str, runs: int) -> None:
    """Runs in the client's namespace: measure each route alone, then all together, and print one JSON object."""
    direct = f"http://{address(paths, paths[-1])}:{PORT}"
    rates: dict[str, list[float]] = {}
    for path in paths:
        if path.edge:
            run(directory, "edges", "add", path.name, f"http://{address(paths, path)}:{EDGE_PORT}")
    for number in range(runs):
        for path in paths:
            seconds = max(6.0, 2 * path.delay / 1000 * 20)
            size = int(path.rate * 1e6 / 8 * seconds) // MIB * MIB
            endpoint = f"http://{address(paths, path)}:{PORT}"
            rates.setdefault(path.name, []).append(upload(directory, size, f"{path.name}-{number}", endpoint, "--no-edges"))
        size = 256 * MIB
        rates.setdefault("all", []).append(upload(directory, size, f"all-{number}", direct, show=True))
        if paths[-1].rate >= 50:
            rates.setdefault("direct alone, the same file", []).append(
                upload(directory, size, f"alone-{number}", direct, "--no-edges")
            )
    print("RESULT " + json.dumps(rates), flush=True)


def upload(directory: str, size: int, key: str, endpoint: str, *options: str, show: bool = False) -> float:
    """Megabits a second of one upload."""
    file = os.path.join(directory, f"file-{size}")
    if not os.path.exists(file):
        random_file(file, size)
    command = ("upload", file, f"s3://bucket/{key}", "--endpoint-url", endpoint, "--json", "--no-progress", *options)
    command += ("--checksum", "md5")  # the server verifies nothing, and edges are not used where that is so
    lines = [json.loads(line) for line in run(directory, *command).splitlines()]
    (result,) = [line for line in lines if line["type"] == "result"]
    if show:
        for route in lines[-1]["routes"]:
            print(f"    {route}", flush=True)
    return size * 8 / 1e6 / float(result["seconds"])


def run(directory: str, *arguments: str) -> str:
    environment = {**clean_environment(directory), "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    environment["AWS_REGION"] = "us-east-1"
    done = subprocess.run(
        [sys.executable, "-m", "jettyctl", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"jettyctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def report(paths: tuple[Path, ...], rates: dict[str, list[float]]) -> None:
    """The table: medians, and what all together reach of the sum."""
    total = 0.0
    for path in paths:
        alone = median(rates[path.name])
        total += alone
        print(f"  {path.name:8} {path.delay:5.0f} ms {path.rate:5.0f} Mbit/s   alone {alone:7.1f} Mbit/s")
    together = median(rates["all"])
    print(f"  together {together:7.1f} Mbit/s of {total:.1f}: {100 * together / total:.1f} %")
    for name, values in rates.items():
        if name.startswith("direct alone"):
            alone = median(values)
            print(f"  {name}: {alone:.1f} Mbit/s; with the bad edges {together / alone:.3f} times that")


def main() -> int:
    """Measure each set-up and print its table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.routes", description=__doc__)
    parser.add_argument("--setup", choices=list(SETUPS), action="append")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--client", metavar="DIRECTORY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.setup or list(SETUPS)
    if options.client:
        client(SETUPS[names[0]], options.client, options.runs)
        return 0
    if os.geteuid() != 0:
        print("needs root, for the network namespaces of the emulator")
        return 1
    for name in names:
        paths = SETUPS[name]
        with tempfile.TemporaryDirectory() as directory:
            own = f"{shlex.quote(sys.executable)} -m tests.bench.routes --setup {name} --runs {options.runs} --client {directory}"
            command = [WAN, "run", "--paths", ";".join(path.option for path in paths), "--queue-ms", "60"]
            command += ["--server", servers(paths), "--wait-port", str(PORT), "--", "sh", "-c", own]
            print(f"{name}:", flush=True)
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith("RESULT "):
                        report(paths, json.loads(line[7:]))
                    else:
                        print(line, end="", flush=True)
            if process.returncode:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.bench`: jettyctl beside other clients on this machine. Needs a C compiler.

`python -m tests.bench server` puts the control plane under load instead. Run it on an idle machine: the clients and the
server share its cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from statistics import median

from tests.bench.cases import CASES, MIB, Case, chosen
from tests.bench.measure import RunFailedError, Sample, compare
from tests.bench.peers import Peer, installed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = ", ".join(case.name for case in CASES)
    parser.add_argument("--case", action="append", default=[], help=f"a case, or the beginning of its name: {names}")
    parser.add_argument("--tools", default="", help="only these clients, with commas between: jettyctl,s5cmd,rclone,aws")
    parser.add_argument("--runs", type=int, default=5, help="runs of each client (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write every sample there")
    parser.add_argument("--directory", help="where to write the files that are uploaded (default: the system's choice)")
    return parser.parse_args()


def pick_peers(wanted: str) -> list[Peer]:
    """The clients to compare; says which are left out because they are not installed."""
    present, absent = installed()
    names = [name for name in wanted.split(",") if name] or [*present, *absent]
    unknown = set(names) - {*present, *absent}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    for name in names:
        if name in absent:
            print(f"{name}: not installed, skipped")
    return [present[name] for name in names if name in present]


def fit(case: Case, peers: list[Peer]) -> list[Peer]:
    """Those that can do what the case asks."""
    return [peer for peer in peers if case.kind != "again" or peer.again]


def print_table(case: Case, samples: dict[str, list[Sample]]) -> None:
    print(f"\n{case.name}: {case.about} ({len(next(iter(samples.values())))} runs each, medians)")
    print(f"{'':10}{'wall s':>9}{'min':>8}{'max':>8}{'ratio':>7}{'CPU s':>9}{'ratio':>7}{'peak MiB':>10}{'ratio':>7}")
    for name, taken in samples.items():
        wall, cpu, rss = ((*_against(samples, name, pick),) for pick in (_wall, _cpu, _rss))
        walls = sorted(map(_wall, taken))
        print(
            f"{name:10}{wall[0]:9.3f}{walls[0]:8.3f}{walls[-1]:8.3f}{wall[1]:>7}"
            f"{cpu[0]:9.3f}{cpu[1]:>7}{rss[0]:10.1f}{rss[1]:>7}{_bound(case, name, taken)}"
        )


def _wall(sample: Sample) -> float:
    return sample.wall


def _cpu(sample: Sample) -> float:
    return sample.cpu


def _rss(sample: Sample) -> float:
    return sample.rss / MIB


def _against(samples: dict[str, list[Sample]], name: str, pick: Callable[[Sample], float]) -> tuple[float, str]:
    """A client's median, and how many times the best other client's it is."""
    own = median(map(pick, samples[name]))
    others = [median(map(pick, taken)) for other, taken in samples.items() if other not in (name, "jettyctl")]
    return own, f"{own / min(others):.2f}" if others and min(others) > 0 else "-"


def _bound(case: Case, name: str, taken: list[Sample]) -> str:
    if name != "jettyctl" or case.rss_bound is None:
        return ""
    worst = max(sample.rss for sample in taken)
    verdict = "holds" if worst <= case.rss_bound else "BROKEN"
    return f"  worst {worst / MIB:.1f}, bound {case.rss_bound / MIB:.0f} MiB: {verdict}"


def main() -> int:
    if sys.argv[1:2] == ["server"]:
        from tests.bench.server import main as bench_server

        return bench_server(sys.argv[2:])
    options = arguments()
    try:
        cases, peers = chosen(options.case), pick_peers(options.tools)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if not peers or options.runs < 1:
        print("bench: nothing to run", file=sys.stderr)
        return 2
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}; ratio: to the best other client")
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="jettyctl-bench-", dir=options.directory) as directory:
        for case in cases:
            try:
                samples = compare(case, fit(case, peers), options.runs, directory)
            except RunFailedError as error:
                print(f"bench: {case.name}: {error}", file=sys.stderr)
                return 1
            print_table(case, samples)
            results[case.name] = {name: [asdict(sample) for sample in taken] for name, taken in samples.items()}
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

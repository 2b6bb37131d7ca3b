"""`python -m tests.bench`: jettyctl beside other clients on this machine. Needs a C compiler.

`python -m tests.bench server` puts the control plane under load instead. Run it on an idle machine: the clients and the
server share its cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict

from tests.bench.cases import CASES, Case, chosen
from tests.bench.measure import RunFailedError, compare, obstacle
from tests.bench.peers import Peer, installed
from tests.bench.samples import Sample
from tests.bench.tables import markdown, print_table
from tests.bench.verdicts import verdicts


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = ", ".join(case.name for case in CASES)
    parser.add_argument("--case", action="append", default=[], help=f"a case, or the beginning of its name: {names}")
    parser.add_argument("--tools", default="", help="only these clients, with commas between: jettyctl,s5cmd-tuned,curl")
    parser.add_argument("--runs", type=int, help="runs of each client (default: the case's own, mostly 5)")
    parser.add_argument("--json", metavar="FILE", help="write every sample there")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables there as Markdown")
    parser.add_argument("--directory", help="where to write the files that are uploaded (default: the system's choice)")
    return parser.parse_args()


def pick_peers(wanted: str) -> dict[str, Peer]:
    """The clients to compare, by name; says which are left out because they are not installed."""
    present, absent = installed()
    names = [name for name in wanted.split(",") if name] or [*present, *absent]
    unknown = set(names) - {*present, *absent}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join([*present, *absent])}")
    for name in names:
        if name in absent:
            print(f"{name}: not installed, left out")
    return {name: present[name] for name in names if name in present}


def pick_cases(names: list[str]) -> list[Case]:
    """The cases that can run here; says why others are left out."""
    cases = []
    for case in chosen(names):
        reason = obstacle(case)
        if reason:
            print(f"{case.name}: left out, {reason}")
        else:
            cases.append(case)
    return cases


def measured(options: argparse.Namespace, cases: list[Case], peers: dict[str, Peer]) -> dict[str, dict[str, list[Sample]]]:
    """Run the cases and print a table after each."""
    results: dict[str, dict[str, list[Sample]]] = {}
    with tempfile.TemporaryDirectory(prefix="jettyctl-bench-", dir=options.directory) as directory:
        for case in cases:
            clients = [peers[name] for name in case.clients if name in peers]
            if not clients:
                print(f"{case.name}: left out, none of its clients is wanted: {', '.join(case.clients)}")
                continue
            results[case.name] = compare(case, clients, options.runs or case.runs, directory)
            print_table(case, results)
            write(options, cases, results)
    return results


def write(options: argparse.Namespace, cases: list[Case], results: dict[str, dict[str, list[Sample]]]) -> None:
    """The files that were asked for. After each case: the whole takes hours."""
    if options.json:
        with open(options.json, "w") as file:
            raw = {case: {name: list(map(asdict, taken)) for name, taken in by.items()} for case, by in results.items()}
            json.dump(raw, file, indent=1)
    if options.markdown:
        with open(options.markdown, "w") as file:
            file.write(markdown([case for case in cases if case.name in results], results))


def main() -> int:
    if sys.argv[1:2] == ["server"]:
        from tests.bench.server import main as bench_server

        return bench_server(sys.argv[2:])
    options = arguments()
    try:
        peers, cases = pick_peers(options.tools), pick_cases(options.case)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if options.runs is not None and options.runs < 1:
        print("bench: nothing to run", file=sys.stderr)
        return 2
    print(f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, load {os.getloadavg()[0]:.2f}", flush=True)
    try:
        results = measured(options, cases, peers)
    except RunFailedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    missed = [
        case.name for case in cases if case.name in results and any(one.word == "MISSED" for one in verdicts(case, results))
    ]
    if results:
        print(f"\nmissed a target: {', '.join(missed)}" if missed else "\nno target missed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

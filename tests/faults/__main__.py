"""`python -m tests.faults --report` runs all proofs and prints the table; `--only matrix` runs one of them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict

from tests.faults.figures import LANES, MODULES, Figure, measured, replace_table, table


def main() -> int:
    """0 if every figure is reached, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Prove it.")
    parser.add_argument("--report", action="store_true", help="print the table (the default)")
    parser.add_argument("--only", choices=MODULES, action="append", help="run these proofs only, one after the other")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too, by the proofs that they are of")
    parser.add_argument("--markdown", metavar="FILE", help="put the table in place of the one that is there")
    args = parser.parse_args()
    found = _one_after_the_other(args.only) if args.only else _all()
    figures = [figure for name in MODULES for figure in found.get(name, [])]
    print(table(figures))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({name: [asdict(figure) for figure in of] for name, of in found.items()}, file, indent=1)
    if args.markdown:
        replace_table(args.markdown, figures)
    return 0 if all(figure.ok for figure in figures) else 1


def _one_after_the_other(names: Iterable[str]) -> dict[str, list[Figure]]:
    found = {}
    for name in names:
        began = time.monotonic()
        found[name] = measured(name).figures()
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def _all() -> dict[str, list[Figure]]:
    """The lanes beside each other. A lane that breaks off is an error here."""
    found: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory(prefix="jettyctl-report-") as directory:
        paths = [os.path.join(directory, str(number)) for number in range(len(LANES))]
        commands = [_command(lane, path) for lane, path in zip(LANES, paths, strict=True)]
        lanes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
        for lane in lanes:
            lane.wait()
        for path in paths:
            with open(path, encoding="utf-8") as file:
                found |= {name: [Figure(**row) for row in rows] for name, rows in json.load(file).items()}
    return found


def _command(lane: Iterable[str], path: str) -> list[str]:
    only = [word for name in lane for word in ("--only", name)]
    return [sys.executable, "-m", "tests.faults", *only, "--json", path]


if __name__ == "__main__":
    sys.exit(main())

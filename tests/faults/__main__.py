"""`python -m tests.faults --report` runs all proofs and prints the table; `--only matrix` runs one of them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from tests.faults.figures import MODULES, Figure, measured, replace_table, table


def main() -> int:
    """0 if every figure is reached, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Prove it.")
    parser.add_argument("--report", action="store_true", help="print the table (the default)")
    parser.add_argument("--only", choices=MODULES, action="append", help="run these proofs only")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--markdown", metavar="FILE", help="put the table in place of the one that is there")
    args = parser.parse_args()
    found: list[Figure] = []
    for name in args.only or MODULES:
        began = time.monotonic()
        found += measured(name).figures()
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(table(found))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump([asdict(figure) for figure in found], file, indent=1)
    if args.markdown:
        replace_table(args.markdown, found)
    return 0 if all(figure.ok for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())

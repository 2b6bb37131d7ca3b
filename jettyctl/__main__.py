"""The program's entry. The version is told before anything else is imported."""

from __future__ import annotations

import gc
import sys

# What is made in a start stays: looking for garbage among it, every 700 objects, takes a tenth of a short run.
OBJECTS = 50_000  # between two looks


def main() -> int:
    """Run the command line; the exit status."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        from jettyctl import __version__

        print(f"jettyctl {__version__}")  # noqa: T201 - the result of this command
        return 0
    gc.set_threshold(OBJECTS)
    from jettyctl.cli.app import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())

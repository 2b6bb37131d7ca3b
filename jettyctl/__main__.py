"""The program's entry. The version is told before anything else is imported."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; the exit status."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        from jettyctl import __version__

        print(f"jettyctl {__version__}")  # noqa: T201 - the result of this command
        return 0
    from jettyctl.cli.app import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""The program's entry. The version is told before anything else is imported."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def main() -> int:
    """Run the command line; the exit status."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        from jettyctl import __version__

        print(f"jettyctl {__version__}")  # noqa: T201 - the result of this command
        return 0
    from jettyctl.machine import fit_into_memory, look_for_garbage_seldom

    look_for_garbage_seldom()
    fit_into_memory()
    from jettyctl.cli.app import run

    return run(arguments)


def entry() -> None:
    """Run the command line and end the process. What is left then is memory, which the system takes back sooner than Python."""
    status = main()
    if sys.argv[1:2] in (["serve"], ["edge"]):  # servers clean up after themselves while the interpreter ends
        sys.exit(status)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or gone: that was told, or there is nobody to tell
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    entry()

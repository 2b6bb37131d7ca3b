"""jettyctl that starts other processes for small files at once, however idle it is: `python -m tests.support.eager upload …`.

The file that EAGER_LOG names gets a line for each answer: how many files that process did.
"""

from __future__ import annotations

import os
import sys

from jettyctl import __main__, machine
from jettyctl.engine import batch, crew, workers
from jettyctl.engine.handover import Answer, answer_of


def main() -> None:
    """Run jettyctl."""
    batch.BUSY, batch.QUICK, crew.ENOUGH = -1.0, 0, 1
    machine.workers = lambda: 2

    def logged(line: bytes) -> Answer:
        answer = answer_of(line)
        with open(os.environ["EAGER_LOG"], "a") as log:
            log.write(f"{sum(file is not None for file in answer)}\n")
        return answer

    workers.answer_of = logged  # type: ignore[attr-defined] # where it was imported to
    sys.argv[0] = "jettyctl"
    __main__.entry()


if __name__ == "__main__":
    main()

"""`python -m tests.support.duty_main`: a process that takes part in the duties by the settings on stdin, until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys

from jettyctl.server.control.database import Database
from jettyctl.server.control.duty import duties
from jettyctl.server.control.settings import Settings


async def main(settings: Settings) -> None:
    """Take part; say so on stdout."""
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    database = Database(settings.database_url)
    async with duties(database, settings):
        print("ready", flush=True)
        await end.wait()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(Settings.from_json(sys.stdin.readline())))

"""A judge as a process: `python -m tests.support.judge --port 9000 --profile r2 --seed 7 --rate 0.1 --log requests.jsonl`."""

from __future__ import annotations

import argparse
import asyncio
import signal

from tests.support.judge.faults import KINDS, Quiet, Schedule, Storm
from tests.support.judge.judge import Judge
from tests.support.judge.profiles import PROFILES


async def serve(judge: Judge, log: str | None) -> None:
    """Until SIGTERM or SIGINT; the requests are then written to `log`."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await judge.open()
    print(f"{judge.endpoint}/{judge.bucket}", flush=True)
    await ended.wait()
    await judge.shut()
    if log:
        with open(log, "w", encoding="ascii") as file:
            file.writelines(line + "\n" for line in judge.log.lines())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.judge", description="A strict S3 server with faults.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="aws")
    parser.add_argument("--keep", type=int, default=0, help="largest body in bytes that can be read back")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0, help="share of the requests that faults strike")
    parser.add_argument("--kinds", nargs="*", choices=sorted(KINDS), default=sorted(KINDS))
    parser.add_argument("--log", help="where the requests are written at the end, in JSON lines")
    args = parser.parse_args()
    schedule: Schedule = Storm(args.seed, args.rate, args.kinds) if args.rate else Quiet()
    asyncio.run(serve(Judge(args.profile, schedule, args.keep, port=args.port), args.log))


if __name__ == "__main__":
    main()

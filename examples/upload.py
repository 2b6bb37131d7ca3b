"""Upload a file with the Python API, and show progress on one line.

python3 examples/upload.py FILE [DESTINATION] [--endpoint-url URL] [--profile NAME]

python3 examples/upload.py disk.img                                  # into the embedded local store
python3 examples/upload.py disk.img s3://bucket/images/ --profile backup
"""

# ruff: noqa: T201 - a program that prints

from __future__ import annotations

import argparse
import sys

from jettyctl import Connection, Event, JettyError, Progress, upload


def show(event: Event) -> None:
    """Draw over the same line. It is called in this thread, so it must return quickly."""
    if isinstance(event, Progress) and event.bytes_total:
        percent = 100 * event.bytes_done // event.bytes_total
        rate = event.bytes_sent / event.seconds / 1e6 if event.seconds else 0.0
        print(f"\r{percent:3} %  {rate:6.1f} MB/s", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Upload a file; an interrupted upload is gone on with.")
    parser.add_argument("file")
    parser.add_argument("destination", nargs="?", default="local:")
    parser.add_argument("--endpoint-url")
    parser.add_argument("--profile")
    asked = parser.parse_args()
    connection = Connection(endpoint_url=asked.endpoint_url, profile=asked.profile)
    try:
        done = upload(asked.file, asked.destination, progress=show, connection=connection)
    except JettyError as error:
        print(f"\n{error.message}. {error.hint}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("\nstopped; what was sent is kept, run the same command again", file=sys.stderr)
        return 130
    print(file=sys.stderr)
    print(f"{done.status}  {done.url}  {done.size} bytes  sha256:{done.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

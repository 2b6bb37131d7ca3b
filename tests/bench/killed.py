"""Run a jettyctl upload, kill it half-way as a power cut would (SIGKILL), and run the same command again to its end.

    python -I -S killed.py COMMAND...

Both runs print their JSON Lines. A line of type `killed` between them says what was in flight at that moment, in bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> int:
    command = sys.argv[1:]
    if not killed_half_way(command):
        print("the upload ended before it could be killed half-way", file=sys.stderr)
        return 1
    return subprocess.run(command).returncode


def killed_half_way(command: list[str]) -> bool:
    chunk = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            event = json.loads(line)
            chunk = event.get("chunk_size", chunk)
            if event["type"] == "progress" and 2 * event["bytes_done"] >= event["bytes_total"] > event["bytes_done"]:
                process.kill()
                print(json.dumps({"type": "killed", "in_flight": event["in_flight"] * chunk}), flush=True)
                return True
    return False


if __name__ == "__main__":
    sys.exit(main())

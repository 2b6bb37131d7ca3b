"""`python -m tests.support.plane_main PORT`: serves by the settings on stdin, and prints the port when it is ready."""

from __future__ import annotations

import sys

from jettyctl.server.control.serving import Listening, serve
from jettyctl.server.control.settings import Settings

if __name__ == "__main__":
    settings = Settings.from_json(sys.stdin.readline())
    serve(settings, Listening("127.0.0.1", int(sys.argv[1])), lambda port: print(port, flush=True))

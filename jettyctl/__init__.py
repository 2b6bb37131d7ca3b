"""jettyctl: an upload accelerator for S3-compatible storage.

`upload` and `resume` drive the engine from Python; see `jettyctl.api`. They are imported when they are first used, so
that `import jettyctl` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jettyctl.api import resume, upload
    from jettyctl.connection import Connection
    from jettyctl.core.events import Event, FileDone, Progress
    from jettyctl.errors import JettyError

__version__ = "0.1.0"

__all__ = ["Connection", "Event", "FileDone", "JettyError", "Progress", "__version__", "resume", "upload"]

_HOMES = {
    "Connection": "jettyctl.connection",
    "Event": "jettyctl.core.events",
    "FileDone": "jettyctl.core.events",
    "JettyError": "jettyctl.errors",
    "Progress": "jettyctl.core.events",
    "resume": "jettyctl.api",
    "upload": "jettyctl.api",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'jettyctl' has no attribute {name!r}")

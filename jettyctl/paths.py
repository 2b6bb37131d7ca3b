"""Where jettyctl keeps its files: the platform's directories, or JETTY_DATA_DIR and JETTY_CONFIG_DIR."""

from __future__ import annotations

import contextlib
import os

import platformdirs

from jettyctl.core.names import printable
from jettyctl.errors import JournalError

_NAME = "jettyctl"


def data_dir() -> str:
    """Journal, hash cache, and the embedded store; made private to the user if it is missing."""
    directory = os.environ.get("JETTY_DATA_DIR") or platformdirs.user_data_dir(_NAME, appauthor=False)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(os.path.abspath(directory)), exist_ok=True)
    _make(directory)
    return directory


def config_dir() -> str:
    """Where the user's settings are; not made here."""
    return os.environ.get("JETTY_CONFIG_DIR") or platformdirs.user_config_dir(_NAME, appauthor=False)


def config_file() -> str:
    """The user's settings, in TOML."""
    return os.path.join(config_dir(), "config.toml")


def keys_file() -> str:
    """The keys of control planes, in JSON. For the user's eyes only."""
    return os.path.join(config_dir(), "keys.json")


def journal_file() -> str:
    """The sessions and their chunks."""
    return os.path.join(data_dir(), "journal.sqlite")


def cache_file() -> str:
    """Hashes of files, and what was stored where. May be deleted at any time."""
    return os.path.join(data_dir(), "cache.sqlite")


def local_store() -> str:
    """The embedded store's root."""
    return os.path.join(data_dir(), "store")


def endpoints_file() -> str:
    """What probes found out about endpoints. May be deleted at any time."""
    return os.path.join(data_dir(), "endpoints.json")


def edges_file() -> str:
    """What probes found out about edges. May be deleted at any time."""
    return os.path.join(data_dir(), "edges.json")


def holder_file() -> str:
    """By what control planes tell this data directory from others."""
    return os.path.join(data_dir(), "holder")


def spool_dir() -> str:
    """Where standard input waits until it is acknowledged; made if it is missing."""
    directory = os.path.join(data_dir(), "spool")
    _make(directory)
    return directory


def _make(directory: str) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
    except OSError as error:
        raise JournalError(
            f"cannot make the directory {printable(directory)}: {error.strerror}",
            hint="Set JETTY_DATA_DIR to one that can be written.",
        ) from None

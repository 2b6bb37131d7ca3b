"""Sessions as a control plane keeps them, whichever machine works on them."""

from __future__ import annotations

from dataclasses import dataclass

from jettyctl.control import api
from jettyctl.control.api import ControlApi, Json, NotThere
from jettyctl.core.model import url_path
from jettyctl.core.names import printable
from jettyctl.errors import ServerFault, UsageError

MOST = 1000  # sessions in one listing
WHOLE_ID = 36  # characters


@dataclass(frozen=True, slots=True)
class RemoteSession:
    """One of the user's sessions. `lease_left` is for how many seconds `host` still holds it, 0 if nobody does."""

    session_id: str
    user_id: str
    file_id: str
    key: str
    file_name: str
    file_hash: str
    size: int
    chunk_size: int
    threads: int
    status: str
    bytes_uploaded: int
    started_at: float
    last_updated: float
    host: str
    lease_left: float


def fetch(control: ControlApi, named: str) -> RemoteSession:
    """The session whose id is, or starts with, `named`. Raises UsageError if there is none, or more than one."""
    if len(named) == WHOLE_ID:
        try:
            return parsed(control.get(f"/sessions/{url_path(named)}"))
        except NotThere:
            raise _unknown(control, named) from None
    found = [session for session in listing(control) if str(session.get("sessionId")).startswith(named)]
    if len(found) > 1:
        raise UsageError(f"{len(found)} sessions start with {printable(named)}", hint="Give more of the id.")
    if not found:
        raise _unknown(control, named)
    return parsed(found[0])


def listing(control: ControlApi) -> list[Json]:
    """The user's sessions, the last used first, as the control plane words them."""
    return api.listed(control.get("/sessions", limit=str(MOST)), "sessions")


def parsed(answer: Json) -> RemoteSession:
    """A session from its JSON. Raises ServerFault."""
    chunk_size = api.whole(answer, "chunkSize")
    if chunk_size < 1:
        raise ServerFault("the control plane's session has no chunk size")
    return RemoteSession(
        session_id=api.text(answer, "sessionId"),
        user_id=api.text(answer, "userId"),
        file_id=api.text(answer, "fileId"),
        key=api.text(answer, "key"),
        file_name=api.text(answer, "fileName"),
        file_hash=api.text(answer, "fileHash"),
        size=api.whole(answer, "fileSize"),
        chunk_size=chunk_size,
        threads=api.whole(answer, "threads"),
        status=api.text(answer, "status"),
        bytes_uploaded=api.whole(answer, "bytesUploaded"),
        started_at=api.number(answer, "startedAt"),
        last_updated=api.number(answer, "lastUpdated"),
        host=api.text(answer, "host"),
        lease_left=0.0 if answer.get("leaseExpiresIn") is None else api.number(answer, "leaseExpiresIn"),
    )


def _unknown(control: ControlApi, named: str) -> UsageError:
    return UsageError(
        f"there is no session {printable(named)}, here or at {printable(control.origin)}",
        hint="Run `jettyctl sessions list --remote` to see them.",
    )

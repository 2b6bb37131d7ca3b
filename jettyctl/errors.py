"""Every error that jettyctl raises on purpose.

    JettyError                      1
    ├── UsageError                  2   the command or the configuration must change
    ├── SomeFailed                  3   a batch ended, some of its files failed
    ├── AccessError                 4   credentials or permission
    │   └── ClockSkewed                 our clock and the store's differ, or the request was long on its way
    ├── NetworkError                5   worth running again later
    │   ├── Stalled                     no byte moved, or too few, for too long
    │   ├── Throttled                   the store asks for fewer requests
    │   ├── ServerFault                 the store failed (5xx), or answered what is not an answer
    │   └── UntrustedServer             the TLS certificate does not verify; never retried
    ├── IntegrityError              6   bytes differ from what they should be
    ├── AlreadyExists               7   refused: the object is there
    ├── SourceChanged               8   the file changed while it was sent
    ├── SourceError                 1   the file cannot be read, or is not a file
    ├── StoreError                  1   the store refuses the request for good
    │   ├── NoSuchBucket
    │   └── UploadGone                  the multipart upload is not known (any more)
    ├── JournalError                1   the local journal cannot be read or written
    │   └── JournalBusy            75   another process writes to it, for too long
    ├── SessionBusy                75   another process works on the session
    └── Interrupted                75   stopped on request, resumable (130 after Ctrl-C)

An error carries facts: `code` (stable, for scripts), `exit_status`, `retryable`, a one-line message and a hint that says
what to do next. Text for people is put together at the edge of the program, never here.
"""

from __future__ import annotations

CTRL_C = 130  # the exit status after an interrupt from the keyboard


class JettyError(Exception):
    """Base of all errors raised on purpose. `message` is one line; `hint` says what to run or change next."""

    code = "failed"
    exit_status = 1
    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(JettyError):
    """The command line, an environment variable or the configuration asks for something that cannot be."""

    code = "usage"
    exit_status = 2


class SomeFailed(JettyError):
    """Some files of a batch failed; each was reported on its own."""

    code = "some-failed"
    exit_status = 3


class AccessError(JettyError):
    """No credentials, wrong credentials, or no permission. `expired` asks for a refresh with the same upload id."""

    code = "access"
    exit_status = 4

    def __init__(self, message: str, *, hint: str = "", expired: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.expired = expired


class ClockSkewed(AccessError):
    """The store found the signature too old, or of a time to come. One that is made anew, by the store's clock, may pass."""

    code = "clock"
    retryable = True


class NetworkError(JettyError):
    """The connection failed. `retry_after` is the store's wish in seconds, if it stated one."""

    code = "network"
    exit_status = 5
    retryable = True

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Stalled(NetworkError):
    """The connection is open but moves nothing, or less than the minimum rate."""

    code = "stalled"


class Throttled(NetworkError):
    """The store asks for fewer requests (429, 503 SlowDown)."""

    code = "throttled"


class ServerFault(NetworkError):
    """The store failed (5xx), or sent what is not an answer of an S3 server."""

    code = "server-fault"


class UntrustedServer(NetworkError):
    """The server's TLS certificate does not verify."""

    code = "tls"
    retryable = False


class IntegrityError(JettyError):
    """Bytes at the store, or on their way, differ from the source's."""

    code = "integrity"
    exit_status = 6


class CorruptedInTransit(IntegrityError):
    """The store received other bytes than were sent and refused them; sending again may help."""

    code = "corrupted-in-transit"
    retryable = True


class WrongObject(IntegrityError):
    """The object was made, and is not the file: what made it is no proof of it any more."""


class AlreadyExists(JettyError):
    """The object exists and the user asked not to replace it."""

    code = "exists"
    exit_status = 7


class SourceChanged(JettyError):
    """The source is not what it was when the upload began."""

    code = "source-changed"
    exit_status = 8


class SourceError(JettyError):
    """The source is missing, unreadable, or not a regular file."""

    code = "source"


class StoreError(JettyError):
    """The store refuses the request for good."""

    code = "store"


class NoSuchBucket(StoreError):
    """The bucket does not exist."""

    code = "no-bucket"


class UploadGone(StoreError):
    """The store does not know the multipart upload: completed, aborted, or expired."""

    code = "upload-gone"


class JournalError(JettyError):
    """The journal cannot be opened, read or written."""

    code = "journal"


class JournalBusy(JournalError):
    """Another process writes to the journal, and did not end: it may be stopped."""

    code = "journal-busy"
    exit_status = 75
    retryable = True


class SessionBusy(JettyError):
    """Another process owns the session."""

    code = "session-busy"
    exit_status = 75
    retryable = True


class Interrupted(JettyError):
    """The run was stopped on request. What was sent is kept."""

    code = "interrupted"
    exit_status = 75
    retryable = True

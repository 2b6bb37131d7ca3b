"""What certificates are verified by."""

from __future__ import annotations

import ssl
import threading
from concurrent.futures import Future

from jettyctl.errors import UsageError


def tls_context(verify: bool, ca_file: str | None) -> ssl.SSLContext:
    """The system's authorities, certifi's, and those in `ca_file`. Raises UsageError for a `ca_file` that cannot be read."""
    import certifi  # not for plain connections

    context = ssl.create_default_context()
    _add(context, certifi.where())  # beside the system's authorities: slim images have none
    if ca_file:
        _add(context, ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def tls_context_soon(verify: bool, ca_file: str | None) -> Future[ssl.SSLContext]:
    """The same, read by a thread of its own: several hundred authorities take 40 ms, and leave the interpreter to others.

    Raises UsageError at once.
    """
    if ca_file:
        _add(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca_file)
    context: Future[ssl.SSLContext] = Future()

    def make() -> None:
        try:
            context.set_result(tls_context(verify, ca_file))
        except BaseException as error:  # noqa: BLE001 - raised to whoever wants the context
            context.set_exception(error)

    try:
        threading.Thread(target=make, name="authorities", daemon=True).start()
    except RuntimeError:  # no memory for another thread
        make()
    return context


def _add(context: ssl.SSLContext, ca_file: str) -> None:
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot read the certificates in {ca_file}: {reason}", hint="Check --ca-file.") from None

"""What certificates are verified by."""

from __future__ import annotations

import ssl

from jettyctl.errors import UsageError


def tls_context(verify: bool, ca_file: str | None) -> ssl.SSLContext:
    """The system's authorities, certifi's, and those in `ca_file`. Raises UsageError for a `ca_file` that cannot be read."""
    import certifi  # not for plain connections

    context = ssl.create_default_context()
    try:
        context.load_verify_locations(certifi.where())  # beside the system's authorities: slim images have none
        if ca_file:
            context.load_verify_locations(ca_file)
    except OSError as error:
        raise UsageError(
            f"cannot read the certificates in {ca_file}: {error.strerror or error}", hint="Check --ca-file."
        ) from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

"""The null server with a TLS port besides, and a certificate from an authority of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess

from tests.bench.ground import SOURCE, NullServer, compiled
from tests.support.servers import free_port

NAMES = ("authority.pem", "certificate.pem", "key.pem")


def tls_server() -> str:
    """The path of the compiled s3null with TLS. Raises CalledProcessError without OpenSSL's headers."""
    return compiled(SOURCE, "-DTLS", "-lssl", "-lcrypto")


def no_tls() -> str | None:
    """Why there can be no TLS here."""
    if importlib.util.find_spec("trustme") is None:
        return "trustme, which makes the certificate, is not installed"
    try:
        tls_server()
    except subprocess.CalledProcessError:
        return "the server with TLS needs OpenSSL's headers to compile (Debian: libssl-dev)"
    return None


class TlsServer(NullServer):
    """s3null on loopback, with TLS for the clients and a plain port for its counts."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.ca_file, self.certificate, self.key = (os.path.join(directory, name) for name in NAMES)
        self.tls_port = 0

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "AWS_CA_BUNDLE": self.ca_file}

    def command(self) -> list[str]:
        self.tls_port = free_port()
        return [tls_server(), str(self.port), str(self.tls_port), self.certificate, self.key]

    def start(self) -> TlsServer:
        import trustme  # the other cases do without

        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(self.certificate, append=number > 0)
        super().start()
        return self

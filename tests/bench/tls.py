"""The null server behind TLS, with a certificate from an authority of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess

from tests.bench.ground import HERE, NullServer, compiled
from tests.support.servers import Server

SOURCE = os.path.join(HERE, "tlsfront.c")
NAMES = ("authority.pem", "certificate.pem", "key.pem")


def terminator() -> str:
    """The path of the compiled tlsfront. Raises CalledProcessError without OpenSSL's headers."""
    return compiled(SOURCE, "-lssl", "-lcrypto", "-lpthread")


def no_tls() -> str | None:
    """Why there can be no TLS here."""
    if importlib.util.find_spec("trustme") is None:
        return "trustme, which makes the certificate, is not installed"
    try:
        terminator()
    except subprocess.CalledProcessError:
        return "its TLS terminator needs OpenSSL's headers to compile (Debian: libssl-dev)"
    return None


class TlsServer(Server):
    """tlsfront on loopback, with a null server of its own behind it."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.ca_file, self.certificate, self.key = (os.path.join(directory, name) for name in NAMES)
        self.behind = NullServer()

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "AWS_CA_BUNDLE": self.ca_file}

    def command(self) -> list[str]:
        return [terminator(), str(self.port), str(self.behind.port), self.certificate, self.key]

    def start(self) -> TlsServer:
        import trustme  # the other cases do without

        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(self.certificate, append=number > 0)
        self.behind.start()
        try:
            return super().start()
        except BaseException:
            self.behind.close()
            raise

    def close(self) -> None:
        super().close()
        self.behind.close()

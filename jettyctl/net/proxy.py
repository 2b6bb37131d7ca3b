"""Which proxy the environment names for a host."""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from jettyctl.errors import UsageError

PROXY_HINT = "Check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it is, and the headers that it wants for itself."""

    scheme: str
    host: str
    port: int
    headers: list[tuple[str, str]]


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy that HTTP(S)_PROXY, ALL_PROXY and NO_PROXY name for this host. Raises UsageError for one that cannot be used."""
    if sys.platform == "linux" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    import urllib.request  # brings http.client and email along, and most machines have no proxy

    proxies = urllib.request.getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        usual = _PORTS[parts.scheme]
        port = parts.port or usual
        if not parts.hostname:
            raise ValueError
    except (ValueError, KeyError):
        raise UsageError("the proxy in the environment is not an http:// or https:// address", hint=PROXY_HINT) from None
    if (scheme, parts.scheme) == ("https", "https"):
        raise UsageError("a proxy that speaks TLS itself cannot carry TLS", hint="Name it by http:// in HTTPS_PROXY.")
    headers = []
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = [("proxy-authorization", f"Basic {b64encode(login.encode()).decode()}")]
    return Proxy(parts.scheme, parts.hostname, port, headers)

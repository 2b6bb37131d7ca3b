"""Which proxy the environment names for a host."""

from __future__ import annotations

import os
import sys
from urllib.parse import unquote, urlsplit

import httpcore

from jettyctl.errors import UsageError

PROXY_HINT = "Check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."
_PORTS = {"http": 80, "https": 443}


def proxy_for(scheme: str, host: str, port: int | None) -> httpcore.Proxy | None:
    """The proxy that HTTP(S)_PROXY, ALL_PROXY and NO_PROXY name for this host."""
    if sys.platform == "linux" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    import urllib.request  # brings http.client and email along, and most machines have no proxy

    proxies = urllib.request.getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or urllib.request.proxy_bypass(f"{host}:{port or _PORTS[scheme]}"):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        usual = _PORTS[parts.scheme]
        port = parts.port or usual
    except (ValueError, KeyError):
        raise UsageError("the proxy in the environment is not an http:// or https:// address", hint=PROXY_HINT) from None
    name = parts.hostname or ""
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore.Proxy(f"{parts.scheme}://{f'[{name}]' if ':' in name else name}:{port}", auth=auth)

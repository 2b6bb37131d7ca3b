"""What is known of endpoints before they are asked: addresses, limits, and which checksum they verify.

A row is a fact about a vendor, not a guess: what no row states is probed (`probe`), never assumed.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from jettyctl.core.model import GIB, TIB, Limits
from jettyctl.errors import UsageError

DEFAULT_REGION = "us-east-1"
_PLAIN_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")  # fits one label of a wildcard certificate
_COMMON = Limits(max_object=5 * TIB)


class Vendor(NamedTuple):
    """One row. `checksum` None: to be probed. `virtual`: the bucket goes into the host name unless told otherwise."""

    name: str
    suffixes: tuple[str, ...]
    limits: Limits = _COMMON
    checksum: str | None = None
    virtual: bool = False
    object_size: bool = False  # takes x-amz-mp-object-size at Complete


AWS = Vendor("aws", (".amazonaws.com", ".amazonaws.com.cn"), Limits(), checksum="crc64nvme", virtual=True, object_size=True)
GENERIC = Vendor("generic", ())
VENDORS = (
    AWS,
    Vendor("r2", (".r2.cloudflarestorage.com",), Limits(max_object=int(4.995 * TIB))),
    Vendor("scaleway", (".scw.cloud",), Limits(max_parts=1_000, max_object=5 * TIB)),
    Vendor("gcs", ("storage.googleapis.com",), Limits(max_object=5 * TIB)),
    Vendor("b2", (".backblazeb2.com",), Limits(max_object=10 * TIB)),
    Vendor("digitalocean", (".digitaloceanspaces.com",), Limits(max_object=5 * TIB)),
    Vendor("wasabi", (".wasabisys.com",), Limits(max_object=5 * TIB)),
    Vendor("oss", (".aliyuncs.com",), Limits(max_object=int(48.8 * TIB), max_part=5 * GIB), virtual=True),
)


class Endpoint(NamedTuple):
    """Where the requests of one bucket go: scheme and host, and the path before the key."""

    origin: str
    prefix: str
    vendor: Vendor

    @property
    def host(self) -> str:
        """The `host` header."""
        return self.origin.partition("://")[2]


def vendor_of(endpoint_url: str) -> Vendor:
    """The row for an endpoint; GENERIC where there is none."""
    host = "." + (urlsplit(endpoint_url).hostname or "")
    return next((vendor for vendor in VENDORS if host.endswith(vendor.suffixes)), GENERIC)


def endpoint_url_of(region: str) -> str:
    """The endpoint of AWS in a region."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{domain}"


@functools.lru_cache(maxsize=64)  # asked for each request
def locate(endpoint_url: str, bucket: str, addressing: str) -> Endpoint:
    """Where a bucket's requests go. `addressing` is auto, path or virtual. Raises UsageError for an unusable URL."""
    scheme, name, port, path = _parts(endpoint_url)
    vendor = vendor_of(endpoint_url)
    base = path.rstrip("/")
    host = _host_header(scheme, name, port)
    if addressing == "virtual" or (addressing == "auto" and vendor.virtual and _fits_host(bucket, name, scheme)):
        return Endpoint(f"{scheme}://{bucket}.{host}", f"{base}/", vendor)
    return Endpoint(f"{scheme}://{host}", f"{base}/{bucket}/", vendor)


def _parts(endpoint_url: str) -> tuple[str, str, int | None, str]:
    """Scheme, host, port and path. A password in the URL would be kept in sessions, and shown with them."""
    if "@" in endpoint_url.rpartition("://")[2].partition("/")[0]:
        raise UsageError(
            "the endpoint's URL has a user name or a password in it",
            hint="Leave out what is before the @; credentials come from AWS_ACCESS_KEY_ID, or a profile.",
        )
    try:
        parts = urlsplit(endpoint_url)
        port = parts.port
    except ValueError:  # a port that is no number, or brackets that do not close
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{endpoint_url!r} is not an endpoint",
            hint="Write --endpoint-url like https://s3.example.com or http://127.0.0.1:9000.",
        )
    return parts.scheme, parts.hostname, port, parts.path


def _host_header(scheme: str, host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[scheme]
    return name if port in (None, default) else f"{name}:{port}"


def _fits_host(bucket: str, host: str, scheme: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(_PLAIN_BUCKET.fullmatch(bucket)) or (scheme == "http" and "." in bucket)
    return False

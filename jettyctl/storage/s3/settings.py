"""Endpoint, region, authorities and credential source of a run: the user's flags, then the standard AWS settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jettyctl.storage.s3.credentials import CredentialSource, SharedConfig
from jettyctl.storage.s3.endpoints import DEFAULT_REGION


class S3Settings(NamedTuple):
    """What was found. `endpoint_url` None means AWS itself."""

    endpoint_url: str | None
    region: str
    ca_file: str | None
    source: CredentialSource


def resolve(
    environment: Mapping[str, str], *, endpoint_url: str | None, region: str | None, profile: str | None, ca_file: str | None
) -> S3Settings:
    """Flags go before variables, variables before the profile of the shared files. Raises UsageError."""
    shared = SharedConfig(environment, profile)
    ignored = environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    configured = None
    if not ignored:
        configured = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or shared.service_endpoint()
    named = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or shared.get("region")
    return S3Settings(
        endpoint_url=endpoint_url or configured,
        region=region or named or DEFAULT_REGION,
        ca_file=ca_file or environment.get("AWS_CA_BUNDLE") or shared.get("ca_bundle"),
        source=shared.source(),
    )

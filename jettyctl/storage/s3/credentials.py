"""Who we are: the standard AWS chain.

Keys in the environment or in a shared file are read here, because nothing else is needed for them and it is quick.
Every source that has to ask somebody (assumed roles, SSO, `credential_process`, web identity, container and instance
metadata) is botocore's, which is imported only then, and refreshes what expires.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from jettyctl.errors import AccessError, UsageError


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials at one moment. The secret parts never appear in a repr."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class CredentialSource(Protocol):
    """Where keys come from."""

    def keys(self, *, refresh: bool = False) -> Keys:
        """The keys to use now; `refresh` asks for new ones even if these have not expired. Raises AccessError."""


@dataclass(frozen=True, slots=True)
class StaticKeys:
    """Keys that never change."""

    value: Keys

    def keys(self, *, refresh: bool = False) -> Keys:
        return self.value


class BotocoreKeys:
    """Keys from botocore's chain, refreshed by it."""

    def __init__(self, profile: str | None) -> None:
        self._profile = profile
        self._lock = threading.Lock()
        self._credentials: Any = None

    def keys(self, *, refresh: bool = False) -> Keys:
        import botocore.session

        with self._lock:
            try:
                if self._credentials is None or refresh:
                    self._credentials = botocore.session.Session(profile=self._profile).get_credentials()
                frozen = self._credentials.get_frozen_credentials() if self._credentials else None
            except Exception as error:  # noqa: BLE001 - whatever a program or a service of the profile made of it
                raise AccessError(f"no credentials: {error}", hint="Check the profile, or log in again.") from None
        if frozen is None or not frozen.access_key:
            raise AccessError(
                "no AWS credentials were found",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with --profile (or --no-sign-request).",
            )
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)


class SharedConfig:
    """The merged profile of the shared AWS files: settings such as region and endpoint, and plain keys."""

    def __init__(self, environment: Mapping[str, str], profile: str | None) -> None:
        self._environment = environment
        self.profile = profile or environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
        self._explicit = bool(profile)  # a profile named for this run goes before keys in the environment
        self._named = bool(profile or environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE"))
        config = self._read("AWS_CONFIG_FILE", "~/.aws/config")
        secrets = self._read("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
        section = self.profile if self.profile == "default" else f"profile {self.profile}"
        known = section in config or self.profile in secrets
        if self._named and not known:
            raise UsageError(
                f"there is no AWS profile {self.profile!r}",
                hint="Check --profile, AWS_PROFILE and the shared AWS files.",
            )
        self._values = {**config.get(section, {}), **secrets.get(self.profile, {})}
        self._services = config.get(f"services {self._values.get('services', '')}", {})

    def get(self, name: str) -> str | None:
        """A setting of the profile."""
        return self._values.get(name)

    def service_endpoint(self) -> str | None:
        """The S3 endpoint of the profile, from its `services` section or its own `endpoint_url`."""
        for line in self._services.get("s3", "").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "endpoint_url":
                return value.strip()
        return self._values.get("endpoint_url")

    def source(self) -> CredentialSource:
        """The credential source that the environment and this profile ask for."""
        environment = self._environment
        if not self._explicit and environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
            token = environment.get("AWS_SESSION_TOKEN") or None
            return StaticKeys(Keys(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], token))
        asks = ("role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file")
        access, secret = self.get("aws_access_key_id"), self.get("aws_secret_access_key")
        if access and secret and not any(map(self.get, asks)) and not environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
            return StaticKeys(Keys(access, secret, self.get("aws_session_token")))
        return BotocoreKeys(self.profile if self._named else None)

    def _read(self, variable: str, default: str) -> dict[str, dict[str, str]]:
        """The settings by section; none of a file that is not there."""
        path = os.path.expanduser(self._environment.get(variable) or default)
        if not os.path.exists(path):
            return {}
        import configparser  # where keys come from the environment there is most often no file

        parser = configparser.RawConfigParser(default_section="", strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            raise UsageError(f"{path} is not a readable AWS configuration", hint="Correct the file.") from None
        return {name: dict(parser.items(name)) for name in parser.sections()}

"""Where endpoint, region, authorities and credentials come from: flags, then variables, then the shared AWS files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jettyctl.errors import AccessError, UsageError
from jettyctl.storage.s3.credentials import BotocoreKeys, Keys, StaticKeys
from jettyctl.storage.s3.endpoints import locate
from jettyctl.storage.s3.settings import S3Settings, resolve
from tests.support.running import ROOT
from tests.support.servers import ACCESS_KEY, SECRET_KEY, Server

CONFIG = """
[default]
region = default-region
endpoint_url = https://default.example
ca_bundle = /default.pem

[profile work]
region = work-region
services = lan
endpoint_url = https://work.example

[profile keys]
aws_access_key_id = AKIACONFIG
aws_secret_access_key = config-secret

[profile bare]

[services lan]
s3 =
  endpoint_url = https://s3.lan.example
sqs =
  endpoint_url = https://sqs.lan.example
"""
CREDENTIALS = """
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = default-secret

[work]
aws_access_key_id = AKIAWORK
aws_secret_access_key = work-secret
aws_session_token = work-token
"""
ENV_KEYS = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}
Resolve = Callable[..., S3Settings]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The variables that name the shared files of a test."""
    (tmp_path / "config").write_text(CONFIG)
    (tmp_path / "credentials").write_text(CREDENTIALS)
    return {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}


@pytest.fixture
def settings(files: dict[str, str]) -> Resolve:
    """`settings(profile=…, AWS_REGION=…)`: lower case is a flag, upper case a variable."""

    def call(**given: str | None) -> S3Settings:
        flags = {name: given.get(name) for name in ("endpoint_url", "region", "profile", "ca_file")}
        variables = {name: value for name, value in given.items() if name.isupper() and value is not None}
        return resolve({**files, **variables}, **flags)

    return call


def test_region(settings: Resolve) -> None:
    """The region of a flag goes before that of a variable, that before the profile's, and that before the usual one."""
    assert settings(region="flag", AWS_REGION="env", AWS_DEFAULT_REGION="default-env").region == "flag"
    assert settings(AWS_REGION="env", AWS_DEFAULT_REGION="default-env", profile="work").region == "env"
    assert settings(AWS_DEFAULT_REGION="default-env", profile="work").region == "default-env"
    assert settings(profile="work").region == settings(AWS_PROFILE="work").region == "work-region"
    assert settings().region == "default-region"
    assert settings(profile="bare").region == "us-east-1"


def test_endpoint(settings: Resolve) -> None:
    """The most special endpoint counts: flag, variable of S3, variable of all services, services section, profile."""
    variables = {"AWS_ENDPOINT_URL_S3": "https://s3-env", "AWS_ENDPOINT_URL": "https://env"}
    assert settings(endpoint_url="https://flag", profile="work", **variables).endpoint_url == "https://flag"
    assert settings(profile="work", **variables).endpoint_url == "https://s3-env"
    assert settings(profile="work", AWS_ENDPOINT_URL="https://env").endpoint_url == "https://env"
    assert settings(profile="work").endpoint_url == "https://s3.lan.example"
    assert settings().endpoint_url == "https://default.example"
    assert settings(profile="bare").endpoint_url is None


def test_configured_endpoints_can_be_ignored(settings: Resolve) -> None:
    """AWS_IGNORE_CONFIGURED_ENDPOINT_URLS leaves only the flag."""
    variables = {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL_S3": "https://s3-env"}
    assert settings(profile="work", **variables).endpoint_url is None
    assert settings(endpoint_url="https://flag", **variables).endpoint_url == "https://flag"
    variables["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "false"
    assert settings(**variables).endpoint_url == "https://s3-env"


def test_authorities(settings: Resolve) -> None:
    """The file of authorities is the flag's, the variable's, or the profile's."""
    assert settings(ca_file="/flag.pem", AWS_CA_BUNDLE="/env.pem").ca_file == "/flag.pem"
    assert settings(AWS_CA_BUNDLE="/env.pem").ca_file == "/env.pem"
    assert settings().ca_file == "/default.pem"
    assert settings(profile="work").ca_file is None


@pytest.mark.parametrize("how", ["profile", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_missing_profile(settings: Resolve, how: str) -> None:
    """A profile that is named but not there is the user's to correct; it is never replaced by another."""
    with pytest.raises(UsageError, match="'nosuch'") as raised:
        settings(**{how: "nosuch", **ENV_KEYS})
    assert raised.value.hint


def test_no_files_at_all(tmp_path: Path) -> None:
    """Without shared files, variables are enough; and without variables there are no credentials, and that is said."""
    nowhere = {"AWS_CONFIG_FILE": str(tmp_path / "no"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no")}
    found = resolve({**nowhere, **ENV_KEYS}, endpoint_url=None, region=None, profile=None, ca_file=None)
    assert found.source.keys() == Keys("AKIAENV", "env-secret")
    os.environ.update(nowhere)
    none = resolve(nowhere, endpoint_url=None, region=None, profile=None, ca_file=None)
    with pytest.raises(AccessError, match="no AWS credentials") as raised:
        none.source.keys()
    assert "AWS_ACCESS_KEY_ID" in raised.value.hint


@pytest.mark.parametrize("text", ["no section\n", "[default\n", "[default]\nnonsense\n", "\0", "[default]\n\xff"])
def test_broken_file(files: dict[str, str], text: str) -> None:
    """A shared file that cannot be read as one is named."""
    Path(files["AWS_CONFIG_FILE"]).write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match="config"):
        resolve(files, endpoint_url=None, region=None, profile=None, ca_file=None)


def test_static_keys(settings: Resolve) -> None:
    """Plain keys come from variables or a shared file, with their session token, at no cost."""
    assert settings(**ENV_KEYS).source == StaticKeys(Keys("AKIAENV", "env-secret"))
    assert settings(**ENV_KEYS, AWS_SESSION_TOKEN="t").source == StaticKeys(Keys("AKIAENV", "env-secret", "t"))
    assert settings().source == StaticKeys(Keys("AKIADEFAULT", "default-secret"))
    assert settings(profile="work").source == StaticKeys(Keys("AKIAWORK", "work-secret", "work-token"))
    assert settings(profile="keys").source == StaticKeys(Keys("AKIACONFIG", "config-secret"))


def test_a_profile_of_the_command_line_goes_before_keys_in_variables(settings: Resolve) -> None:
    """`--profile` beats keys in variables, as it is the nearer wish; AWS_PROFILE does not."""
    assert settings(profile="work", **ENV_KEYS).source.keys().access_key == "AKIAWORK"
    assert settings(AWS_PROFILE="work", **ENV_KEYS).source.keys().access_key == "AKIAENV"
    assert settings(AWS_PROFILE="work").source.keys().access_key == "AKIAWORK"


def test_secrets_are_not_shown(settings: Resolve) -> None:
    """No repr of settings, sources or keys holds a secret."""
    found = settings(profile="work")
    for shown in (repr(found), repr(found.source), repr(found.source.keys()), str(found.source.keys())):
        assert "AKIAWORK" in shown
        assert "work-secret" not in shown
        assert "work-token" not in shown


def test_static_keys_cost_no_botocore(files: dict[str, str]) -> None:
    """With plain keys, botocore (a third of a second) is never imported, not even by a request."""
    code = (
        "import os, sys\n"
        "from jettyctl.storage.s3.client import S3Config, S3Store\n"
        "from jettyctl.storage.s3.settings import resolve\n"
        "from jettyctl.storage.s3.sign import Signer\n"
        "found = resolve(os.environ, endpoint_url=None, region=None, profile=None, ca_file=None)\n"
        "signer = Signer(found.source, found.region)\n"
        "signer.sign('GET', '/', [('host', 'x')], 'UNSIGNED-PAYLOAD', signer.means())\n"
        "print([name for name in sys.modules if name.startswith('botocore')])\n"
    )
    environment = {**os.environ, **files, "PYTHONPATH": ROOT}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == "[]"


def script(directory: Path, body: str) -> str:
    path = directory / "credentials-script"
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(0o700)
    return str(path)


def from_process(files: dict[str, str], program: str) -> S3Settings:
    with open(files["AWS_CONFIG_FILE"], "a", encoding="utf-8") as config:
        config.write(f"\n[profile asks]\ncredential_process = {program}\n")
    os.environ.update(files)
    return resolve(files, endpoint_url=None, region=None, profile="asks", ca_file=None)


def test_credential_process(files: dict[str, str], tmp_path: Path) -> None:
    """A program that prints credentials is run, once; `refresh` runs it again."""
    counter = tmp_path / "runs"
    counter.write_text("")
    body = (
        f"import json, os\nopen({str(counter)!r}, 'a').write('x')\n"
        f"runs = os.path.getsize({str(counter)!r})\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'AKIA{runs}', 'SecretAccessKey': 's', 'SessionToken': 't',"
        " 'Expiration': '2999-01-01T00:00:00Z'}))"
    )
    source = from_process(files, script(tmp_path, body)).source
    assert isinstance(source, BotocoreKeys)
    assert source.keys() == source.keys() == Keys("AKIA1", "s", "t")
    assert source.keys(refresh=True) == Keys("AKIA2", "s", "t")


@pytest.mark.parametrize("body", ["print('no json')", "print('{}')", "raise SystemExit(3)", "print('[]')", None])
def test_credential_process_that_fails(files: dict[str, str], tmp_path: Path, body: str | None) -> None:
    """A program that fails, prints nonsense or is not there is a matter of access, with a hint."""
    program = str(tmp_path / "nosuch") if body is None else script(tmp_path, body)
    source = from_process(files, program).source
    with pytest.raises(AccessError) as raised:
        source.keys()
    assert raised.value.hint


ROLE = """
[profile role]
role_arn = arn:aws:iam::123456789012:role/uploader
source_profile = base
region = us-east-1

[profile base]
aws_access_key_id = {access}
aws_secret_access_key = {secret}
"""


def assume(files: dict[str, str], sts: str) -> S3Settings:
    Path(files["AWS_CONFIG_FILE"]).write_text(ROLE.format(access=ACCESS_KEY, secret=SECRET_KEY))
    os.environ.update({**files, "AWS_ENDPOINT_URL_STS": sts})
    return resolve(files, endpoint_url=None, region=None, profile="role", ca_file=None)


def test_assumed_role(files: dict[str, str], moto: Server) -> None:
    """A role is assumed with the keys of its source profile, and its keys are temporary."""
    keys = assume(files, moto.endpoint).source.keys()
    assert keys.access_key not in ("", ACCESS_KEY)
    assert keys.token


def test_role_that_cannot_be_assumed(files: dict[str, str], rclone: Server) -> None:
    """A service that refuses, or is no STS, is a matter of access."""
    source = assume(files, rclone.endpoint).source
    with pytest.raises(AccessError):
        source.keys()


@pytest.mark.parametrize("url", ["https://me:hunter2@s3.example.com/base", "me:hunter2@s3.example.com"])
def test_a_password_in_the_endpoint_is_refused_and_not_repeated(url: str) -> None:
    """It is of no use to S3, and sessions keep the endpoint."""
    with pytest.raises(UsageError, match="user name or a password") as refused:
        locate(url, "bucket", "auto")
    assert "hunter2" not in refused.value.message

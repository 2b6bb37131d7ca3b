"""Where `jettyctl upload` takes its settings from: flags, variables, the file, AWS's own; and what it does with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import typer.main

from jettyctl.cli.app import app
from tests.e2e.runs import CHUNK, MIB, Proxied, one_line, ours
from tests.support.relay import Request
from tests.support.running import Jettyctl, Result, random_file
from tests.support.servers import ACCESS_KEY, SECRET_KEY, Server, fetch


@pytest.fixture(autouse=True)
def _places(env: dict[str, str], tmp_path: Path) -> None:
    env["JETTY_DATA_DIR"] = str(tmp_path / "data")
    env["JETTY_CONFIG_DIR"] = str(tmp_path / "config")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two chunks of the least size and a byte."""
    random_file(tmp_path / "file", 2 * CHUNK + 1)
    return tmp_path / "file"


@pytest.fixture
def target(tmp_path: Path) -> str:
    """An address that no other test writes to; the name stays on this test's machine's servers."""
    return f"s3://bucket/{tmp_path.name}/"


@pytest.fixture
def keys() -> dict[str, str]:
    """Credentials, and nothing that says where."""
    return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "us-east-1"}


def plan(run: Result) -> dict[str, Any]:
    """The only plan of a dry run."""
    (event,) = [event for event in run.events if event["type"] == "plan"]
    return event


# Flags, variables, file, default.


def test_flag_then_variable_then_file_then_default(jettyctl: Jettyctl, file: Path, env: dict[str, str]) -> None:
    """Each place is asked only where the one before it says nothing."""
    command = ["upload", "file", "--dry-run", "--json"]
    sizes = [plan(jettyctl(*command, check=0))["chunk_size"]]
    jettyctl("config", "set", "chunk-size", "6MiB", check=0)
    sizes.append(plan(jettyctl(*command, check=0))["chunk_size"])
    env["JETTY_CHUNK_SIZE"] = "7MiB"
    sizes.append(plan(jettyctl(*command, check=0))["chunk_size"])
    sizes.append(plan(jettyctl(*command, "--chunk-size", "8MiB", check=0))["chunk_size"])
    assert sizes == [5 * MIB, 6 * MIB, 7 * MIB, 8 * MIB]


def test_variables_of_all_kinds(moto: Server, jettyctl: Jettyctl, proxied: Proxied, file: Path, target: str) -> None:
    """Texts, flags, choices and lists can be set by variables, the destination too."""
    proxy = proxied(moto)
    variables = {
        "JETTY_DESTINATION": target,
        "JETTY_CHUNK_SIZE": "5MiB",
        "JETTY_THREADS": "2",
        "JETTY_JSON": "1",
        "JETTY_NO_PROGRESS": "1",
        "JETTY_METADATA": "a=1 b=2",
        "JETTY_CONTENT_TYPE": "text/x-mine",
        "JETTY_NO_SIGN_REQUEST": "true",
        "JETTY_CHECKSUM": "sha256",
        "JETTY_ENDPOINT_URL": proxy.endpoint,
    }
    run = jettyctl("upload", "file", env=variables, check=0)
    assert run.events[-1]["type"] == "summary"
    (create,) = ours(proxy, "create")
    wanted = {"content-type": "text/x-mine", "x-amz-meta-a": "1", "x-amz-meta-b": "2"}
    assert create.headers.items() >= wanted.items()
    assert "authorization" not in create.headers
    assert len(ours(proxy, "part")) == 3
    again = jettyctl("upload", "file", env={**variables, "JETTY_IF_EXISTS": "skip", "JETTY_RECURSIVE": "yes"}, check=0)
    assert again.events[-1]["skipped"] == 1


def test_every_option_has_its_variable() -> None:
    """JETTY_ and the long name in capitals; but --name, which is for one stream, is no lasting setting."""
    upload: Any = typer.main.get_command(app)
    for parameter in upload.commands["upload"].params:
        names = [name[2:] for name in parameter.opts if name.startswith("--")]
        if names and names[0] not in ("help", "name"):
            assert parameter.envvar == "JETTY_" + names[0].replace("-", "_").upper()


BAD = [
    ("--chunk-size", "x"),
    ("--chunk-size", "1MiB"),
    ("--limit-rate", "0"),
    ("--if-exists", "maybe"),
    ("--metadata", "novalue"),
    ("--endpoint-url", "ftp://x"),
    ("--profile", "nobody"),
    ("--ca-file", "gone.pem"),
]


@pytest.mark.parametrize(("option", "value"), BAD)
def test_bad_values(jettyctl: Jettyctl, file: Path, keys: dict[str, str], option: str, value: str) -> None:
    """A value that cannot be is refused in one line that shows it, before anything is sent."""
    endpoint = [] if option == "--endpoint-url" else ["--endpoint-url", "https://127.0.0.1:9"]
    run = jettyctl("upload", "file", "s3://bucket/x", *endpoint, f"{option}={value}", env=keys, check=2)
    line = one_line(run)
    assert value in line or option == "--chunk-size"
    assert "Value error" not in line
    assert run.stdout == ""


def test_bad_variable_names_itself(jettyctl: Jettyctl, file: Path) -> None:
    """Where a variable holds what cannot be, the line leads to it."""
    run = jettyctl("upload", "file", env={"JETTY_IF_EXISTS": "maybe"}, check=2)
    assert "JETTY_IF_EXISTS" in one_line(run)


# Size and threads.


def test_chunk_size_tier(jettyctl: Jettyctl, tmp_path: Path) -> None:
    """`tier` is exactly the size table; `auto` stays at or below it."""
    table = {1 * MIB: 10, 100 * MIB - 1: 10, 100 * MIB: 50, 10240 * MIB - 1: 50, 10240 * MIB: 100}
    (tmp_path / "d").mkdir()
    for size in table:
        with open(tmp_path / "d" / str(size), "wb") as sparse:
            sparse.truncate(size)
    for wish in ("tier", "auto"):
        run = jettyctl("upload", "-r", "d", "--dry-run", "--json", "--chunk-size", wish, check=0)
        sizes = {event["size"]: event["chunk_size"] for event in run.events if event["type"] == "plan"}
        assert sizes.keys() == table.keys()
        for size, most in table.items():
            assert sizes[size] == most * MIB if wish == "tier" else CHUNK <= sizes[size] <= most * MIB


@pytest.mark.parametrize("value", ["16MiB", "16777216"])
def test_chunk_size_of_ones_own(jettyctl: Jettyctl, file: Path, value: str) -> None:
    """A size is taken as it is; a file no larger goes in one request."""
    found = plan(jettyctl("upload", "file", "--dry-run", "--json", "--chunk-size", value, check=0))
    assert (found["chunk_size"], found["chunks"], found["multipart"]) == (16 * MIB, 1, False)


def most_at_once(requests: list[Request]) -> int:
    """How many requests were in flight together at most."""
    moments = sorted([(r.at, 1) for r in requests] + [(r.ended or 0.0, -1) for r in requests])
    return max(sum(step for _, step in moments[: end + 1]) for end in range(len(moments)))


def test_threads(rclone: Server, jettyctl: Jettyctl, proxied: Proxied, file: Path, target: str) -> None:
    """--threads is a ceiling: with 1, parts go one after the other; with auto, together."""
    for wish, low, high in (("1", 1, 1), ("auto", 2, 16)):
        proxy = proxied(rclone, rate=30 * MIB)
        command = ["upload", "file", target + wish, "--chunk-size", "5MiB", "--threads", wish, "--checksum", "md5"]
        jettyctl(*command, server=proxy, check=0)
        assert low <= most_at_once(ours(proxy, "part")) <= high


# Where to, and as whom.


def test_endpoint_order(
    moto: Server, jettyctl: Jettyctl, proxied: Proxied, keys: dict[str, str], target: str, tmp_path: Path
) -> None:
    """The flag goes before AWS_ENDPOINT_URL_S3, that before AWS_ENDPOINT_URL, and our variable is as good as the flag."""
    random_file(tmp_path / "small", 10)
    general, special, flag = proxied(moto), proxied(moto), proxied(moto)
    env = {**keys, "AWS_ENDPOINT_URL": general.endpoint}
    jettyctl("upload", "small", target, env=env, check=0)
    env["AWS_ENDPOINT_URL_S3"] = special.endpoint
    jettyctl("upload", "small", target, env=env, check=0)
    jettyctl("upload", "small", target, "--endpoint-url", flag.endpoint, env=env, check=0)
    jettyctl("upload", "small", target, env={**env, "JETTY_ENDPOINT_URL": flag.endpoint}, check=0)
    assert [len(ours(proxy, "put")) for proxy in (general, special, flag)] == [1, 1, 1]
    assert len(ours(flag, "head")) == 1  # the same place again: it knows what it stored there


def shared_files(home: str, endpoint: str) -> None:
    """What `aws configure` writes: two profiles, one of them right."""
    directory = Path(home) / ".aws"
    directory.mkdir()
    (directory / "config").write_text(f"[profile good]\nregion = us-east-1\nendpoint_url = {endpoint}\n[default]\nregion = x\n")
    good = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    (directory / "credentials").write_text(f"[good]\n{good}[default]\naws_access_key_id = A\naws_secret_access_key = B\n")


def test_profiles(rclone: Server, jettyctl: Jettyctl, env: dict[str, str], file: Path, target: str) -> None:
    """Endpoint and keys come from the shared files' profile that AWS_PROFILE or --profile names."""
    shared_files(env["HOME"], rclone.endpoint)
    jettyctl("upload", "file", target, env={"AWS_PROFILE": "good"}, check=0)
    assert fetch(rclone, f"{target.removeprefix('s3://bucket/')}file") == file.read_bytes()
    jettyctl("upload", "file", f"{target}2", "--profile", "good", env={"AWS_PROFILE": "default"}, check=0)
    wrong = jettyctl("upload", "file", target, "--endpoint-url", rclone.endpoint, check=4)
    assert "credentials" in one_line(wrong) or "AWS_ACCESS_KEY_ID" in wrong.stderr


def test_variables_beat_the_shared_files(
    rclone: Server, jettyctl: Jettyctl, env: dict[str, str], file: Path, target: str
) -> None:
    """Keys in the environment are used although the default profile has others."""
    shared_files(env["HOME"], rclone.endpoint)
    jettyctl("upload", "file", target, server=rclone, check=0)
    assert fetch(rclone, f"{target.removeprefix('s3://bucket/')}file") == file.read_bytes()


def test_no_sign_request(moto: Server, jettyctl: Jettyctl, proxied: Proxied, file: Path, target: str) -> None:
    """Without credentials anywhere, anonymous requests carry no signature, parts neither."""
    proxy = proxied(moto)
    env = {"AWS_ENDPOINT_URL_S3": proxy.endpoint}
    jettyctl("upload", "file", target, "--no-sign-request", "--chunk-size", "5MiB", env=env, check=0)
    assert not [request for request in proxy.requests if "authorization" in request.headers]
    assert fetch(moto, f"{target.removeprefix('s3://bucket/')}file") == file.read_bytes()


def test_region_is_signed_for(moto: Server, jettyctl: Jettyctl, proxied: Proxied, tmp_path: Path, target: str) -> None:
    """--region goes before AWS_REGION, and into the signature."""
    random_file(tmp_path / "small", 10)
    proxy = proxied(moto)
    jettyctl("upload", "small", target, "--region", "eu-north-1", server=proxy, check=0)
    (put,) = ours(proxy, "put")
    assert "/eu-north-1/s3/aws4_request" in put.headers["authorization"]


@pytest.mark.parametrize(
    ("addressing", "host", "path"),
    [("path", "s3.test", "/bucket/a"), ("auto", "s3.test", "/bucket/a"), ("virtual", "bucket.s3.test", "/a")],
)
def test_addressing(
    moto: Server,
    jettyctl: Jettyctl,
    proxied: Proxied,
    tmp_path: Path,
    keys: dict[str, str],
    addressing: str,
    host: str,
    path: str,
) -> None:
    """The bucket is in the path or in the host's name. A forward proxy stands in for DNS, so proxies are proved too."""
    random_file(tmp_path / "small", 10)
    proxy = proxied(moto)
    env = {**keys, "HTTP_PROXY": proxy.endpoint, "http_proxy": proxy.endpoint}
    args = ["--endpoint-url", "http://s3.test", "--addressing", addressing]
    jettyctl("upload", "small", "s3://bucket/a", *args, env=env)
    request = next(request for request in proxy.requests if request.method == "PUT")
    assert (request.headers["host"], request.path) == (host, path)


# What guards the bytes.


@pytest.mark.parametrize(
    ("checksum", "header"), [("crc64nvme", "x-amz-checksum-crc64nvme"), ("md5", "content-md5"), ("sha256", ""), ("none", "")]
)
def test_checksum_is_not_probed_when_given(
    moto: Server, jettyctl: Jettyctl, proxied: Proxied, file: Path, target: str, checksum: str, header: str
) -> None:
    """A checksum that the user names is sent with every part, and nothing is asked before."""
    proxy = proxied(moto)
    args = ["--checksum", checksum, "--chunk-size", "5MiB"]
    jettyctl("upload", "file", target, *args, server=proxy, check=0)
    assert not [request for request in proxy.requests if "jettyctl-probe" in request.path]
    for part in ours(proxy, "part"):
        assert {"x-amz-checksum-crc64nvme", "content-md5"} & part.headers.keys() == ({header} if header else set())
        assert (part.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD") == (checksum != "sha256")
    assert fetch(moto, f"{target.removeprefix('s3://bucket/')}file") == file.read_bytes()


@pytest.mark.slow
def test_the_probe_is_remembered(s3_server: Server, jettyctl: Jettyctl, proxied: Proxied, file: Path, target: str) -> None:
    """What an endpoint verifies is asked once, said with -v, and known in the next run."""
    proxy = proxied(s3_server)
    first = jettyctl("upload", "file", target, "-v", "--chunk-size", "5MiB", server=proxy, check=0)
    assert f"{proxy.endpoint} verifies: " in first.stderr
    assert [request for request in proxy.requests if "jettyctl-probe" in request.path]
    proxy.forget()
    jettyctl("upload", "file", f"{target}other", "-v", "--chunk-size", "5MiB", server=proxy, check=0)
    assert not [request for request in proxy.requests if "jettyctl-probe" in request.path]


def test_unverified_tls_is_loud(jettyctl: Jettyctl, tmp_path: Path) -> None:
    """Whoever switches verification off is told so on standard error in every mode, also by a variable."""
    random_file(tmp_path / "small", 10)
    flag, variable = ["--no-verify-tls"], {"JETTY_NO_VERIFY_TLS": "1"}
    for options, variables in (flag, {}), ([*flag, "-q"], {}), ([*flag, "--json"], {}), (["-q"], variable):
        run = jettyctl("upload", "small", *options, env=variables, check=0)
        assert "WARNING: certificates are not verified" in one_line(run)


def test_data_directory_that_cannot_be(jettyctl: Jettyctl, env: dict[str, str], file: Path) -> None:
    """Where nothing can be written, the line names the variable that moves it."""
    env["JETTY_DATA_DIR"] = os.devnull + "/data"
    run = jettyctl("upload", "file", check=1)
    assert "JETTY_DATA_DIR" in one_line(run)

"""What examples/ shows of the control plane: the walk with curl, and the set-up for many machines, without its containers.

Postgres, Valkey, the store and the service are real; the service gets the very arguments of compose.yaml, and of the
systemd unit, but for addresses of this machine.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import typer
import yaml  # comes with moto

from jettyctl.cli.app import app
from jettyctl.server.control.settings import PORT
from tests.support.databases import Postgres, Valkey, sqlite_backend
from tests.support.plane import PlaneProcess, lines_of, new_key
from tests.support.running import ROOT, Jettyctl
from tests.support.servers import MotoServer, Server, bare_environment, client, stop
from tests.support.uploading import API, MIB, Sender

EXAMPLES = Path(ROOT) / "examples"
FOLDER = EXAMPLES / "control-plane"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
UNIT = (FOLDER / "jettyctl-serve.service").read_text(encoding="utf-8")
SECRET = re.compile(r"\$\{(\w+):\?\}")
PUBLIC = "control.example.com"


@pytest.fixture(scope="module")
def store() -> Iterator[Server]:
    """An S3 server that has the bucket of the example."""
    with MotoServer() as server:
        server.bucket = "jetty"
        with client(server) as s3:
            s3.create_bucket(Bucket="jetty")
        yield server


@pytest.fixture(scope="module")
def settings(postgres: Postgres, valkey: Valkey, store: Server) -> Iterator[dict[str, str]]:
    """The environment of the example's service, with the servers of this machine in it. The database is empty.

    Other services may use the same Valkey: users here must have names of their own, or they share their limits.
    """
    url = postgres.new_database()
    here = {"JETTY_DATABASE_URL": url, "JETTY_REDIS_URL": valkey.url}
    here |= {name: store.env[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    assert here.keys() == COMPOSE["services"]["serve"]["environment"].keys()
    yield here
    postgres.drop_database(url)


@contextmanager
def serving(arguments: list[str], environment: dict[str, str], *changes: str) -> Iterator[str]:
    """The address of a service, started with `jettyctl ARGUMENTS CHANGES`. It may write into no directory but /tmp."""
    command = [*Jettyctl({}, ROOT).command(*arguments, *changes, "--host=127.0.0.1", "--port=0", "--monitor-seconds=0")]
    nowhere = {"JETTY_DATA_DIR": "/nonexistent/data", "HOME": "/nonexistent", "PYTHONPATH": ROOT}
    process = subprocess.Popen(
        command, env={**bare_environment(), **environment, **nowhere}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr
        line = process.stderr.readline()
        assert line.startswith("listening on "), line + process.stderr.read()
        yield line.split()[-1]
    finally:
        stop(process, 15)
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stderr.close()


@pytest.mark.slow
def test_sqlite_serves_one_process(tmp_path: Path) -> None:
    """A second service on the same SQLite database is refused, as long as the first one lives."""
    with sqlite_backend(tmp_path) as backend:
        new_key(backend.database_url)
        command = ["serve", f"--database-url={backend.database_url}", f"--store=local:{tmp_path}/objects"]
        with serving(command, {}):
            second = Jettyctl({}, ROOT)(*command, "--port=0", check=2)
            assert "another jettyctl serve works on this database" in second.stderr
        with serving(command, {}) as url:
            assert httpx.get(f"{url}/health", trust_env=False).status_code == 200


def unit_lines(name: str) -> list[list[str]]:
    """The values of a setting of the unit, cut into words."""
    joined = UNIT.replace("\\\n", " ")
    return [shlex.split(value) for value in re.findall(rf"^{name}=(.*)$", joined, re.MULTILINE)]


def test_the_walk_with_curl(plane: PlaneProcess, tmp_path: Path) -> None:
    """It tells of an upload by the four endpoints, and the second time the content is known."""
    assert shutil.which("curl")
    path = tmp_path / 'a "strange" näme.bin'
    path.write_bytes(os.urandom(1000))
    key = new_key(plane.settings.database_url)[1]
    command = ["bash", str(EXAMPLES / "four-endpoints.sh"), str(path)]

    def walk(key: str) -> subprocess.CompletedProcess[str]:
        environment = {**bare_environment(), "JETTY_URL": plane.url, "JETTY_KEY": key}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    first = walk(key)
    assert first.returncode == 0, first.stderr
    service, edges, unknown, begun, kept, chunks, told, done, known = map(json.loads, first.stdout.splitlines())
    assert service["userId"] == "usr_1"
    assert (len(edges["edges"]), edges["duplicate"], unknown["isDuplicate"]) == (6, None, False)
    session = begun["session"]["sessionId"]
    assert kept["chunk"] == {"sessionId": session, "chunkIndex": 0, "status": "completed"}
    assert (chunks["total"], chunks["chunks"][0]["bytesUploaded"]) == (1, 1000)
    assert told["progress"] == {"chunksCompleted": 1, "bytesUploaded": 1000}
    assert done == {"success": True, "message": "The upload is complete.", "sessionId": session}
    assert (known["isDuplicate"], known["file"]["fileName"]) == (True, "a strange näme.bin")
    again = walk(key)
    assert (again.returncode, json.loads(again.stdout.splitlines()[-1])["isDuplicate"]) == (0, True)
    refused = walk("wrong")
    assert (refused.returncode, '"error":"unauthorized"' in refused.stderr, refused.stdout) == (1, True, "")
    assert key not in first.stderr + first.stdout


@pytest.mark.slow
def test_the_compose_file_starts_a_service(settings: dict[str, str], store: Server, jettyctl: Jettyctl) -> None:
    """Its commands make the schema and start two workers, which answer, and store a file in S3 by signed requests."""
    services = COMPOSE["services"]
    jettyctl(*services["migrate"]["command"], env=settings, check=0)
    refused = jettyctl(*services["serve"]["command"], "--port=0", env=settings)
    assert (refused.returncode, "there are no keys yet" in refused.stderr) == (2, True)
    made = jettyctl("keys", "create", "--user", "usr_compose", "--tenant", "films", env=settings, check=0)
    with (
        serving(services["serve"]["command"], settings, f"--endpoint-url={store.endpoint}") as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {made.stdout.strip()}", "Host": PUBLIC}) as user,
    ):
        answers = [user.post(f"{API}/check-duplicate", json={"userId": "usr_compose", "fileHash": "x"}) for _ in range(10)]
        assert [answer.status_code for answer in answers] == [200] * 10
        sender = Sender(user, os.urandom(6 * MIB), "dir/file.bin")
        assert sender.upload()["url"] == f"https://{PUBLIC}{API}/object/content?key=dir/file.bin"
        with client(store) as s3:
            assert s3.get_object(Bucket="jetty", Key="control/films/dir/file.bin")["Body"].read() == sender.content
        assert user.get("/health", headers={"Host": "another.example.com"}).status_code == 421


@pytest.mark.slow
def test_the_unit_starts_a_service(settings: dict[str, str], store: Server, tmp_path: Path) -> None:
    """The command of the systemd unit, with a certificate in the place of its own, speaks TLS."""
    (migrate,), (serve,) = unit_lines("ExecStartPre"), unit_lines("ExecStart")
    assert migrate[1:] == COMPOSE["services"]["migrate"]["command"]
    authority = trustme.CA()
    made = authority.issue_cert(PUBLIC, "127.0.0.1")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    arguments = [word.replace("%d", str(tmp_path)) for word in serve[1:]]
    subprocess.run(
        Jettyctl({}, ROOT).command(*migrate[1:]), env={**bare_environment(), **settings, "PYTHONPATH": ROOT}, check=True
    )
    key = new_key(settings["JETTY_DATABASE_URL"], user="usr_2")[1]
    with serving(arguments, settings, f"--endpoint-url={store.endpoint}") as url:
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        with httpx.Client(base_url=url, verify=context, headers={"Authorization": f"Bearer {key}"}) as user:
            service = user.get(f"{API}/service").raise_for_status().json()
    assert (service["userId"], service["store"]["kind"]) == ("usr_2", "s3")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_is_sound(tmp_path: Path) -> None:
    """systemd finds nothing wrong with the unit, and little exposed by it."""
    program = tmp_path / "jettyctl"
    program.touch(0o755)
    path = tmp_path / "jettyctl-serve.service"
    path.write_text(UNIT.replace("/opt/jettyctl/bin/jettyctl", str(program)), encoding="utf-8")
    checked = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    exposed = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(path)]  # of 100
    rated = subprocess.run(exposed, capture_output=True, text=True)
    assert rated.returncode == 0, rated.stdout


def test_no_secret_is_in_the_compose_file() -> None:
    """Each comes from the env file, which names all of them and gives none, and reaches the services that need it."""
    given = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / "env.example").read_text(encoding="utf-8"), re.MULTILINE))
    services = COMPOSE["services"]
    used = {name: {*SECRET.findall(str(service.get("environment", {})))} for name, service in services.items()}
    assert set().union(*used.values()) == set(given)
    assert set(given.values()) == {""}
    assert not used["cache"] | used["proxy"]
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|SECRET|KEY|MC_HOST|DATABASE_URL", name) or SECRET.search(value), name
        assert not SECRET.search(str(service.get("command")))


def test_every_variable_of_the_examples_exists() -> None:
    """The JETTY_ variables are those of `serve`, of the data directory, and of the walk itself."""
    serve: Any = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]  # the parser exports no types
    known = {option.envvar for option in serve.params} | {"JETTY_DATA_DIR"}
    texts = [path.read_text(encoding="utf-8") for path in FOLDER.iterdir()]
    assert set().union(*(re.findall(r"JETTY_\w+", text) for text in texts)) <= known


def test_the_services_find_each_other() -> None:
    """Names, ports and addresses of the compose file, the proxy's file and the Dockerfile fit each other."""
    services = COMPOSE["services"]
    proxied = (FOLDER / "Caddyfile").read_text(encoding="utf-8")
    arguments = services["serve"]["command"]
    assert set(re.findall(r"reverse_proxy (\S+)", proxied)) == {f"serve:{PORT}", "store:9000"}
    assert f"--port={PORT}" in arguments
    sites = re.findall(r"^([\w.]+) \{$", proxied, re.MULTILINE)
    assert {f"--public-url=https://{sites[0]}", f"--endpoint-url=https://{sites[1]}"} <= {*arguments}
    network = services["proxy"]["networks"]["proxy"]
    assert (f"--behind-proxy={network['ipv4_address']}" in arguments, network["aliases"]) == (True, [sites[1]])
    for name, service in services.items():
        assert {*service.get("depends_on", ())} <= {*services}, name
        assert {volume.split(":")[0] for volume in service.get("volumes", ()) if not volume.startswith(".")} <= {
            *COMPOSE["volumes"]
        }
    build = services["migrate"]["build"]
    dockerfile = (FOLDER / build["context"] / build["dockerfile"]).read_text(encoding="utf-8")
    assert f"EXPOSE {PORT}" in dockerfile
    sources = re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE)
    assert all((Path(ROOT) / name).exists() for line in sources for name in line.split())


def test_what_operators_watch_is_documented(plane: PlaneProcess) -> None:
    """docs/running-control-plane.md names each metric with its labels, each field of a log line."""
    page = (Path(ROOT) / "docs" / "running-control-plane.md").read_text(encoding="utf-8")
    with plane.client(new_key(plane.settings.database_url)[1]) as user:
        user.post(f"{API}/cache-chunk", json={"sessionId": "s", "chunkIndex": 0, "status": "completed"}).raise_for_status()
        text = user.get("/metrics").text
    found = {
        name: {*re.findall(r'(\w+)="', labels)} for name, labels in re.findall(r"^(jetty_\w+?)(?:\{(.*)\})? ", text, re.MULTILINE)
    }
    rows = re.findall(r"^\| `(jetty_\w+)` \|([^|]*)\|", page, re.MULTILINE)
    written = {name: {*re.findall(r"\w+", labels)} for name, labels in rows}
    base = {re.sub("_(bucket|count|sum|created)$", "", name) for name in found}
    assert {re.sub("_total$", "", name) for name in base} == {re.sub("_total$", "", name) for name in written}
    assert all(found[name] == labels for name, labels in written.items() if name in found)
    shown = json.loads(re.findall(r"^```json\n(\{\"ts\".*)\n```", page, re.MULTILINE)[0])
    assert shown.keys() == lines_of(plane.log)[-1].keys()

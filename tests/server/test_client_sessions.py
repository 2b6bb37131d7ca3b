"""Keys and sessions from the command line: logging in and out, and looking at what other machines do."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.machines import Hosted, Machine, machine, until
from tests.support.databases import Backend
from tests.support.plane import PlaneProcess, plane_settings
from tests.support.running import Jettyctl, random_file

MIB = 1 << 20


@pytest.fixture(scope="module")
def hosted(shared_backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A control plane with an embedded store."""
    directory = tmp_path_factory.mktemp("hosted")
    with PlaneProcess(plane_settings(shared_backend, directory), directory) as plane:
        yield Hosted(plane, "acme", directory)


@pytest.fixture
def here(hosted: Hosted, env: dict[str, str], tmp_path: Path) -> Machine:
    """A machine that has logged in."""
    return machine(hosted, env, tmp_path / "here")


@pytest.fixture
def fresh(hosted: Hosted, env: dict[str, str], tmp_path: Path) -> Jettyctl:
    """A machine that has not; it knows the control plane from its configuration."""
    env |= {"JETTY_CONFIG_DIR": str(tmp_path / "config"), "JETTY_DATA_DIR": str(tmp_path / "data")}
    run = Jettyctl(env, str(tmp_path))
    run("config", "set", "control", hosted.plane.url, check=0)
    return run


def test_logging_in(hosted: Hosted, fresh: Jettyctl, tmp_path: Path) -> None:
    """Without a key an upload says to log in; with one it goes; after logging out it does not."""
    (tmp_path / "f").write_text("content")
    assert "jettyctl login" in fresh("upload", "f", "jetty:login/", check=4).stderr
    key = hosted.api_key()
    (tmp_path / "key").write_text(key + "\n")
    assert "usr_1 in acme" in fresh("login", "--key-file", "key", check=0).stdout
    fresh("upload", "f", "jetty:login/", check=0)
    assert hosted.stored("login/f") == b"content"
    fresh("logout", check=0)
    assert "jettyctl login" in fresh("upload", "f", "jetty:login/", check=4).stderr
    fresh("upload", "f", "jetty:login/", env={"JETTY_API_KEY": key}, check=0)
    fresh("upload", "f", "jetty:login/", env={"JETTY_API_KEY_FILE": str(tmp_path / "key")}, check=0)


def test_a_wrong_key_is_not_kept(fresh: Jettyctl) -> None:
    """The control plane is asked before a key is kept, and the key is not repeated."""
    wrong = "jty_" + "A" * 43
    refused = fresh("login", input=wrong, check=4)
    assert wrong not in refused.stdout + refused.stderr
    assert not os.path.exists(os.path.join(fresh.environment["JETTY_CONFIG_DIR"], "keys.json"))


def test_the_prompt_does_not_echo(hosted: Hosted, fresh: Jettyctl) -> None:
    """On a terminal the key is asked for, and what is typed is not shown."""
    key = hosted.api_key()
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        fresh.command("login"), env=dict(fresh.environment), cwd=fresh.cwd,
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while b"Key for" not in shown:
        shown += os.read(leader, 1000)
    os.write(leader, key.encode() + b"\n")
    assert process.wait(30) == 0
    while True:
        try:
            shown += os.read(leader, 1000)
        except OSError:  # everything was read
            break
    os.close(leader)
    assert b"logged in" in shown
    assert key.encode() not in shown


def test_no_control_plane(jettyctl: Jettyctl, tmp_path: Path) -> None:
    """Where none is configured, that is said; where nobody answers, that; plain HTTP to others is refused."""
    (tmp_path / "f").write_text("x")
    assert "config set control" in jettyctl("upload", "f", "jetty:a/", check=2).stderr
    assert "config set control" in jettyctl("login", input="jty_12345678", check=2).stderr
    assert "not encrypted" in jettyctl("config", "set", "control", "http://example.com", check=2).stderr
    assert "cannot connect" in jettyctl("login", "--control", "http://127.0.0.1:1", input="jty_12345678", check=5).stderr


def test_a_named_control_plane(hosted: Hosted, here: Machine, tmp_path: Path) -> None:
    """`jetty://host/` needs no configuration, and is where the URL in the result leads."""
    (tmp_path / "f").write_text("named")
    place = hosted.plane.url.replace("http://", "jetty://")
    done = here("upload", str(tmp_path / "f"), f"{place}/named/", env={"JETTY_CONTROL": ""}, check=0)
    assert f"{place}/named/f" in done.stdout
    here("verify", str(tmp_path / "f"), f"{place}/named/f", env={"JETTY_CONTROL": ""}, check=0)


def test_listing_and_giving_up(here: Machine, tmp_path: Path) -> None:
    """Sessions of the user are listed with who holds them, found by the beginning of an id, and given up."""
    path = tmp_path / "big.bin"
    random_file(path, 20 * MIB)
    process = here.start("upload", str(path), "jetty:listed.bin", "--limit-rate", "5MiB/s")
    until(here.sessions, "a session")
    session = here.sessions()[0].session_id
    until(lambda: session in here("sessions", "list", "--remote", check=0).stdout, "the session at the control plane")
    process.kill()
    process.wait()
    listed = here("sessions", "list", "--remote", "--json", check=0).events[0]
    found = next(one for one in listed["sessions"] if one["sessionId"] == session)
    assert (listed["type"], found["key"], found["fileSize"]) == ("sessions", "listed.bin", 20 * MIB)
    assert f"held by {os.uname().nodename}" in here("sessions", "list", "--remote", check=0).stdout
    assert session in here("sessions", "abort", session[:13], "--remote", check=0).stdout
    refused = here("resume", session, str(path), "--take-over", env={"JETTY_DATA_DIR": str(tmp_path / "other")}, check=2)
    assert "failed" in refused.stderr


def test_unknown_sessions(here: Machine, tmp_path: Path) -> None:
    """An id that nobody knows is told, with where it was looked for."""
    (tmp_path / "f").write_text("x")
    unknown = "0b9d5f3e-0000-4000-8000-000000000000"
    for named in (unknown, unknown[:8]):
        refused = here("resume", named, str(tmp_path / "f"), check=2)
        assert "there is no session" in refused.stderr
        assert "--remote" in refused.stderr

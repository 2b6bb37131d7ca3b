"""The configuration file: what it changes, who wins, and how a broken one is told and repaired."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.support.running import Jettyctl


@pytest.fixture
def file(env: dict[str, str], tmp_path: Path) -> Path:
    """Where the file is; its directory does not exist yet."""
    env["JETTY_CONFIG_DIR"] = str(tmp_path / "outer" / "config")
    env["JETTY_DATA_DIR"] = str(tmp_path / "data")
    return tmp_path / "outer" / "config" / "config.toml"


def write(file: Path, text: str, mode: int = 0o600) -> None:
    """Put the file there as an editor would."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def plan_of(jettyctl: Jettyctl, *args: str, env: dict[str, str] | None = None) -> str:
    """What a dry run of an upload writes to stdout."""
    return jettyctl("upload", "--dry-run", *args, env=env, check=0).stdout


def test_path(jettyctl: Jettyctl, file: Path) -> None:
    """`path` names the file, also before there is one."""
    assert jettyctl("config", "path", check=0).stdout == f"{file}\n"


def test_set_makes_a_private_file(jettyctl: Jettyctl, file: Path) -> None:
    """The first `set` makes the directory 0700 and the file 0600, whatever the umask."""
    jettyctl("config", "set", "threads", "16", check=0)
    assert file.read_text() == "threads = 16\n"
    assert (mode_of(file), mode_of(file.parent)) == (0o600, 0o700)
    assert os.listdir(file.parent) == ["config.toml"]


def test_set_keeps_the_rest_of_the_file(jettyctl: Jettyctl, file: Path) -> None:
    """Comments, order and other keys survive a change and a removal."""
    write(file, '# mine\nregion = "eu"  # near\n\n# few\nthreads = 2\n')
    jettyctl("config", "set", "threads", "4", check=0)
    assert file.read_text() == '# mine\nregion = "eu"  # near\n\n# few\nthreads = 4\n'
    jettyctl("config", "unset", "threads", check=0)
    assert 'region = "eu"  # near\n' in file.read_text()
    assert "threads" not in file.read_text()


def test_a_link_stays_a_link(jettyctl: Jettyctl, file: Path, tmp_path: Path) -> None:
    """A file that is linked from elsewhere is changed there."""
    write(tmp_path / "dotfiles" / "jetty.toml", "threads = 2\n")
    file.parent.mkdir(parents=True)
    file.symlink_to(tmp_path / "dotfiles" / "jetty.toml")
    jettyctl("config", "set", "threads", "4", check=0)
    assert file.is_symlink()
    assert file.read_text() == "threads = 4\n"


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (("chunk-size", "16MiB"), 'chunk-size = "16MiB"'),
        (("no-verify-tls", "true"), "no-verify-tls = true"),
        (("progress", "false"), "progress = false"),
        (("verbose", "2"), "verbose = 2"),
        (("exclude", "*.o", "a b"), 'exclude = ["*.o", "a b"]'),
        (("profile", "007"), 'profile = "007"'),
        (("destination", "s3://bucket/prefix/"), 'destination = "s3://bucket/prefix/"'),
        (("if-exists", "skip"), 'if-exists = "skip"'),
    ],
)
def test_values_are_written_as_toml(jettyctl: Jettyctl, file: Path, words: tuple[str, ...], written: str) -> None:
    """Each kind of value has its form in the file, and is read back as it was given."""
    jettyctl("config", "set", *words, check=0)
    assert file.read_text() == written + "\n"
    assert jettyctl("config", "get", words[0], check=0).stdout == " ".join(words[1:]) + "\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("threads", "900"), "threads: '900' is not a number of threads"),
        (("chunk-size", "16Q"), "chunk-size: '16Q' is not a size"),
        (("limit-rate", "fast"), "limit-rate: 'fast' is not a rate"),
        (("json", "yes"), "json: it must be true or false"),
        (("verbose", "-1"), "verbose"),
        (("if-exists", "maybe"), "if-exists: 'maybe' is not one of 'overwrite', 'skip', 'fail'"),
        (("destination", "nowhere"), "destination: 'nowhere' is not a destination"),
        (("metadata", "a=b", "c"), "metadata: 'c' is not KEY=VALUE"),
        (("region", "eu", "us"), "region takes one value"),
        (("thread", "4"), "there is no setting called 'thread' (did you mean threads?)"),
        (("dry-run", "true"), "there is no setting called 'dry-run'"),
        (("name", "x"), "there is no setting called 'name'"),
    ],
)
def test_what_the_option_refuses_is_not_written(jettyctl: Jettyctl, file: Path, words: tuple[str, ...], why: str) -> None:
    """A value that upload would refuse is refused here, and nothing is written."""
    result = jettyctl("config", "set", "--", *words, check=2)
    assert why in result.stderr
    assert not file.exists()


def test_list_tells_where_values_come_from(jettyctl: Jettyctl, file: Path) -> None:
    """A variable wins over the file, the file over the default; `list` says which it was."""
    write(file, 'region = "eu"\nthreads = 4\nexclude = ["*.o", "*.tmp"]\n')
    result = jettyctl("config", "list", env={"JETTY_REGION": "us"}, check=0)
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["exclude", "*.o", "*.tmp", "(file)"],
        ["threads", "4", "(file)"],
        ["region", "us", "(environment", "JETTY_REGION)"],
    ]
    everything = jettyctl("config", "list", "--all", check=0).stdout
    assert ["priority", "balanced", "(default)"] in [line.split() for line in everything.splitlines()]


def test_list_and_get_as_json(jettyctl: Jettyctl, file: Path) -> None:
    """`--json` is one object, with values in their types."""
    write(file, "quiet = true\n")
    listed = json.loads(jettyctl("config", "list", "--json", check=0).stdout)
    assert listed == {"schema": 1, "type": "config", "settings": [{"key": "quiet", "value": True, "source": "file"}]}
    got = json.loads(jettyctl("config", "get", "region", "--json", check=0).stdout)
    assert got == {"schema": 1, "type": "setting", "key": "region", "value": None, "source": "default"}


def test_unset_of_what_is_not_there(jettyctl: Jettyctl, file: Path) -> None:
    """Removing what is not in the file says so."""
    assert "threads is not in" in jettyctl("config", "unset", "threads", check=2).stderr


def test_upload_takes_its_defaults_from_the_file(jettyctl: Jettyctl, file: Path, tmp_path: Path) -> None:
    """The destination of the file is used where the command line names none, and variables and arguments win over it."""
    (tmp_path / "a.txt").write_text("content")
    write(file, 'destination = "local:from-file/"\nthreads = 3\n')
    assert "local:from-file/a.txt" in plan_of(jettyctl, "a.txt")
    assert "local:from-variable/a.txt" in plan_of(jettyctl, "a.txt", env={"JETTY_DESTINATION": "local:from-variable/"})
    assert "local:from-argument/a.txt" in plan_of(jettyctl, "a.txt", "local:from-argument/")


def test_other_commands_take_what_they_know(jettyctl: Jettyctl, file: Path, tmp_path: Path) -> None:
    """A connection option of the file also serves `verify`; keys that a command lacks do not disturb it."""
    (tmp_path / "a.txt").write_text("content")
    write(file, 'endpoint-url = "nonsense://"\nthreads = 3\n')
    assert "nonsense" in jettyctl("verify", "a.txt", "s3://bucket/a", check=2).stderr
    jettyctl("hash", "a.txt", check=0)


def test_an_unknown_key_is_named(jettyctl: Jettyctl, file: Path) -> None:
    """A key that no option has stops every command, with the file, the key and the command that removes it."""
    write(file, "thread = 4\n")
    for command in (("hash",), ("config", "list")):
        result = jettyctl(*command, check=2)
        assert f"{file}: there is no setting called 'thread' (did you mean threads?)" in result.stderr
        assert "jettyctl config unset thread" in result.stderr
        assert result.stderr.count("\n") == 1
    jettyctl("config", "unset", "thread", check=0)
    jettyctl("hash", check=0)


@pytest.mark.parametrize(
    "line", ["threads = 900", "threads = true", "quiet = 1", "exclude = [1, [2]]", "[threads]", "verbose = -1"]
)
def test_a_wrong_value_is_named(jettyctl: Jettyctl, file: Path, line: str) -> None:
    """A value that the option refuses is told with the file, the key and what to do, and `set` mends it."""
    write(file, line + "\n")
    key = line.strip("[]").split()[0]
    result = jettyctl("hash", check=2)
    assert f"{file}: {key}: " in result.stderr
    assert f"jettyctl config set {key} VALUE" in result.stderr
    jettyctl("config", "set", key, "true" if key == "quiet" else "4", check=0)
    jettyctl("hash", check=0)


@pytest.mark.parametrize("content", [b"threads = \n", b"threads = 1\nthreads = 2\n", b"region = '\xff'\n"])
def test_a_broken_file_is_named(jettyctl: Jettyctl, file: Path, content: bytes) -> None:
    """TOML that does not parse is one line with the file in it, and `set` does not touch it."""
    write(file, "")
    file.write_bytes(content)
    for command in (("hash",), ("config", "set", "region", "eu"), ("config", "list")):
        result = jettyctl(*command, check=2)
        assert f"{file} is not valid TOML" in result.stderr
        assert result.stderr.count("\n") == 1
    assert file.read_bytes() == content
    jettyctl("config", "path", check=0)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_is_refused(jettyctl: Jettyctl, file: Path, mode: int) -> None:
    """Settings that somebody else may have written are not followed, nor blessed by a `set`."""
    write(file, "threads = 4\n", mode)
    for command in (("hash",), ("config", "set", "threads", "5")):
        result = jettyctl(*command, check=2)
        assert f"others can write to {file}" in result.stderr
        assert f"chmod 600 {file}" in result.stderr
    assert file.read_text() == "threads = 4\n"


def test_a_file_that_cannot_be_read(jettyctl: Jettyctl, file: Path) -> None:
    """A directory in the file's place is told, not ignored."""
    file.mkdir(parents=True)
    assert f"cannot read {file}: Is a directory" in jettyctl("hash", check=2).stderr


def test_a_directory_that_cannot_be_made(jettyctl: Jettyctl, env: dict[str, str], tmp_path: Path) -> None:
    """Where no file can be written, `set` says so and names the variable that helps."""
    (tmp_path / "plain").write_text("")
    env["JETTY_CONFIG_DIR"] = str(tmp_path / "plain" / "config")
    result = jettyctl("config", "set", "threads", "4", check=2)
    assert "cannot write" in result.stderr
    assert "JETTY_CONFIG_DIR" in result.stderr
    jettyctl("hash", check=0)

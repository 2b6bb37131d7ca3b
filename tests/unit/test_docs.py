"""The documentation is a promise: what the program has is described, and what is described exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

import jettyctl
import jettyctl.errors
from jettyctl.cli.app import app
from jettyctl.cli.json_lines import summary_of
from jettyctl.cli.output import error_record
from jettyctl.cli.verify import Proof
from jettyctl.core.events import Event, FileDone, Planned, Progress
from jettyctl.engine.batch import Outcome
from jettyctl.engine.housekeeping import Garbage
from jettyctl.errors import CTRL_C, JettyError

ROOT = Path(jettyctl.__file__).parent.parent
DOCS = ROOT / "docs"
TEXT = {".py", ".md", ".sh", ".toml", ".bash", ".fish", ".c", ".yml", ".yaml", ".txt"}
FOLDERS = ("jettyctl", "docs", "examples", "tests", "completions")
OWN_DIRECTORY = re.compile(r"(?<![\w.~$}-])/(?:root|work|home/(?!user\b|me\b)\w+|Users/(?!you\b)\w+)/\w")
VARIABLE = re.compile(r"\bJETTY_[A-Z0-9_]*[A-Z0-9]\b")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(name: str) -> str:
    """A document below docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - the parser exports no types
    """Every command that does something, with its path (`sessions gc`)."""
    if hasattr(command, "commands"):
        if command.invoke_without_command and path:
            yield path, command
        for name, child in command.commands.items():
            yield from commands(child, f"{path} {name}".strip())
    else:
        yield path, command


def options(command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - as above
    """Every spelling of every option of a command, with the option."""
    for parameter in command.params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            if name.startswith("-"):
                yield name, parameter


def error_classes(base: type[JettyError] = JettyError) -> Iterator[type[JettyError]]:
    """Every error that jettyctl raises on purpose."""
    yield base
    for child in base.__subclasses__():
        yield from error_classes(child)


def names_of(kind: type) -> list[str]:
    """The fields of an event, which are the keys of its JSON line."""
    names: Sequence[str] = getattr(kind, "_fields", None) or [field.name for field in fields(kind)]
    return list(names)


def section(text: str, heading: str) -> str:
    """What stands below the headings that name something, up to the next heading of the same level or above."""
    lines, level, found = text.splitlines(), 0, []
    for line in lines:
        marks = len(line) - len(line.lstrip("#")) if line.startswith("#") else 0
        if marks and (not level or marks <= level):
            level = marks if f"`{heading}`" in line else 0
        if level:
            found.append(line)
    return "\n".join(found)


COMMANDS = dict(commands(typer.main.get_command(app)))
LINES = {
    "plan": names_of(Planned),
    "progress": names_of(Progress),
    "result": names_of(FileDone),
    "error": [*error_record(JettyError("")), "url", "session_id"],
    "summary": [*summary_of(Outcome()), "resume"],
    "verify": ["source", "identical", *names_of(Proof)],
}


@pytest.mark.parametrize("path", list(COMMANDS))
def test_every_command_is_documented(path: str) -> None:
    """docs/commands.md names each command, and the command says itself what it does."""
    assert re.search(rf"`(?:jettyctl )?{path}\b", text_of("commands.md")), path
    assert COMMANDS[path].help


@pytest.mark.parametrize("path", list(COMMANDS))
def test_every_option_is_documented(path: str) -> None:
    """docs/commands.md names each option by all its names, in the section of its command, and each has a help text."""
    text = section(text_of("commands.md"), f"jettyctl {path.split()[0]}")
    for name, option in options(COMMANDS[path]):
        assert re.search(rf"`{name}[` ]", text), f"{path} {name} is not in docs/commands.md"
        assert option.help, f"{path} {name} has no help text"


def test_no_option_is_invented() -> None:
    """Every option in docs/commands.md exists."""
    known = {name for command in COMMANDS.values() for name, _ in options(command)} | {"--help", "-h", "--version"}
    own = re.sub(r"`aws .*?`|sha256sum -c", "", text_of("commands.md"))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", own)) <= known


def test_the_variables_are_those_that_exist() -> None:
    """The JETTY_ variables in the documents are those of the options, and those that the program reads itself."""
    declared = {option.envvar for command in COMMANDS.values() for _, option in options(command) if option.envvar}
    read = set().union(*(VARIABLE.findall(path.read_text(encoding="utf-8")) for path in (ROOT / "jettyctl").rglob("*.py")))
    documented = set().union(*(VARIABLE.findall(path.read_text(encoding="utf-8")) for path in DOCS.glob("*.md")))
    assert documented == declared | read
    assert set(VARIABLE.findall(text_of("commands.md"))) == documented


@pytest.mark.parametrize("error", list(error_classes()), ids=lambda error: error.__name__)
def test_every_error_is_documented(error: type[JettyError]) -> None:
    """docs/exit-codes.md has a row for each code, with its exit status and whether it is retryable, and each status."""
    text = text_of("exit-codes.md")
    assert f"| `{error.code}` | {error.exit_status} | {'yes' if error.retryable else 'no'} |" in text
    assert re.search(rf"^\| {error.exit_status} \|", text, re.MULTILINE)


def test_the_exit_statuses_are_those_that_exist() -> None:
    """The table of statuses has 0, Ctrl-C, and those of the errors; nothing else."""
    table = text_of("exit-codes.md").partition("## Error codes")[0]
    statuses = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert statuses == {0, CTRL_C, *(error.exit_status for error in error_classes())}


@pytest.mark.parametrize("kind", list(LINES))
def test_every_json_line_is_documented(kind: str) -> None:
    """docs/json.md has a section for each type of line, whose table has exactly its fields."""
    text = section(text_of("json.md"), kind)
    assert {*re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)} == set(LINES[kind]) - {"type"}


@pytest.mark.parametrize("kind", list(LINES))
def test_the_sample_lines_are_those_of_the_program(kind: str) -> None:
    """Each sample line in docs/json.md has all fields of its type, and no others; only `resume` may be missing."""
    samples = [json.loads(line) for line in re.findall(r'^\{"schema".*', text_of("json.md"), re.MULTILINE)]
    found = [sample for sample in samples if sample["type"] == kind]
    assert found
    for sample in found:
        assert {*sample, "resume"} == {"schema", "type", "resume", *LINES[kind]}


def test_the_other_json_lines_are_documented() -> None:
    """docs/json.md names every type that is written anywhere, and the fields of those that commands make themselves."""
    text = text_of("json.md")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "jettyctl" / "cli").glob("*.py")]
    kinds = {kind for source in sources for kind in re.findall(r'"type": "(\w+)"', source)}
    assert {"verify", "config", "setting", "sessions", "session", "gc", "error"} <= kinds
    keys = [*Garbage("record", "", "").to_json(), "dry_run", "identical", "method", "settings"]
    missing = [name for name in [*kinds, *keys] if f"`{name}`" not in text]
    assert not missing


def test_every_public_name_is_documented() -> None:
    """docs/python-api.md names everything that `from jettyctl import …` offers, and every event and error class."""
    text = text_of("python-api.md")
    events = re.findall(
        r"^class (\w+)", Path(jettyctl.__file__).with_name("core").joinpath("events.py").read_text(), re.MULTILINE
    )
    names = [*jettyctl.__all__, *events, *(name for name in names_of(jettyctl.Connection))]
    assert not [name for name in names if f"`{name}`" not in text and f"`{name}(" not in text]


@pytest.mark.parametrize("event", get_args(Event), ids=lambda event: event.__name__)
def test_every_field_of_an_event_is_documented(event: type) -> None:
    """docs/python-api.md names the fields of each event; those of Planned and Progress are in docs/json.md."""
    text = text_of("python-api.md")
    row = re.search(rf"^\| `{event.__name__}` \|.*", text, re.MULTILINE)
    assert row
    if event not in (Planned, Progress):
        told = section(text, "FileDone") if event is FileDone else row[0]
        assert not [name for name in names_of(event) if f"`{name}`" not in told]


@pytest.mark.parametrize("path", [*sorted(DOCS.glob("*.md")), ROOT / "README.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """A relative link leads to a file that exists, and its fragment to a heading there."""
    if not path.exists():
        pytest.skip(f"there is no {path.name} yet")
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = (path.parent / name) if name else path
        assert target.exists(), f"{path.name}: {link}"
        assert not fragment or fragment in anchors(target), f"{path.name}: {link}"


def anchors(path: Path) -> set[str]:
    """The fragments that a Markdown file's headings answer to."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_nothing_names_a_directory_of_a_developer() -> None:
    """No text file of the project holds an absolute path of the machine that it was written on."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*"))
    texts = [path for path in files if path.is_file() and path.suffix in TEXT and path != Path(__file__)]
    assert len(texts) > 100
    found = [f"{path}: {line}" for path in texts for line in path.read_text("utf-8").splitlines() if OWN_DIRECTORY.search(line)]
    assert not found

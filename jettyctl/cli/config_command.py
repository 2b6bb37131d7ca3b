"""`jettyctl config`: look at and change the settings without knowing where the file is, or TOML."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from jettyctl import config, paths
from jettyctl.cli.output import json_line
from jettyctl.cli.streams import SafeStream
from jettyctl.config import Option
from jettyctl.core.names import printable
from jettyctl.errors import UsageError

Key = Annotated[str, typer.Argument(metavar="KEY", help="The name of an option of `jettyctl upload`, without the dashes.")]
# Not options.Json: a JETTY_ variable for it would change what a repair script reads.
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output; see docs/json.md.")]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in effect and where it comes from: a JETTY_ variable, `file` or `default`."""

    key: str
    value: object
    source: str


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for name, function in (("list", list_), ("get", get), ("set", set_), ("unset", unset), ("path", path)):
        group.command(name, help=function.__doc__)(function)
    app.add_typer(group, name="config", help="Look at or change the defaults of the options.")


def list_(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also the settings that have their built-in default.")] = False,
    json: Json = False,
) -> None:
    """Show the settings in effect, and where each comes from."""
    options = _options(context)
    values = config.settings(config.read(), options)
    found = [_effective(option, values) for option in options.values()]
    shown = [setting for setting in found if everything or setting.source != "default"]
    if json:
        return _print(json_line({"type": "config", "settings": [_record(setting) for setting in shown]}))
    width = max((len(setting.key) for setting in shown), default=0)
    for setting in shown:
        _print(f"{setting.key:{width}}  {_words(setting.value) or '-'}  ({setting.source})")
    return None


def get(context: typer.Context, key: Key, json: Json = False) -> None:
    """Show one setting: the variable's value, else the file's, else the default. An empty line if there is none."""
    options = _options(context)
    option = config.known(key, options)
    setting = _effective(option, config.settings(config.read(), options))
    _print(json_line({"type": "setting", **_record(setting)}) if json else _words(setting.value))


def set_(
    context: typer.Context,
    key: Key,
    values: Annotated[list[str], typer.Argument(metavar="VALUE...", help="The value; several where the option is repeatable.")],
) -> None:
    """Write a setting into the file. The rest of the file stays as it is."""
    import tomlkit

    option = config.known(key, _options(context))
    value = _parsed(option, values)
    document = _document()
    document[key] = value
    _write(tomlkit.dumps(document))


def unset(key: Key) -> None:
    """Remove a setting from the file."""
    import tomlkit

    document = _document()
    if key not in document:
        raise UsageError(f"{printable(key)} is not in {printable(paths.config_file())}", hint="Run `jettyctl config list`.")
    del document[key]
    _write(tomlkit.dumps(document))


def path() -> None:
    """Show where the file is, or would be."""
    _print(printable(paths.config_file()))


def _options(context: typer.Context) -> dict[str, Option]:
    return config.options_of(context.find_root().command)


def _effective(option: Option, file: dict[str, object]) -> Setting:
    value = option.from_environment()
    if value is not None:
        return Setting(option.key, value, f"environment {option.variable}")
    if option.key in file:
        return Setting(option.key, file[option.key], "file")
    return Setting(option.key, option.default(), "default")


def _parsed(option: Option, values: list[str]) -> object:
    """The words of the command line as a TOML value. Raises UsageError for what the option would refuse."""
    if len(values) > 1 and not option.repeatable:
        raise UsageError(f"{option.key} takes one value", hint="Put quotes around a value with spaces.")
    value: object = values if option.repeatable else _scalar(option, values[0])
    try:
        option.check(option.from_toml(value))
    except UsageError as error:
        raise UsageError(f"{option.key}: {error.message}", hint=error.hint) from None
    return value


def _scalar(option: Option, text: str) -> bool | int | str:
    if option.is_flag and text in ("true", "false"):
        return text == "true"
    # 007 stays text: what is read back must be what was written.
    return int(text) if text.isascii() and text.isdigit() and str(int(text)) == text else text


def _document() -> Any:  # noqa: ANN401 - tomlkit's document behaves as a dict
    import tomlkit

    text = config.read_text()
    try:
        return tomlkit.parse(text)
    except ValueError as error:
        raise UsageError(f"{printable(paths.config_file())} is not valid TOML: {error}", hint="Edit the file.") from None


def _write(text: str) -> None:
    """Replace the file at once, private to the user. A link stays a link."""
    target = os.path.realpath(paths.config_file())
    directory = os.path.dirname(target)
    try:
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
        _replace(target, directory, text)
    except OSError as error:
        raise UsageError(
            f"cannot write {printable(target)}: {error.strerror}", hint="Set JETTY_CONFIG_DIR to a directory that can be written."
        ) from None


def _replace(target: str, directory: str, text: str) -> None:
    fd, temporary = tempfile.mkstemp(prefix=".config-", dir=directory)  # made with mode 0600
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _record(setting: Setting) -> dict[str, object]:
    return {"key": setting.key, "value": setting.value, "source": setting.source}


def _words(value: object) -> str:
    """A value for people and for `$(…)`."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(map(_words, value))
    return str(value).lower() if isinstance(value, bool) else printable(str(value))


def _print(text: str) -> None:
    SafeStream(sys.stdout).line(text)

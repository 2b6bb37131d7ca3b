"""`jettyctl config`: look at and change the settings without knowing where the file is, or TOML."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from jettyctl import config, config_file, paths
from jettyctl.cli.output import json_line
from jettyctl.cli.streams import SafeStream
from jettyctl.config import Option
from jettyctl.core.names import printable
from jettyctl.errors import UsageError

Key = Annotated[str, typer.Argument(metavar="KEY", help="The name of an option, without the dashes.")]
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
    option = config.known(key, _options(context))
    value = _parsed(option, values)
    document = config_file.document()
    document[key] = value
    config_file.write(document)


def unset(key: Key) -> None:
    """Remove a setting from the file."""
    document = config_file.document()
    if key not in document:
        raise UsageError(f"{printable(key)} is not in {config_file.shown()}", hint="Run `jettyctl config list`.")
    del document[key]
    config_file.write(document)


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

"""The configuration file: TOML whose keys are the names of options, without the dashes.

The options are those of `upload` and a few of other commands. Every command that has an option of that name takes its
default from here. Beside the keys there are tables, `[edges.ID]`; they belong to `edges/configured.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import typer

from jettyctl import config_file
from jettyctl.core.names import printable
from jettyctl.errors import JettyError, UsageError

# Options that belong to one run; in a file they would be a trap.
_NOT_IN_A_FILE = frozenset({"dry-run", "restart", "files-from", "name"})
# Keys that are no options of upload, and the command that has the option.
_ELSEWHERE = {"edge-domain": ("edges", "enable")}
_TABLES = frozenset({"edges"})
SOURCES = frozenset({"upload", *(group for group, _ in _ELSEWHERE.values())})  # the commands whose options are the settings


class Option:
    """One option of a command, and how its values are read. `parameter` is the parser's own object."""

    def __init__(self, key: str, parameter: Any, context: Any) -> None:  # noqa: ANN401 - the parser does not export its types
        self.key = key
        self.name: str = parameter.name
        self.is_flag: bool = parameter.is_flag and not getattr(parameter, "count", False)
        self.is_count: bool = getattr(parameter, "count", False)
        self.repeatable: bool = parameter.multiple
        self.variable: str | None = parameter.envvar
        self._parameter = parameter
        self._context = context

    def check(self, value: object) -> Any:  # noqa: ANN401 - whatever the command takes
        """The value as the command gets it. Raises UsageError if the option would refuse it."""
        try:
            parsed = self._parameter.process_value(self._context, value)
            _further_check(self.key)(value)
        except typer.BadParameter as error:
            said = " ".join(error.message.split()).removeprefix("Value error, ")
            raise UsageError(said.rstrip(".")) from None
        return parsed

    def default(self) -> object:
        """The built-in default, as a user would write it."""
        return getattr(self._parameter.default, "value", self._parameter.default)

    def from_environment(self) -> object:
        """What the option's variable says, None if it is not set."""
        value = self._parameter.value_from_envvar(self._context)
        return self.check(value) if value is not None and (self.is_flag or self.is_count) else value

    def from_toml(self, value: object) -> object:
        """A value of the file in the form that the parser takes. Raises UsageError for one of the wrong kind."""
        if self.repeatable:
            return [_text(item) for item in (value if isinstance(value, list) else [value])]
        if self.is_flag:
            if not isinstance(value, bool):
                raise UsageError("it must be true or false")
            return value
        if self.is_count:
            if not isinstance(value, int) or value < 0:
                raise UsageError("it must be a number from 0 on")
            return int(value)
        return _text(value)


def defaults(root: Any, found: Mapping[str, object]) -> dict[str, Any]:  # noqa: ANN401 - the parser does not export its types
    """The file's settings for the parser: {command: {parameter: value}}, nested as the commands are. Raises UsageError.

    `root` knows at least the commands in SOURCES, unless there are no settings.
    """
    return _by_command(root, settings(found, options_of(root))) if found else {}


def options_of(root: Any) -> dict[str, Option]:  # noqa: ANN401 - the parser does not export its types
    """What may stand in the file, by key, in the order of `upload --help`."""
    found = {key: option for key, option in _options(root.commands["upload"]).items() if key not in _NOT_IN_A_FILE}
    for key, (group, command) in _ELSEWHERE.items():
        found[key] = _options(root.commands[group].commands[command])[key]
    return found


def settings(found: Mapping[str, object], options: Mapping[str, Option]) -> dict[str, object]:
    """The file's values in the parser's form, each checked. Raises UsageError that names the file and the key."""
    return {key: _setting(key, value, options) for key, value in found.items()}


def known(key: str, options: Mapping[str, Option]) -> Option:
    """The option of a key. Raises UsageError for an unknown one."""
    if key in options:
        return options[key]
    raise UsageError(_unknown(key, options), hint="Run `jettyctl config list --all` for all of them.")


def read() -> dict[str, Any]:
    """The file's settings, without its tables. Raises UsageError for a file that is broken, or open to others."""
    return {key: value for key, value in config_file.read().items() if key not in _TABLES}


def _options(command: Any) -> dict[str, Option]:  # noqa: ANN401 - as above
    context = typer.Context(command, info_name=command.name)
    keyed = {_key_of(parameter): parameter for parameter in command.params}
    return {key: Option(key, parameter, context) for key, parameter in keyed.items() if key}


def _setting(key: str, value: object, options: Mapping[str, Option]) -> object:
    if key not in options:
        message = f"{config_file.shown()}: {_unknown(key, options)}"
        raise UsageError(message, hint=f"Run `jettyctl config unset {printable(key)}`, or edit the file.")
    try:
        taken = options[key].from_toml(value)
        options[key].check(taken)
    except JettyError as error:
        raise UsageError(
            f"{config_file.shown()}: {key}: {error.message}", hint=f"Run `jettyctl config set {key} VALUE`, or edit the file."
        ) from None
    return taken


def _unknown(key: str, options: Mapping[str, Option]) -> str:
    close = difflib.get_close_matches(key, options, 1)
    return f"there is no setting called {printable(key)!r}" + (f" (did you mean {close[0]}?)" if close else "")


def _by_command(command: Any, values: Mapping[str, object]) -> dict[str, Any]:  # noqa: ANN401 - as above
    if hasattr(command, "commands"):
        nested = {name: _by_command(child, values) for name, child in command.commands.items()}
        return {name: found for name, found in nested.items() if found}
    return {parameter.name: values[key] for parameter in command.params if (key := _key_of(parameter)) in values}


def _key_of(parameter: Any) -> str:  # noqa: ANN401 - as above
    """The long name of an option without its dashes; empty for an argument."""
    return next((name[2:] for name in parameter.opts if name.startswith("--")), "")


def _further_check(key: str) -> Callable[[Any], object]:
    """What the command itself checks after parsing: such values must not get into the file either."""
    from jettyctl.cli.options import chunk_size, metadata_of
    from jettyctl.core.targets import control_origin, parse_destination

    checks: dict[str, Callable[[Any], object]] = {
        "chunk-size": chunk_size,
        "control": control_origin,
        "destination": parse_destination,
        "metadata": metadata_of,
    }
    return checks.get(key, lambda _: None)


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError("it must be a text or a number")
    return str(value)

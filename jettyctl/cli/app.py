"""The command tree, and the one place where an error becomes text and an exit status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Any

import typer

from jettyctl import config
from jettyctl.cli import completion
from jettyctl.cli.output import fatal
from jettyctl.cli.streams import SafeStream, mute_at_exit
from jettyctl.errors import CTRL_C, JettyError, UsageError

PROGRAM = "jettyctl"
# Every command, in the order of `--help`, and the module of jettyctl.cli whose `register` adds it.
COMMANDS = {
    "upload": "upload",
    "resume": "resume",
    "sessions": "sessions",
    "hash": "hashing",
    "verify": "verify",
    "login": "login",
    "logout": "login",
    "edge": "edge",
    "edges": "edges",
    "serve": "serve",
    "keys": "keys",
    "config": "config_command",
    "completion": "completion",
}
_TRUE = ("1", "true", "t", "yes", "y", "on")  # as the parser reads variables of flags
# What the parser raises for bad arguments; typer does not export it, and click beside typer is another package.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def tree(names: Collection[str] = COMMANDS.keys()) -> typer.Typer:
    """The command line with these commands; the modules of others are not imported."""
    found = typer.Typer(
        name=PROGRAM,
        help=root.__doc__,
        epilog="Exit status: 0 done, 1 failed, 2 usage, 3 some files failed, 4 credentials, 5 network, 6 integrity, "
        "7 exists already, 8 source changed, 75 interrupted or busy (resumable), 130 Ctrl-C (resumable).",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    found.callback()(root)
    for module in dict.fromkeys(module for name, module in COMMANDS.items() if name in names):
        import_module(f"jettyctl.cli.{module}").register(found)
    return found


def root(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True),
) -> None:
    """Get big files into S3-compatible storage, fast and surely. Every upload can be resumed."""
    if version:
        from jettyctl import __version__

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def __getattr__(name: str) -> typer.Typer:
    """`app` is the whole tree. It is made when somebody asks for it: a run needs one command."""
    if name == "app":
        return tree()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit status. Nothing is raised."""
    completion.prepare()
    defaults: dict[str, Any] = {}
    try:
        settings = _settings(arguments)
        command: Any = typer.main.get_command(tree(_needed(arguments, settings)))
        defaults = config.defaults(command, settings)
        status = command(args=list(arguments), prog_name=PROGRAM, standalone_mode=False, default_map=defaults)
        return (status if isinstance(status, int) else 0) or _lost_output(arguments)
    except JettyError as error:
        return fatal(error, json_mode=_json_mode(arguments, defaults))
    except (KeyboardInterrupt, typer.Abort):
        return CTRL_C
    except _CommandLineError as error:
        return fatal(_usage(error), json_mode=_json_mode(arguments, defaults))
    except OSError as error:
        hint = "Make room, or look at where the output goes."
        return fatal(JettyError(f"the output could not be written: {error.strerror}", hint=hint), json_mode=False)
    except Exception as error:  # noqa: BLE001 - a bug of ours: one line for the user, the trace for the report
        if os.environ.get("JETTY_DEBUG"):
            traceback.print_exc(file=sys.stderr)
        hint = "This is a bug in jettyctl. Run again with JETTY_DEBUG=1 and report what it prints."
        internal = JettyError(f"internal error: {type(error).__name__}: {error}", hint=hint)
        return fatal(internal, json_mode=_json_mode(arguments, defaults))
    finally:
        mute_at_exit()


def _settings(arguments: Sequence[str]) -> Mapping[str, object]:
    """The file's settings where they matter: a broken file must not hinder its repair, nor write into a shell's prompt."""
    return {} if arguments[:1] == ["config"] or completion.completing() else config.read()


def _needed(arguments: Sequence[str], settings: Mapping[str, object]) -> Collection[str]:
    """The commands that a run has to know: the one that is asked for, those that say what a setting may be, or else all."""
    if not arguments or arguments[0] not in COMMANDS:
        return COMMANDS
    return {arguments[0], *config.SOURCES} if settings or arguments[0] == "config" else {arguments[0]}


def _lost_output(arguments: Sequence[str]) -> int:
    """1, and said on standard error, if results went missing on a full disk. A transfer is not its output: it is done."""
    if SafeStream.lost is None or (arguments and arguments[0] in ("upload", "resume")):
        return 0
    reason = getattr(SafeStream.lost, "strerror", None) or SafeStream.lost
    return fatal(
        JettyError(f"the output could not be written: {reason}", hint="Make room, or look at where it goes."), json_mode=False
    )


def _json_mode(arguments: Sequence[str], defaults: Mapping[str, Any]) -> bool:
    """Whether errors are to be JSON, told without the parser: it may be what failed."""
    command = arguments[0] if arguments else ""
    by_variable = os.environ.get("JETTY_JSON", "").lower() in _TRUE
    by_file = defaults.get(command, {}).get("json") is True
    return "--json" in arguments or (command in ("upload", "resume", "sessions", "verify") and (by_variable or by_file))


def _usage(error: Exception) -> UsageError:
    """A parser's complaint, as ours."""
    said = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    path = context.command_path if context else PROGRAM
    return UsageError(
        " ".join(said.replace("Value error, ", "").split()).rstrip(".?"), hint=f"Run `{path} --help` for what is possible."
    )

"""`jettyctl completion`, and what a shell calls when TAB is pressed. The scripts are also checked in under completions/."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from jettyctl.cli.streams import SafeStream

_VARIABLE = "_JETTYCTL_COMPLETE"  # a completion script sets it; the parser then answers the shell and ends the process


class Shell(StrEnum):
    """A shell with a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("completion", help=completion.__doc__)(completion)


def completion(shell: Annotated[Shell, typer.Argument(help="The shell.")]) -> None:
    """Print the script that completes jettyctl in a shell. For bash: source <(jettyctl completion bash)"""
    SafeStream(sys.stdout).line(script(shell))


def script(shell: Shell) -> str:
    """The completion script, without its last line break."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    return get_completion_script(prog_name="jettyctl", complete_var=_VARIABLE, shell=shell.value)


def completing() -> bool:
    """Whether a shell asks, not a person."""
    return bool(os.environ.get(_VARIABLE))


def prepare() -> None:
    """Teach the parser the shells' protocols if one of them asks."""
    if completing():
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()

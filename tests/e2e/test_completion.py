"""Completion is tried in a real shell, and the scripts that are checked in are those that the program prints."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import ROOT, Jettyctl

BASH = shutil.which("bash")
FILES = {"bash": "jettyctl.bash", "zsh": "_jettyctl", "fish": "jettyctl.fish"}
ASK_BASH = """
source {script}
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_jettyctl_completion jettyctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def bash_words(words: str) -> dict[str, str]:
    """The variables in which bash asks for the last of the words."""
    return {"_JETTYCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}


@pytest.mark.parametrize("shell", FILES)
def test_the_scripts_checked_in_are_fresh(jettyctl: Jettyctl, shell: str) -> None:
    """completions/ holds what `jettyctl completion` prints; if not, print it there again."""
    with open(os.path.join(ROOT, "completions", FILES[shell]), encoding="utf-8") as file:
        assert jettyctl("completion", shell, check=0).stdout == file.read()


def test_another_shell_is_a_usage_error(jettyctl: Jettyctl) -> None:
    """A shell that there is no script for is refused."""
    assert jettyctl("completion", "tcsh", check=2).stdout == ""


def test_commands_are_completed(jettyctl: Jettyctl) -> None:
    """The beginning of a command is answered with the command."""
    assert jettyctl(env=bash_words("jettyctl up"), check=0).stdout == "upload\n"


def test_options_are_completed(jettyctl: Jettyctl) -> None:
    """The beginning of an option is answered with the options that it may become."""
    assert "--read-back" in jettyctl(env=bash_words("jettyctl verify --re"), check=0).stdout.split()


def test_values_are_completed(jettyctl: Jettyctl) -> None:
    """An option of few values is answered with them."""
    assert jettyctl(env=bash_words("jettyctl hash --algorithm bl"), check=0).stdout == "blake3\n"


def test_zsh_is_answered(jettyctl: Jettyctl) -> None:
    """zsh gets the command with its help."""
    asked = {"_JETTYCTL_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "jettyctl veri"}
    assert '"verify":"Check that' in jettyctl(env=asked, check=0).stdout


def test_fish_is_answered(jettyctl: Jettyctl) -> None:
    """fish gets the command with its help, and by the exit status whether to offer files."""
    asked = {
        "_JETTYCTL_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_ARGS": "jettyctl veri",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    assert jettyctl(env=asked, check=0).stdout.startswith("verify\tCheck that")
    no_match = {**asked, "_TYPER_COMPLETE_ARGS": "jettyctl hash x", "_TYPER_COMPLETE_FISH_ACTION": "is-args"}
    jettyctl(env=no_match, check=1)


def test_a_broken_configuration_does_not_disturb(jettyctl: Jettyctl, env: dict[str, str], tmp_path: Path) -> None:
    """Pressing TAB answers as ever when the configuration file is broken."""
    env["JETTY_CONFIG_DIR"] = str(tmp_path)
    (tmp_path / "config.toml").write_text("threads = ")
    result = jettyctl(env=bash_words("jettyctl up"), check=0)
    assert (result.stdout, result.stderr) == ("upload\n", "")


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_bash_completes(env: dict[str, str], tmp_path: Path) -> None:
    """A real bash that has sourced the script gets its words from the program."""
    assert BASH is not None
    program = tmp_path / "bin" / "jettyctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m jettyctl "$@"\n')
    program.chmod(0o755)
    script = ASK_BASH.format(script=shlex.quote(os.path.join(ROOT, "completions", "jettyctl.bash")), words="jettyctl ses")
    path = f"{program.parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        [BASH, "--norc", "-c", script], env={**env, "PATH": path}, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("sessions\n", "")

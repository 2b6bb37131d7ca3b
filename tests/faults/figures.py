"""What is promised, as data: a name, the goal, what was seen, and whether that is enough."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

# Modules of this package that have `figures()`, in the order of the report.
MODULES = ("matrix", "seeded", "scale", "boxes", "rivals", "kills", "journal", "mutations", "names", "canaries", "planted")
# What runs at the same time, in processes of their own. The first two of the first lane wait most of their time, for clients
# that are patient: what measures time runs beside them.
LANES = (
    ("matrix", "canaries", "journal", "mutations", "planted"),
    ("seeded", "scale", "boxes", "rivals", "kills", "names"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the report. `notes` say what fell short, one line each."""

    name: str
    goal: str
    got: str
    ok: bool
    notes: tuple[str, ...] = ()


class Measured(Protocol):
    """A module of MODULES."""

    def figures(self) -> list[Figure]:
        """Run what the figures need, and give them."""


def measured(name: str) -> Measured:
    """A module by its name."""
    module: Measured = importlib.import_module(f"tests.faults.{name}")
    return module


def table(figures: Sequence[Figure]) -> str:
    """The report in Markdown, with what fell short below it."""
    rows = [("Figure", "Goal", "Got", ""), *((f.name, f.goal, f.got, "ok" if f.ok else "FAILED") for f in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines + [f"{figure.name}: {note}" for figure in figures for note in figure.notes])


def replace_table(path: str, figures: Sequence[Figure]) -> None:
    """Put new figures into the table of a document: a row of the same name is replaced, others are added at the end."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    first = next(number for number, line in enumerate(lines) if line.startswith("| Figure "))
    end = next(number for number in range(first, len(lines)) if not lines[number].startswith("|"))
    kept = {figure.name: figure for figure in map(_read, lines[first + 2 : end])}
    shown = table(list({**kept, **{figure.name: replace(figure, notes=()) for figure in figures}}.values()))
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([*lines[:first], shown, *lines[end:]]))


def _read(row: str) -> Figure:
    """A row of the table."""
    name, goal, got, verdict = (cell.strip() for cell in row.strip("|").split("|"))
    return Figure(name, goal, got, verdict == "ok")

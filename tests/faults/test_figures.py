"""The table of figures in a document."""

from __future__ import annotations

from pathlib import Path

from tests.faults.figures import LANES, MODULES, Figure, measured, replace_table, table


def test_new_figures_replace_those_of_the_same_name(tmp_path: Path) -> None:
    """Rows are replaced where they stand, new ones come last, and the text around the table stays."""
    document = tmp_path / "figures.md"
    old = [Figure("One", "1", "0", ok=False), Figure("Two", "2", "2", ok=True)]
    document.write_text(f"before\n\n{table(old)}\n\nafter\n")
    three = Figure("Three", ">= 3", "33", ok=True)
    one = Figure("One", "1", "1", ok=True)
    replace_table(str(document), [three, one, Figure("Two", "2", "1", ok=False, notes=("why",))])
    expected = table([one, Figure("Two", "2", "1", ok=False), three])
    assert document.read_text() == f"before\n\n{expected}\n\nafter\n"


def test_every_module_has_figures() -> None:
    """What the report runs is there, and it runs all of it."""
    assert sorted(name for lane in LANES for name in lane) == sorted(MODULES)
    assert all(callable(measured(name).figures) for name in MODULES)

"""What was measured, for people: on the terminal, and as Markdown for docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.cases import Case
from tests.bench.verdicts import Results, Samples, best, figure, verdicts

FIGURES = ("wall", "cpu", "rss")


def print_table(case: Case, results: Results) -> None:
    """A case's clients, one a line, then its targets."""
    samples = results[case.name]
    print(f"\n{case.name}: {case.about} (medians; peak: the worst run; ratio: to the best peer)")
    print(f"{'':17}{'runs':>5}{'wall s':>9}{'min':>9}{'max':>9}{'ratio':>7}{'CPU s':>9}{'ratio':>7}{'peak MiB':>10}{'ratio':>7}")
    for client, taken in samples.items():
        wall, cpu, rss = (f"{value:9.3f}" if name != "rss" else f"{value:10.1f}" for name, value in _row(case, samples, client))
        walls = [sample.wall for sample in taken]
        ratios = [f"{_ratio(case, samples, client, name):>7}" for name in FIGURES]
        print(f"{client:17}{len(taken):5}{wall}{min(walls):9.3f}{max(walls):9.3f}{ratios[0]}{cpu}{ratios[1]}{rss}{ratios[2]}")
    for one in verdicts(case, results):
        print(f"  {one.word}: {one.text}")
    print(end="", flush=True)


def markdown(cases: list[Case], results: Results) -> str:
    """The same as two tables: the figures, with their ratios to the best peer, and the targets."""
    lines = ["| case | client | runs | wall | CPU | peak memory |", "|---|---|---|---|---|---|"]
    for case in cases:
        lines += _markdown_rows(case, results[case.name])
    lines += ["", "| case | target | |", "|---|---|---|"]
    lines += [f"| {case.name} | {one.text} | {one.word} |" for case in cases for one in verdicts(case, results)]
    return "\n".join(lines) + "\n"


def _markdown_rows(case: Case, samples: Samples) -> Iterator[str]:
    for number, (client, taken) in enumerate(samples.items()):
        cells = [
            f"{value:.{0 if name == 'rss' else 2}f} {'MiB' if name == 'rss' else 's'} ({_ratio(case, samples, client, name)})"
            for name, value in _row(case, samples, client)
        ]
        yield f"| {'' if number else case.name} | {client} | {len(taken)} | {' | '.join(cells)} |"


def _row(case: Case, samples: Samples, client: str) -> Iterator[tuple[str, float]]:
    for name in FIGURES:
        value = figure(case, samples[client], name)
        assert value is not None  # every run has these
        yield name, value


def _ratio(case: Case, samples: Samples, client: str, name: str) -> str:
    """How many times the best peer's figure it is; the best peer itself is 1.00."""
    own, others = figure(case, samples[client], name), best(case, samples, name)
    return f"{own / others:.2f}" if own is not None and others else "-"

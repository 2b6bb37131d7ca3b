"""Whether targets are met: each one's figure, what it is compared with, and a line about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from tests.bench.cases import CASES, MIB, Case
from tests.bench.peers import OWN, SINGLE_STREAM
from tests.bench.samples import Sample
from tests.bench.targets import Target

Samples = Mapping[str, list[Sample]]  # by client
Results = Mapping[str, Samples]  # by case

UNITS = {"wall": " s", "cpu": " s", "rss": " MiB", "rate": " MiB/s", "steady": " Mbit/s", "sent": " bytes"}
GROUPS: dict[str, Callable[[str], bool]] = {
    "peers": lambda name: name not in OWN and name != SINGLE_STREAM,
    "defaults": lambda name: GROUPS["peers"](name) and not name.endswith("-tuned"),
    "tuned": lambda name: name.endswith("-tuned"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`met` is None where this run cannot tell."""

    text: str
    met: bool | None
    stretch: bool

    @property
    def word(self) -> str:
        if self.met is None:
            return "unknown"
        if self.met:
            return "met"
        return "missed (a stretch)" if self.stretch else "MISSED"


def verdicts(case: Case, results: Results) -> list[Verdict]:
    """One for each of the case's targets whose client ran."""
    return [verdict(case, target, results) for target in case.targets if target.client in results[case.name]]


def verdict(case: Case, target: Target, results: Results) -> Verdict:
    if target.figure == "bottleneck":
        return _named(target, results[case.name][target.client])
    if target.figure == "again":
        return _twice(target, results[case.name][target.client])
    what = f"{'' if target.client == 'jettyctl' else target.client + ': '}{target.figure}"
    value = figure(case, results[case.name][target.client], target.figure)
    if value is None:
        return Verdict(f"{what} {_bound(target)}: the run was too short to tell", None, target.stretch)
    if not target.of:
        return Verdict(f"{what} {value:.4g}{UNITS[target.figure]}, {_bound(target)}", _holds(target, value), target.stretch)
    base = _base(case, target, results)
    if not base:
        return Verdict(f"{what} {_bound(target)}: {target.of} was not measured", None, target.stretch)
    return Verdict(f"{what} {value / base:.3f}x, {_bound(target)}", _holds(target, value / base), target.stretch)


def figure(case: Case, samples: list[Sample], name: str) -> float | None:
    """One client's figure in a case, in the unit of UNITS; None where its runs do not tell."""
    if name == "rss":
        return max(sample.rss for sample in samples) / MIB
    if name == "rate":
        return case.total / MIB / median(sample.wall for sample in samples)
    values = [value for value in (getattr(sample, name) for sample in samples) if value is not None]
    if not values:
        return None
    return float(max(values) if name == "sent" else median(values))


def best(case: Case, samples: Samples, name: str, group: str = "peers") -> float | None:
    """The best figure among the clients of a group, or that of the client of this name."""
    belongs = GROUPS.get(group, group.__eq__)
    values = [figure(case, taken, name) for client, taken in samples.items() if belongs(client)]
    known = [value for value in values if value is not None]
    if not known:
        return None
    return max(known) if name == "rate" else min(known)


def _base(case: Case, target: Target, results: Results) -> float | None:
    for other in CASES:
        if other.name == target.of:
            taken = results.get(other.name, {}).get(target.client)
            return figure(other, taken, target.figure) if taken else None
    return best(case, results[case.name], target.figure, target.of)


def _named(target: Target, samples: list[Sample]) -> Verdict:
    named = sorted({sample.bottleneck for sample in samples if sample.bottleneck})
    text = f"bottleneck {', '.join(named) or 'not named'}, one of {', '.join(target.among)}"
    return Verdict(text, bool(named) and set(named) <= set(target.among), target.stretch)


def _twice(target: Target, samples: list[Sample]) -> Verdict:
    """Of the run that sent most again, measured by what was in flight when it was killed."""
    pairs = [(sample.again, sample.in_flight) for sample in samples if sample.again is not None and sample.in_flight]
    if not pairs:
        return Verdict(f"{target.client}: nothing was in flight at the kill", None, target.stretch)
    again, in_flight = max(pairs, key=lambda pair: pair[0] / pair[1])
    text = f"{target.client}: {again / MIB:.1f} MiB came twice, {in_flight / MIB:.1f} MiB were in flight"
    return Verdict(text, _holds(target, again / in_flight), target.stretch)


def _holds(target: Target, value: float) -> bool:
    return (target.most is None or value <= target.most) and (target.least is None or value >= target.least)


def _bound(target: Target) -> str:
    side, limit = ("at most", target.most) if target.most is not None else ("at least", target.least)
    if target.of:
        return f"{side} {limit:.3g}x of {target.of}"
    return f"{side} {limit:.4g}{UNITS[target.figure]}"

"""The bench's own decisions: its cases fit together, and a target is judged by the figures that it names."""

from __future__ import annotations

import pytest

from tests.bench.cases import CASES, MIB, Case, chosen
from tests.bench.peers import installed
from tests.bench.samples import Sample, steady
from tests.bench.targets import Target
from tests.bench.verdicts import GROUPS, verdict

KNOWN = {name for names in installed() for name in names}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_names_clients_and_comparisons_that_exist(case: Case) -> None:
    """A case's clients are known, and each target speaks of one of them and of something it can be compared with."""
    assert set(case.clients) <= KNOWN
    assert set(case.once) <= set(case.clients)
    for target in case.targets:
        assert target.client in case.clients
        assert target.of in {"", *GROUPS, *case.clients, *(other.name for other in CASES)}


def test_a_whole_name_is_one_case() -> None:
    """A case's whole name means that case alone, and a beginning means all that begin so."""
    assert [case.name for case in chosen(["loop-1g"])] == ["loop-1g"]
    assert [case.name for case in chosen(["loop"])] == ["loop-1g", "loop-1g-tls", "loop-10g"]
    with pytest.raises(ValueError, match="no case nothing"):
        chosen(["nothing"])


@pytest.mark.parametrize(
    ("target", "word"),
    [
        (Target("wall", most=0.5, of="peers"), "met"),
        (Target("wall", most=0.49, of="peers"), "MISSED"),
        (Target("wall", most=0.49, of="peers", stretch=True), "missed (a stretch)"),
        (Target("wall", most=0.25, of="defaults"), "met"),
        (Target("wall", most=1.0, of="curl"), "MISSED"),
        (Target("rate", least=2.0, of="peers"), "met"),
        (Target("rate", least=2.1, of="peers"), "MISSED"),
        (Target("rss", most=9), "MISSED"),
        (Target("rss", most=10), "met"),
        (Target("wall", most=1.0, of="aws"), "unknown"),
        (Target("steady", least=1), "unknown"),
        (Target("bottleneck", among=("hash",)), "met"),
        (Target("bottleneck", among=("uplink",)), "MISSED"),
        (Target("again", most=1.0), "met"),
        (Target("again", most=0.5), "MISSED"),
    ],
)
def test_a_target_is_judged_by_medians_and_the_worst_memory(target: Target, word: str) -> None:
    """Ratios are of medians to the best of a group, curl belongs to none, and peaks count by the worst run."""
    own = [Sample(wall, 1, rss * MIB, bottleneck="hash", again=3, in_flight=5) for wall, rss in ((1, 1), (2, 10), (9, 2))]
    samples = {"jettyctl": own}
    samples |= {name: [Sample(wall, 1, MIB)] for name, wall in (("s5cmd", 8), ("s5cmd-tuned", 4), ("curl", 1))}
    case = Case("made-up", "", MIB)
    assert verdict(case, target, {case.name: samples}).word == word


def test_the_steady_rate_leaves_out_the_beginning_and_the_end() -> None:
    """The rate is that of the middle half of the bytes; too few lines tell nothing."""
    sent = (0, 0, 10, 30, 50, 70, 90, 95, 100)
    events = [{"type": "progress", "seconds": second, "bytes_sent": part * MIB} for second, part in enumerate(sent)]
    assert steady(events, 100 * MIB) == pytest.approx(20 * MIB * 8 / 1e6)
    assert steady(events[:5], 100 * MIB) is None

"""The edges in the configuration file: read, changed, refused; and the memory of their probes."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jettyctl.core.scoring import Edge, EdgeMetrics
from jettyctl.edges import configured
from jettyctl.edges.builtin import BuiltinSelector
from jettyctl.edges.metrics import LIFETIME, EdgeMemory
from jettyctl.errors import UsageError

OFFICE = Edge("office", "http://192.0.2.7:53777", "Bonn", "DE", 50.7, 7.1, 0.0)
PLAIN = Edge("plain", "https://edge.example/base")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the configuration is; not there yet."""
    os.environ["JETTY_CONFIG_DIR"] = str(tmp_path / "config")
    return tmp_path / "config" / "config.toml"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(0o600)


def metrics_of(
    *,
    load_percent: float | None = 5,
    bandwidth_mbps: float | None = 300,
    error_rate: float = 0,
    measured_at: float | None = None,
) -> EdgeMetrics:
    """A good measurement of this moment."""
    return EdgeMetrics(20, load_percent, bandwidth_mbps, error_rate, time.time() if measured_at is None else measured_at)


def test_edges_come_back_as_they_were_added(file: Path) -> None:
    """Every field survives, in order, in a file that is private."""
    configured.add(OFFICE)
    configured.add(PLAIN)
    assert configured.read() == (OFFICE, PLAIN)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_file_no_edges(file: Path) -> None:
    """Without a file there are none, and none is made by looking."""
    assert configured.read() == ()
    assert not file.exists()


def test_the_rest_of_the_file_survives(file: Path) -> None:
    """Comments and settings stay, through all that can be done with edges."""
    write(file, '# mine\nregion = "eu"  # near\n\n[edges.old]  # the first\nurl = "http://old.example"\n')
    configured.add(OFFICE)
    configured.enable("old", enabled=False)
    assert [(edge.id, edge.enabled) for edge in configured.read()] == [("old", False), ("office", True)]
    configured.enable("old", enabled=True)
    configured.remove("office")
    assert (
        file.read_text().rstrip("\n")
        == '# mine\nregion = "eu"  # near\n\n[edges.old]  # the first\nurl = "http://old.example"\nenabled = true'
    )


@pytest.mark.parametrize("text", ['edges = {a = {url = "http://a.example"}}\n', 'edges.a.url = "http://a.example"\n'])
def test_other_ways_to_write_a_table(file: Path, text: str) -> None:
    """Inline tables and dotted keys are tables, too."""
    write(file, text)
    configured.enable("a", enabled=False)
    configured.add(PLAIN)
    assert configured.read() == (Edge("a", "http://a.example", enabled=False), PLAIN)
    configured.remove("a")
    assert configured.read() == (PLAIN,)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://edge.example", "is not the URL of an edge"),
        ("edge.example", "is not the URL of an edge"),
        ("http://", "is not the URL of an edge"),
        ("http://edge.example:0", "is not the URL of an edge"),
        ("http://edge.example:70000", "is not the URL of an edge"),
        ("http://[::1", "is not the URL of an edge"),
        ("http://edge example", "is not the URL of an edge"),
        ("http://edge.example/\x1b[31m", "is not the URL of an edge"),
        ("https://me:secret@edge.example", "must not hold credentials"),
        ("https://me:secret@edge.example:70000", "is not the URL of an edge"),
        ("https://edge.example?key=secret", "must not have a query"),
        ("https://edge.example/#x", "must not have a query or a fragment"),
    ],
)
def test_urls_that_no_chunk_can_go_to(file: Path, url: str, why: str) -> None:
    """They are refused without repeating what may be a secret, and nothing is written."""
    with pytest.raises(UsageError, match=why) as caught:
        configured.add(Edge("a", url))
    assert "secret" not in caught.value.message
    assert "\x1b" not in caught.value.message
    assert not file.exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:53777", "https://edge.example/a/b/", "http://[::1]:8080"])
def test_urls_that_chunks_can_go_to(file: Path, url: str) -> None:
    """Hosts, ports, addresses and base paths are taken as they are."""
    configured.add(Edge("a", url))
    assert configured.read()[0].url == url


@pytest.mark.parametrize("edge_id", ["", "A", "-a", "a b", "a.b", "a" * 64, "ü", "direct", "lyve-direct"])
def test_ids_that_cannot_be(file: Path, edge_id: str) -> None:
    """An id is a plain name, and not the direct route's."""
    with pytest.raises(UsageError, match="cannot be the id of an edge"):
        configured.add(Edge(edge_id, "http://edge.example"))


@pytest.mark.parametrize(
    ("edge", "why"),
    [
        (Edge("a", PLAIN.url, lat=1.0), "needs a longitude"),
        (Edge("a", PLAIN.url, lat=91.0, lng=1.0), "not a location"),
        (Edge("a", PLAIN.url, lat=float("nan"), lng=1.0), "not a location"),
        (Edge("a", PLAIN.url, cost_per_gib=-0.1), "not a price"),
        (Edge("a", PLAIN.url, cost_per_gib=float("inf")), "not a price"),
        (Edge("plain", "http://other.example"), "configured already"),
    ],
)
def test_edges_that_cannot_be(file: Path, edge: Edge, why: str) -> None:
    """Half a place, a place off the globe, a price that is none, an id that is taken."""
    configured.add(PLAIN)
    with pytest.raises(UsageError, match=why):
        configured.add(edge)
    assert configured.read() == (PLAIN,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("edges = 3", "edges must be tables"),
        ("[edges]\na = 3", r"\[edges.a\]: it must be a table"),
        ("[edges.a]", r"\[edges.a\]: '' is not the URL"),
        ("[edges.a]\nurl = 3", "url must be a text"),
        ('[edges.a]\nurl = "http://a.example"\nlat = "x"\nlng = 1', "lat must be a number"),
        ('[edges.a]\nurl = "http://a.example"\nlat = true\nlng = 1', "lat must be a number"),
        ('[edges.a]\nurl = "http://a.example"\nenabled = 1', "enabled must be true or false"),
        ('[edges.a]\nurl = "http://a.example"\ncolour = "red"', "no key called 'colour'"),
    ],
)
def test_a_broken_table_is_named(file: Path, text: str, why: str) -> None:
    """What the user wrote by hand is told with the file, the edge and the key, and no command hides it."""
    write(file, text + "\n")
    with pytest.raises(UsageError, match=why) as caught:
        configured.read()
    assert str(file) in caught.value.message
    with pytest.raises(UsageError):
        configured.enable("a", enabled=True)
    assert file.read_text() == text + "\n"


def test_a_broken_table_can_be_removed(file: Path) -> None:
    """The command that the message names mends the file."""
    write(file, '[edges.a]\nurl = 3\n\n[edges.b]\nurl = "http://b.example"\n')
    configured.remove("a")
    assert configured.read() == (Edge("b", "http://b.example"),)
    changes: list[Callable[[], object]] = [lambda: configured.remove("a"), lambda: configured.enable("a", enabled=True)]
    for change in changes:
        with pytest.raises(UsageError, match="no edge called 'a'"):
            change()


def test_measurements_are_kept_by_address(tmp_path: Path) -> None:
    """What is learnt comes back in another process; the same id at another address has not answered."""
    path = str(tmp_path / "edges.json")
    found = metrics_of(load_percent=None, bandwidth_mbps=None)
    EdgeMemory(path).learn({OFFICE.url: found})
    EdgeMemory(path).learn({PLAIN.url: metrics_of(measured_at=1.0)})
    EdgeMemory(path).learn({"http://third.example": metrics_of(measured_at=time.time() - LIFETIME - 1)})
    memory = EdgeMemory(path)
    assert memory.recall([OFFICE]) == {"office": found}
    assert memory.recall([Edge("office", "http://elsewhere.example")]) == {}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    memory.learn({})
    assert memory.recall([PLAIN]) == {}  # forgotten: nobody probed it for too long


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"URL": 3}', '{"URL": [1,2,3]}', '{"URL": [null,1,1,1,1]}', '{"URL": [NaN,1,1,1,1]}', "[" * 9999]
)
def test_a_memory_that_is_broken_is_empty(tmp_path: Path, content: str) -> None:
    """What cannot be read counts as never probed, and is replaced by the next probe."""
    path = tmp_path / "edges.json"
    path.write_text(content.replace("URL", OFFICE.url))
    assert EdgeMemory(str(path)).recall([OFFICE]) == {}
    EdgeMemory(str(path)).learn({OFFICE.url: metrics_of()})
    assert EdgeMemory(str(path)).recall([OFFICE])


def test_a_memory_that_cannot_be_written_is_lost(tmp_path: Path) -> None:
    """A missing directory is no reason to fail."""
    memory = EdgeMemory(str(tmp_path / "nowhere" / "edges.json"))
    memory.learn({OFFICE.url: metrics_of()})
    assert memory.recall([OFFICE]) == {}


def test_the_selector_leaves_out_what_cannot_be_used() -> None:
    """Disabled edges and those whose last probe got no answer are out, however long ago that was."""
    edges = [OFFICE, PLAIN, Edge("off", "http://off.example", enabled=False)]
    metrics = {"office": metrics_of(), "plain": metrics_of(error_rate=100, measured_at=1.0), "off": metrics_of()}
    selection = BuiltinSelector(edges, metrics).select(1, "speed", None, None)
    assert [one.edge.id for one in selection.edges] == ["office"]
    assert selection.direct_weight == pytest.approx(0.1)


def test_the_selector_says_why_there_is_none() -> None:
    """No edges, and none that answers, are different things to do something about."""
    dead = {"office": metrics_of(error_rate=100)}
    assert "edges add" in BuiltinSelector([], {}).select(1, "speed", None, None).message
    silent = BuiltinSelector([OFFICE], dead).select(1, "speed", None, None)
    assert (silent.edges, silent.direct_weight) == ((), 1.0)
    assert "edges probe" in silent.message
    assert "0 USD" in BuiltinSelector([PLAIN], {}).select(1 << 30, "speed", None, 0.0).message

"""`jettyctl edges` as a user meets it: named, probed, selected, explained."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import Jettyctl


class Edge(BaseHTTPRequestHandler):
    """A small edge in good health."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"load": 10, "active": 1}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture(scope="module")
def alive() -> Iterator[str]:
    """The URL of an edge that answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Edge)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def dead() -> str:
    """The URL of a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def file(env: dict[str, str], tmp_path: Path) -> Path:
    """Where the configuration is. The time zone tells no place, unless a test sets another one."""
    env.update(JETTY_CONFIG_DIR=str(tmp_path / "config"), JETTY_DATA_DIR=str(tmp_path / "data"))
    env.update(TZ="UTC", PYTHONTZPATH=str(tmp_path / "zones"))
    (tmp_path / "zones").mkdir()
    (tmp_path / "zones" / "zone1970.tab").write_text("DE\t+5230+01322\tEurope/Berlin\n")
    return tmp_path / "config" / "config.toml"


def document(jettyctl: Jettyctl, *args: str, **options: Any) -> Any:  # noqa: ANN401 - JSON
    """The one JSON object that a command writes."""
    result = jettyctl("edges", *args, "--json", check=0, **options)
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def row(text: str, beginning: str) -> list[str]:
    """The words of a table's row."""
    return next(line.split() for line in text.splitlines() if line.startswith(beginning))


def test_from_nothing_to_a_selection(jettyctl: Jettyctl, file: Path, alive: str, dead: str) -> None:
    """Two edges are named, probed and selected from: the one that answers carries 90 %, the dead one is out."""
    jettyctl("edges", "add", "here", alive, "--lat", "-33.87", "--lng", "151.21", "--city", "Sydney", check=0)
    jettyctl("edges", "add", "gone", dead, "--cost-per-gib", "0.01", check=0)
    before = jettyctl("edges", "select", check=0).stdout
    assert row(before, "direct") == ["direct", "70.0", "%"]
    assert "never probed" in before
    assert "jettyctl edges probe" in before

    table = jettyctl("edges", "probe", check=0).stdout
    assert row(table, "here")[1] == "yes"
    assert row(table, "gone")[1] == "no"
    assert "connection refused" in table

    after = jettyctl("edges", "select", "--location", "-33.87,151.21", check=0).stdout
    assert row(after, "here")[1:3] == ["90.0", "%"]
    assert row(after, "direct") == ["direct", "10.0", "%"]
    assert "1.00 (0 km)" in after
    assert "gone" not in after

    listed = jettyctl("edges", "list", check=0).stdout
    assert "answers" in listed
    assert "no answer" in listed
    assert row(listed, "fra-1")[-1] == "available"


def test_json(jettyctl: Jettyctl, file: Path, alive: str, dead: str) -> None:
    """Each command's `--json` is one document, with factors, weights and measurements as numbers."""
    jettyctl("edges", "add", "here", alive, check=0)
    jettyctl("edges", "add", "gone", dead, check=0)
    probes = document(jettyctl, "probe", "gone", "here", "here", "--metered")
    assert [(edge["id"], edge["reachable"]) for edge in probes["edges"]] == [("gone", False), ("here", True)]
    assert probes["edges"][1]["metrics"]["bandwidth_mbps"] is None

    listed = document(jettyctl, "list")["edges"]
    assert [edge["id"] for edge in listed if edge["configured"]] == ["here", "gone"]
    assert len(listed) == 22
    assert not any(edge["enabled"] for edge in listed if not edge["configured"])

    chosen = document(jettyctl, "select", "--size", "20GiB", "--priority", "speed")
    (edge,) = chosen["edges"]
    assert (chosen["type"], chosen["size"], chosen["location"]) == ("selection", 20 << 30, None)
    assert (edge["id"], edge["answered"], edge["stale"], edge["cost"]) == ("here", True, False, 2.0)
    total = sum(edge["factors"][name] * weight for name, weight in edge["factor_weights"].items() if weight is not None)
    assert edge["score"] == pytest.approx(total)
    assert edge["weight"] + chosen["direct"]["weight"] == pytest.approx(1)
    assert chosen["direct"]["id"] == "lyve-direct"


def test_the_budget_and_the_price(jettyctl: Jettyctl, file: Path) -> None:
    """What is too dear is left out; when nothing is left, the direct route is said to have it all."""
    jettyctl("edges", "add", "cheap", "http://127.0.0.1:9", "--cost-per-gib", "0.01", check=0)
    jettyctl("edges", "add", "usual", "http://127.0.0.1:8", check=0)
    some = document(jettyctl, "select", "--size", "10GiB", "--budget", "0.5", "--priority", "cost")
    assert [edge["id"] for edge in some["edges"]] == ["cheap"]
    nothing = jettyctl("edges", "select", "--size", "1TiB", "--budget", "0.5", check=0).stdout
    assert "Every edge costs more than 0.5 USD: the direct route carries everything." in nothing


def test_where_we_are(jettyctl: Jettyctl, file: Path) -> None:
    """The option wins over the variable, that over the configuration, that over the time zone; else there is none."""
    berlin = {"TZ": "Europe/Berlin"}
    assert document(jettyctl, "select")["location"] is None
    assert document(jettyctl, "select", env=berlin)["location"] == {
        "lat": 52.5,
        "lng": 13.3667,
        "source": "time zone Europe/Berlin",
    }
    jettyctl("config", "set", "location", "1,2", check=0)
    assert document(jettyctl, "select", env=berlin)["location"] == {"lat": 1, "lng": 2, "source": "as given"}
    assert document(jettyctl, "select", env={"JETTY_LOCATION": "3,4"})["location"]["lat"] == 3
    option = document(jettyctl, "select", "--location", "-5,6", env={"JETTY_LOCATION": "3,4"})
    assert option["location"]["lat"] == -5


def test_the_catalogue(jettyctl: Jettyctl, file: Path) -> None:
    """Nothing of it is used before the user enables it; the domain of its addresses is a setting."""
    assert document(jettyctl, "select")["edges"] == []
    assert "jettyctl edges enable fra-1" in jettyctl("edges", "probe", "fra-1", check=2).stderr
    jettyctl("config", "set", "edge-domain", "edges.example.net", check=0)
    jettyctl("edges", "enable", "fra-1", check=0)
    jettyctl("edges", "enable", "lon-1", "--edge-domain", "other.example", check=0)
    chosen = document(jettyctl, "select", "--location", "52,13")["edges"]
    assert [edge["url"] for edge in chosen] == ["https://fra.edges.example.net", "https://lon.other.example"]
    jettyctl("edges", "disable", "fra-1", check=0)
    assert [edge["id"] for edge in document(jettyctl, "select")["edges"]] == ["lon-1"]
    jettyctl("edges", "enable", "fra-1", check=0)
    assert len(document(jettyctl, "select")["edges"]) == 2


def test_edges_and_settings_share_the_file(jettyctl: Jettyctl, file: Path, tmp_path: Path) -> None:
    """Settings are set, listed and unset beside edges, and other commands do not mind them."""
    (tmp_path / "a.txt").write_text("content")
    jettyctl("edges", "add", "a", "http://127.0.0.1:9", check=0)
    jettyctl("config", "set", "threads", "4", check=0)
    assert jettyctl("config", "list", check=0).stdout == "threads  4  (file)\n"
    assert "threads = 4" in file.read_text()
    jettyctl("hash", "a.txt", check=0)
    jettyctl("edges", "remove", "a", check=0)
    jettyctl("config", "unset", "threads", check=0)
    assert file.read_text().strip() == ""


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("add", "a", "https://me:secret@edge.example"), "must not hold credentials"),
        (("add", "a", "edge.example"), "is not the URL of an edge"),
        (("add", "a b", "http://edge.example"), "cannot be the id"),
        (("add", "a", "http://edge.example", "--lat", "5"), "needs a longitude"),
        (("remove", "a"), "no edge called 'a' is configured"),
        (("enable", "a"), "no edge called 'a' is configured"),
        (("disable", "fra-1"), "no edge called 'fra-1' is configured"),
        (("probe", "a"), "no edge called 'a' is configured"),
        (("select", "--location", "nowhere"), "'nowhere' is not a location"),
        (("select", "--size", "big"), "'big' is not a size"),
        (("select", "--budget", "-1"), "-1"),
        (("select", "--budget", "nan"), "nan"),
    ],
)
def test_what_cannot_be_is_one_line(jettyctl: Jettyctl, file: Path, args: tuple[str, ...], why: str) -> None:
    """A mistake is one line with what to do, in JSON one object, and nothing is written."""
    result = jettyctl("edges", *args, check=2)
    assert why in result.stderr
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
    (error,) = jettyctl("edges", *args, "--json", check=2).events if args[0] in ("probe", "select") else ({"code": "usage"},)
    assert error["code"] == "usage"
    assert not file.exists()


def test_without_edges(jettyctl: Jettyctl, file: Path) -> None:
    """Before the first edge every command says how to begin."""
    assert "jettyctl edges add" in jettyctl("edges", "list", check=0).stderr
    assert "jettyctl edges add" in jettyctl("edges", "probe", check=0).stderr
    assert "jettyctl edges add" in jettyctl("edges", "select", check=0).stdout
    assert document(jettyctl, "probe")["edges"] == []


def test_hostile_text_does_not_reach_the_terminal(jettyctl: Jettyctl, file: Path) -> None:
    """A city with escapes, or with what the table's library takes for markup, is shown as it is written."""
    jettyctl("edges", "add", "a", "http://127.0.0.1:9", "--city", "[red]\x1b[31mBonn", check=0)
    listed = jettyctl("edges", "list", check=0).stdout
    assert "\x1b" not in listed
    assert "[red]\\x1b[31mBonn" in listed

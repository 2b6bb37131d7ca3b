"""Probes of edges on loopback that answer: good ones, slow ones, failing ones, liars, and those behind TLS."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jettyctl.core.scoring import Edge
from jettyctl.edges.probe import BURST, LONG_BURST, SAMPLES, probe
from jettyctl.errors import UsageError
from tests.support.small_edges import HANG, Behaviour, probed


def test_a_good_edge(serve: Callable[..., str]) -> None:
    """Everything is measured, over one path prefix, and no more than 4 MiB and a bit is sent."""
    edge = Behaviour()
    result = probed(serve(edge) + "/base/")
    assert (result.reachable, result.error, result.active) == (True, "", 3)
    metrics = result.metrics
    assert (metrics.load_percent, metrics.error_rate) == (12.5, 0)
    assert 0 < metrics.latency_ms < 500
    assert metrics.bandwidth_mbps
    assert metrics.bandwidth_mbps > 10
    assert result.connect_ms
    assert result.tls_ms is None
    assert abs(metrics.measured_at - time.time()) < HANG
    assert edge.asked[:SAMPLES] == ["GET /base/health"] * SAMPLES
    assert set(edge.asked[SAMPLES:]) == {"PUT /base/probe"}
    assert edge.received <= BURST + LONG_BURST + (1 << 16)


def test_metered(serve: Callable[..., str]) -> None:
    """No byte is sent on a metered line, and the bandwidth is not known."""
    edge = Behaviour()
    result = probed(serve(edge), metered=True)
    assert result.reachable
    assert result.metrics.bandwidth_mbps is None
    assert edge.asked == ["GET /health"] * SAMPLES


@pytest.mark.parametrize("status", [403, 404, 405, 501])
@pytest.mark.parametrize("reads", [True, False])
def test_an_edge_without_bursts(serve: Callable[..., str], status: int, reads: bool) -> None:
    """A plain reverse proxy refuses the burst, with or without reading it: it answers, and its bandwidth is not known."""
    edge = Behaviour(probe_status=status, reads_bodies=reads)
    result = probed(serve(edge))
    assert (result.reachable, result.error) == (True, "")
    assert result.metrics.bandwidth_mbps is None
    assert edge.received <= 1 << 16


def test_an_edge_that_closes_after_each_answer(serve: Callable[..., str]) -> None:
    """HTTP/1.0 costs connections, and works."""
    result = probed(serve(Behaviour(keep_alive=False)))
    assert (result.reachable, result.error) == (True, "")
    assert result.metrics.bandwidth_mbps


@pytest.mark.parametrize(
    ("health", "load", "active"),
    [
        (b"ok", None, None),
        (b"", None, None),
        (b"[1]", None, None),
        (b'{"load": "high", "active": true}', None, None),
        (b'{"load": -1, "active": -1}', None, None),
        (b'{"load": NaN, "active": Infinity}', None, None),
        (b'{"load": 250, "active": 1e300}', 100.0, None),
        (b'{"load": 1' + b"0" * 400 + b"}", None, None),
        (b"\xff\xfe", None, None),
        (b" " * 200_000 + b"{}", None, None),  # more than is read
        (b"[" * 60_000, None, None),
    ],
)
def test_what_an_edge_says_is_not_trusted(
    serve: Callable[..., str], health: bytes, load: float | None, active: int | None
) -> None:
    """Health that is no JSON, or states nonsense, is an answer that states nothing."""
    result = probed(serve(Behaviour(health=health)), metered=True)
    assert result.reachable
    assert (result.metrics.load_percent, result.active) == (load, active)


@pytest.mark.parametrize("status", [302, 404, 500, 503])
def test_another_answer_is_none(serve: Callable[..., str], status: int) -> None:
    """Only a 2xx is an answer; redirects are not followed."""
    edge = Behaviour(health_status=status)
    result = probed(serve(edge))
    assert (result.reachable, result.metrics.error_rate) == (False, 100)
    assert result.error == f"answered {status} to GET /health"
    assert not any(asked.startswith("PUT") for asked in edge.asked)


def test_an_edge_that_answers_sometimes(serve: Callable[..., str]) -> None:
    """Two failures among five samples are 40 % errors, with the reason."""
    result = probed(serve(Behaviour(failing=2)), metered=True)
    assert (result.reachable, result.metrics.error_rate) == (True, 40)
    assert "503" in result.error


def test_a_slow_edge(serve: Callable[..., str]) -> None:
    """The median tells how slow, and there is still time for a burst."""
    result = probed(serve(Behaviour(delay=0.3)))
    assert result.reachable
    assert 300 <= result.metrics.latency_ms < 600
    assert result.metrics.error_rate == 0
    assert result.metrics.bandwidth_mbps


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's context for 127.0.0.1, and the file with the authority that signed it."""
    trustme = pytest.importorskip("trustme")
    authority, path = trustme.CA(), tmp_path_factory.mktemp("tls") / "ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


def test_tls(serve: Callable[..., str], certificate: tuple[ssl.SSLContext, str]) -> None:
    """The handshake is timed; a certificate of an unknown authority is no answer, unless the user says so."""
    context, ca_file = certificate
    url = serve(Behaviour(), context)
    known = probed(url, ca_file=ca_file)
    assert (known.reachable, known.error) == (True, "")
    assert known.tls_ms
    assert known.metrics.bandwidth_mbps
    unknown = probed(url)
    assert not unknown.reachable
    assert unknown.error.startswith("its certificate does not verify")
    assert probed(url, verify=False, metered=True).reachable


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    """A file without certificates is the user's to mend."""
    (tmp_path / "ca.pem").write_text(json.dumps({}))
    with pytest.raises(UsageError, match="cannot read the certificates"):
        probe([Edge("e", "https://127.0.0.1:9")], ca_file=str(tmp_path / "ca.pem"))

"""SIGKILL at random moments of a real upload to a real server. What was sent is counted at the proxy, not by the client.

The rule: a part is sent again only if the server had not answered it when the process died. What the server has is
learnt from its list of parts, also where the receipt never reached the journal or the client.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from tests.e2e.runs import CHUNK, MIB, Proxied, Starter
from tests.e2e.watching import parts_begun, recorded_status, requests_for, until
from tests.support.proxy import RecordingProxy
from tests.support.relay import Request
from tests.support.running import Jettyctl, random_file
from tests.support.servers import Server, client, fetch

ASSEMBLY = 1.0  # seconds in which a server that was cut off in the middle of Complete makes the object all the same
SETTLE = 0.15  # seconds in which the proxy sees that the client is gone, and the server answers what it had in full

@pytest.fixture(autouse=True)
def _known_places(env: dict[str, str], tmp_path: os.PathLike[str]) -> None:
    """A data directory that tests can look into."""
    env["JETTY_DATA_DIR"] = os.path.join(tmp_path, "data")


@dataclass
class Storm:
    """Uploads that are killed, resumed, sometimes killed again, and at last left to finish."""

    jettyctl: Jettyctl
    start: Starter
    proxy: RecordingProxy
    server: Server
    path: str
    seed: int
    span: float  # seconds after the first request within which the kill falls
    kills: int = 0
    rounds: int = 0
    unheard: int = 0  # parts whose answer had not reached the client at a kill
    cut_off: int = 0  # of those, the parts that the server did not answer even then
    again: int = 0  # part requests beyond one for each part
    _draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        with open(self.path, "rb") as file:
            self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self._chunks = -(-os.path.getsize(self.path) // CHUNK)

    def run(self, kills: int) -> None:
        """Go on until this many kills have struck."""
        print(f"seed {self.seed}")
        while self.kills < kills:
            self.rounds += 1
            self._round(f"killed-{self.rounds}", depth=self._draw.choice((1, 1, 2, 3)))
        print(
            f"{self.kills} kills in {self.rounds} uploads of {self._chunks} parts: {self.unheard} parts in flight at a kill, "
            f"{self.cut_off} of them not answered by the server, {self.again} sent again"
        )

    def _round(self, key: str, depth: int) -> None:
        args = ("upload", "--threads", str(self._draw.randint(1, 4)), "--chunk-size", str(CHUNK), self.path, f"s3://bucket/{key}")
        lost: Counter[int] = Counter()
        while depth and self._killed(args, key, lost):
            depth -= 1
        result = self.jettyctl(*args, server=self.proxy, check=0)
        self._judge(key, lost, f"seed {self.seed}, {key}: {result.stderr}")
        self.proxy.forget()
        with client(self.server) as s3:
            s3.delete_object(Bucket=self.server.bucket, Key=key)

    def _killed(self, args: tuple[str, ...], key: str, lost: Counter[int]) -> bool:
        """Starter a run and kill it at a random moment; False if it was over before that."""
        before, began = len(self.proxy.requests), time.monotonic()
        process = self.start(*args, server=self.proxy)
        until(lambda: len(self.proxy.requests) > before, "the first request", process)
        time.sleep(self._draw.uniform(0.0, self.span))
        if process.poll() is not None:
            return False
        process.kill()
        process.wait()
        time.sleep(SETTLE)
        if any(r.status is None for r in requests_for(self.proxy, key, "complete")):
            time.sleep(ASSEMBLY)  # meanwhile rclone shows neither the upload nor the object: all would begin anew
        parts = [r for r in requests_for(self.proxy, key, "part") if r.at >= began]
        self.unheard += sum(not r.answered for r in parts)
        lost.update(_unanswered(parts))
        self.kills += 1
        return True

    def _judge(self, key: str, lost: Counter[int], said: str) -> None:
        assert hashlib.sha256(fetch(self.server, key)).hexdigest() == self._sha256, said
        assert recorded_status(dict(self.jettyctl.environment), key) == "completed", said
        begun = parts_begun(self.proxy, key)
        assert sorted(begun) == [*range(1, self._chunks + 1)], said
        too_often = {part: count for part, count in begun.items() if count > 1 + lost[part]}
        assert not too_often, f"{said}: parts {too_often} were sent again, in flight at the kills were only {lost}"
        self.cut_off += lost.total()
        self.again += begun.total() - self._chunks


def _unanswered(parts: list[Request]) -> set[int]:
    """The parts in flight when the client died: begun, and without the server's answer even a moment later.

    No allowance is made for a receipt that was on its way to the client: once the server has answered, it lists the part.
    That includes parts of which the kernel delivered the rest after the kill. A request that the server had in full, but
    whose answer found no client any more, may have no status here; the server may have dropped it with the connection, so
    it counts as in flight.
    """
    return {r.part for r in parts if r.part is not None and r.status is None}


def _storm(jettyctl: Jettyctl, start: Starter, proxied: Proxied, server: Server, path: str, mib: int, seed: int) -> Storm:
    """The parts take 1.5 s; what comes before and after them is within the span of the kills as well."""
    random_file(path, mib * MIB - 12_345, seed)
    return Storm(jettyctl, start, proxied(server, rate=mib * MIB / 1.5), server, path, seed, span=1.7)


@pytest.mark.slow
def test_kills_in_short(
    moto: Server, jettyctl: Jettyctl, start_jettyctl: Starter, proxied: Proxied, tmp_path: os.PathLike[str]
) -> None:
    """Three kills: the object is whole, and nothing that the server had is sent again."""
    storm = _storm(jettyctl, start_jettyctl, proxied, moto, os.path.join(tmp_path, "file"), 25, seed=2)
    storm.run(3)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_forty_kills(
    s3_server: Server, jettyctl: Jettyctl, start_jettyctl: Starter, proxied: Proxied, tmp_path: os.PathLike[str]
) -> None:
    """Twenty-five kills on each server, resumes killed as well: the object is whole, nothing that the server had is resent."""
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(1 << 32)))
    storm = _storm(jettyctl, start_jettyctl, proxied, s3_server, os.path.join(tmp_path, "file"), 60, seed)
    storm.run(25)
    assert storm.kills >= 25
    assert storm.again <= storm.cut_off

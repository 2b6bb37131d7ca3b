"""What jettyctl must reach in a case, as data; `verdicts` holds it against what was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """One bound on one figure of `client`.

    `figure` is `wall` or `cpu` (median, seconds), `rss` (the worst run, MiB), `rate` (MiB/s of the median run), `steady`
    (Mbit/s over the middle half of the bytes), `sent` (bytes of bodies), `again` (bytes that came twice, in units of what
    was in flight at the kill) or `bottleneck` (what the client named).

    With `of`, the bound is a ratio: to the same figure of the best of `peers`, `defaults` or `tuned`, of one client, or of
    the same client in the case of that name.
    """

    figure: str
    most: float | None = None
    least: float | None = None
    of: str = ""
    among: tuple[str, ...] = ()
    client: str = "jettyctl"
    stretch: bool = False  # wished for: missing it is no failure


LEVEL = 1.03  # two clients that differ by less cannot be told apart on a machine with two cores

LOOP = (Target("wall", most=0.75, of="peers"), Target("cpu", most=0.65, of="peers"), Target("rss", most=100))
LOOP_TLS = (Target("wall", most=0.8, of="peers"),)
LOOP_LONG = (Target("rss", most=1.1, of="loop-1g"), Target("rate", least=0.9, of="loop-1g"))
# 320 Mbit/s less the headers of TCP and IP are 309 Mbit/s of bodies.
WAN_REST = (
    Target("steady", least=278),
    Target("wall", most=1.0, of="defaults"),
    Target("wall", most=LEVEL, of="tuned"),
)
WAN_SHORT = (Target("wall", most=1 / 14, of="curl"), *WAN_REST)
WAN_LONG = (Target("wall", most=1 / 15, of="curl"), *WAN_REST)
WAN_LOSSY = (Target("rate", least=0.85, of="peers"),)
LAN_FAST = (Target("bottleneck", among=("uplink", "hash")),)
SMALL = (Target("wall", most=1.5, of="s5cmd"), Target("wall", most=1.0, of="s5cmd", stretch=True))
SMALL_WAN = (Target("wall", most=LEVEL, of="peers"),)
AGAIN = (Target("wall", most=0.35), Target("sent", most=0))
RESUME = (
    Target("again", most=1.0, client="jettyctl-resumed"),
    Target("wall", most=1.15, of="jettyctl", client="jettyctl-resumed"),
)
START_VERSION = (Target("wall", most=0.120),)
START_SMALL = (Target("wall", most=0.350),)

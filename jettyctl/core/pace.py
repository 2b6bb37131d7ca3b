"""How many requests to keep in flight: hill climbing on goodput, halved when the store says stop.

Pure: the engine calls `tick` with the clock and the bytes moved so far, and `throttled` when a store asks for less.
The number of threads that the user or the size table gives is a ceiling, never a goal.

The climber has a home, a limit whose goodput it knows, and tries a neighbour now and then: one above, and if that was
worse (or there is none), one below. A better neighbour becomes the home and the climb goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

START = 32  # connections at the start: fewer cost a slow start of our own on top of TCP's
STEP = 8  # connections added at a time, at least, until a store has throttled us
CAREFUL = 2  # the same, afterwards
GAIN = 1.05  # a step must raise goodput by this much to be kept, over two periods
CLEAR = 1.25  # or by this much in the first: a rate of half a second goes up and down by a tenth
PERIOD = 0.5  # seconds between two decisions
WARM_UP = 2  # decisions at the start that teach nothing: what TCP's slow start adds is no merit of a step
HOLD = 20  # decisions to rest at home after a failed try; doubled each time, as long as nothing changes
MAX_HOLD = 120
CALM = 4  # decisions to rest after a throttle
UP, DOWN = 1, -1


@dataclass(slots=True)
class Pacer:
    """Decides `limit`, the number of requests in flight, between 1 and `ceiling`."""

    ceiling: int
    start: int = START
    limit: int = field(init=False)
    _last: tuple[float, int] | None = field(default=None, init=False)
    _home: int = field(init=False)
    _home_rate: float = field(default=0.0, init=False)
    _direction: int = field(default=UP, init=False)
    _settling: bool = field(default=False, init=False)
    _first_rate: float | None = field(default=None, init=False)
    _rest: int = field(default=0, init=False)
    _hold: int = field(default=HOLD, init=False)
    _step: int = field(default=STEP, init=False)
    _halved: bool = field(default=False, init=False)
    _cold: int = field(default=WARM_UP, init=False)

    def __post_init__(self) -> None:
        self.ceiling = max(1, self.ceiling)
        self.limit = self._home = max(1, min(self.start, self.ceiling))
        self._step = max(CAREFUL, self.start // 2)
        self._rest = 0 if self.limit < self.ceiling else HOLD  # fewer is not the first thing to try

    def raise_ceiling(self, ceiling: int, start: int = 0) -> None:
        """Another file with more threads joined. Only a limit that the old ceiling held down rises at once, to `start` or
        what is usual.
        """
        if ceiling <= self.ceiling:
            return
        start = max(start, self.start)
        if self._home == self.ceiling < start:
            self._go_home(min(start, ceiling), 0)
        self.ceiling = ceiling
        self._rest = min(self._rest, CALM)

    def lower(self, limit: int) -> None:
        """Begin with fewer, before anything was measured."""
        self.set(min(self.limit, limit))

    def set(self, limit: int) -> None:
        """Go on from `limit`, which somebody else knows to be about right."""
        self._go_home(max(1, min(limit, self.ceiling)), 0)
        self._step = max(CAREFUL, limit // 2)

    def throttled(self) -> None:
        """The store asked for fewer requests: halve, and rest before growing again.

        Once in a period: the requests in flight are all refused together, and that is one message, not sixteen.
        """
        if self._halved:
            return
        self._halved = True
        self._go_home(max(1, self.limit // 2), CALM)
        self._hold, self._step = HOLD, CAREFUL

    def tick(self, now: float, moved: int, saturated: bool) -> int:
        """Decide anew from `moved`, the bytes moved since the start.

        `saturated`: exactly `limit` requests are in flight, and more wait. Any other period teaches nothing: there was
        no more to send, or a lower limit has yet to take effect. Call it about every PERIOD seconds.
        """
        self._halved = False
        last, self._last = self._last, (now, moved)
        if last is None or now <= last[0] or not saturated:
            return self.limit
        if self._cold > 0:
            self._cold -= 1
            return self.limit
        rate = (moved - last[1]) / (now - last[0])
        if self._settling:
            self._settling = False  # new connections first fill their send buffers, which looks like goodput
        elif self.limit != self._home:
            self._judge(rate)
        else:
            self._stay(rate)
        return self.limit

    def _stay(self, rate: float) -> None:
        self._home_rate = (self._home_rate + rate) / 2 if self._home_rate else rate  # networks change
        if self._rest > 0:
            self._rest -= 1
        elif self.ceiling > 1:
            self._try(UP if self.limit < self.ceiling else DOWN)

    def _try(self, direction: int) -> None:
        size = max(self._step, self._home // 4) if direction == UP else -max(1, self._home // 4)
        self.limit = max(1, min(self.ceiling, self._home + size))
        self._direction, self._first_rate, self._settling = direction, None, True

    def _judge(self, rate: float) -> None:
        first = self._first_rate is None
        if self._first_rate is not None:
            rate = (self._first_rate + rate) / 2
        better = rate > self._home_rate * (CLEAR if first else GAIN)
        worse = rate * GAIN < self._home_rate
        if better:
            self._hold = HOLD
            self._go_home(self.limit, HOLD)
            self._home_rate = rate
            if 1 < self.limit < self.ceiling:
                self._try(self._direction)
        elif first and not (worse and self._direction == DOWN):
            self._first_rate = rate  # one period may be noise: look once more
        elif worse and self._direction == UP and self._home > 1:
            self._try(DOWN)
        else:
            kept = self._home_rate
            self._go_home(self._home, self._hold)
            self._home_rate = kept
            self._hold = min(2 * self._hold, MAX_HOLD)

    def _go_home(self, limit: int, rest: int) -> None:
        self.limit = self._home = limit
        self._home_rate, self._rest, self._first_rate, self._settling = 0.0, rest, None, False

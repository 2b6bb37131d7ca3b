"""An S3 server that judges: it is strict where the servers of the field are lax, and it remembers every request.

It verifies SigV4, payload hashes and checksums, the rules of parts and conditions, and the limits of several vendors
(`profiles`). It keeps the hashes of what it gets, and bytes only on request, so that an object of 50 GB costs nothing but
its way over the loopback. Faults (`faults`) strike by seed, operation, key, part and attempt, never by the order in which
requests happen to arrive.

`JudgeThread` is for tests in one process, `JudgeServer` (`python -m tests.support.judge`) is a process of its own, and
many `Judge`s share one event loop in `tests.faults`.
"""

from tests.support.judge.faults import KINDS, Cell, Kind, Schedule, Storm, Strike
from tests.support.judge.judge import Judge, JudgeServer, JudgeThread
from tests.support.judge.log import Entry, Log
from tests.support.judge.profiles import PROFILES, Profile

__all__ = [
    "KINDS",
    "PROFILES",
    "Cell",
    "Entry",
    "Judge",
    "JudgeServer",
    "JudgeThread",
    "Kind",
    "Log",
    "Profile",
    "Schedule",
    "Storm",
    "Strike",
]

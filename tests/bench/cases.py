"""What is measured, as data. A new case is a new line here, one behind the emulator too: `wan` holds its options."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench import targets
from tests.bench.targets import Target

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PLAIN = ("jettyctl", "s5cmd", "rclone", "aws")
LOOP = ("jettyctl", "s5cmd", "s5cmd-tuned", "rclone", "aws", "curl")
TUNED = ("jettyctl", "s5cmd", "s5cmd-tuned", "rclone", "rclone-tuned", "aws", "aws-tuned")
SMALL = ("jettyctl", "s5cmd", "rclone", "rclone-tuned", "aws", "aws-tuned")


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison.

    `server` is `null` (accepts everything, keeps nothing, so that the time is the client's own), `tls` (the same behind TLS)
    or `rclone` (stores, for cases that need true answers about what is there). `kind` is `upload`, `again` (each client's one
    object, already uploaded from the unchanged file) or `version`. `sparse` files are mostly holes: cheap to make, slow to
    nobody. With more than one file, all `size` bytes long, a directory is uploaded.
    """

    name: str
    about: str
    size: int
    clients: tuple[str, ...] = PLAIN
    targets: tuple[Target, ...] = ()
    kind: str = "upload"
    server: str = "null"
    sparse: bool = False
    files: int = 1
    folders: int = 1
    wan: tuple[str, ...] = ()  # options of `wan run`; needs root, and the null server
    tuned: tuple[int, int] = (50, 16)  # MiB in a part and requests at once, for the clients named `-tuned`
    runs: int = 5
    once: tuple[str, ...] = ()  # clients so slow here, and so steady, that they run a single time

    @property
    def total(self) -> int:
        """Bytes in all files."""
        return self.size * self.files


# 18 Mbit/s for each connection of a link of 320: the last mile on which one stream carries 100 MB in 45 s.
LAST_MILE = ("--delay", "40", "--rate", "320", "--per-flow", "18")
SMALL_PARTS = (5, 32)

CASES = (
    Case("loop-1g", "1 GiB of random bytes over loopback", GIB, LOOP, targets.LOOP),
    Case("loop-1g-tls", "the same behind TLS", GIB, LOOP, targets.LOOP_TLS, server="tls"),
    Case("loop-10g", "10 GiB over loopback", 10 * GIB, LOOP, targets.LOOP_LONG, sparse=True, runs=3),
    Case("memory-3g", "3 GiB over loopback: peak memory", 3 * GIB, targets=(Target("rss", most=120),), sparse=True),
    Case(
        "wan-100m",
        "100 MiB, 80 ms, a link of 320 Mbit/s, 18 for each connection",
        100 * MIB,
        (*TUNED, "curl"),
        targets.WAN_SHORT,
        wan=LAST_MILE,
        tuned=SMALL_PARTS,
        once=("curl", "rclone"),
    ),
    Case(
        "wan-1g",
        "1 GiB on the same path",
        GIB,
        (*TUNED, "curl"),
        targets.WAN_LONG,
        wan=LAST_MILE,
        tuned=SMALL_PARTS,
        runs=3,
        once=("curl", "s5cmd", "aws"),
    ),
    Case(
        "wan-lossy",
        "256 MiB, 60 ms, 100 Mbit/s, 0.5 % of packets lost",
        256 * MIB,
        TUNED,
        targets.WAN_LOSSY,
        wan=("--delay", "30", "--rate", "100", "--loss", "0.5", "--cc", "cubic"),
        tuned=SMALL_PARTS,
        runs=3,
        once=("s5cmd", "rclone", "aws"),
    ),
    Case(  # packets of 9,000 bytes, as fast local networks have them: the emulator is slower with small ones
        "lan-fast",
        "2 GiB, 1 ms, as fast as the emulator passes it",
        2 * GIB,
        LOOP,
        targets.LAN_FAST,
        wan=("--delay", "0.5", "--rate", "0", "--mtu", "9000"),
        runs=3,
    ),
    Case(
        "small-5k",
        "5,000 files of 16 KiB in 10 folders over loopback",
        16 * KIB,
        SMALL,
        targets.SMALL,
        files=5000,
        folders=10,
        tuned=(50, 64),
    ),
    Case(
        "small-wan",
        "2,000 files of 16 KiB, 80 ms, 100 Mbit/s",
        16 * KIB,
        SMALL,
        targets.SMALL_WAN,
        files=2000,
        folders=10,
        wan=("--delay", "40", "--rate", "100"),
        tuned=(50, 64),
        once=("rclone", "aws"),
    ),
    Case("again-1g", "the same unchanged 1 GiB again", GIB, PLAIN, targets.AGAIN, kind="again", server="rclone"),
    Case(
        "resume-1g",
        "1 GiB on wan-1g's path, killed half-way and begun again",
        GIB,
        ("jettyctl", "jettyctl-resumed"),
        targets.RESUME,
        wan=LAST_MILE,
        runs=3,
    ),
    Case("start-version", "printing the version", 0, PLAIN, targets.START_VERSION, kind="version"),
    Case("start-1k", "uploading 1 KiB", KIB, (*PLAIN, "curl"), targets.START_SMALL),
)


def chosen(names: list[str]) -> list[Case]:
    """Cases by name, or by the beginning of several; all without names. Raises ValueError for a name that fits nothing."""
    found = {case.name for name in names for case in _called(name)}
    return [case for case in CASES if not names or case.name in found]


def _called(name: str) -> list[Case]:
    exact = [case for case in CASES if case.name == name]
    begun = [case for case in CASES if case.name.startswith(name)]
    if not begun:
        raise ValueError(f"no case {name}; there are {', '.join(case.name for case in CASES)}")
    return exact or begun

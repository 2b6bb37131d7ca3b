"""The cache of hashes: what it gives back is right, and nothing that happens to its file is worse than a miss."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jettyctl.core.model import Digests, Identity, Stored
from jettyctl.files.cache import BATCH, DELAY, RACY_NS, HashCache
from jettyctl.files.neighbours import FRESH

IDENTITY = Identity(1, 2, 3, 10**18, 10**18)
DIGESTS = Digests("ab" * 32, (1 << 64) - 1, "cd" * 32)
STORED = Stored(3, '"etag-2"', "ab" * 32, "session")
CALM = 10**18 + RACY_NS  # the first moment at which IDENTITY is old enough to be believed


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the cache will be; its directory does not exist yet."""
    return str(tmp_path / "cache" / "hashes.db")


def filled(path: str) -> str:
    """A cache with one entry of each kind, closed again."""
    cache = HashCache(path)
    cache.remember("/a", IDENTITY, DIGESTS, CALM)
    cache.remember_stored("place", STORED)
    cache.close()
    return path


def read(path: str) -> tuple[Digests | None, Stored | None]:
    """Both entries of `filled`, as a new process would see them."""
    cache = HashCache(path)
    try:
        return cache.hashes("/a", IDENTITY), cache.stored("place")
    finally:
        cache.close()


def works(path: str) -> bool:
    """Whether a cache there takes and gives back entries."""
    return read(filled(path)) == (DIGESTS, STORED)


def test_gives_back_what_it_took(path: str) -> None:
    """Entries are there at once, and in the next process."""
    cache = HashCache(path)
    assert (cache.hashes("/a", IDENTITY), cache.stored("place")) == (None, None)
    cache.remember("/a", IDENTITY, DIGESTS, CALM)
    cache.remember_stored("place", STORED)
    assert (cache.hashes("/a", IDENTITY), cache.stored("place")) == (DIGESTS, STORED)
    cache.close()
    assert read(path) == (DIGESTS, STORED)


@pytest.mark.parametrize("changed", ["dev", "ino", "size", "mtime_ns", "ctime_ns"])
def test_only_the_same_identity(path: str, changed: str) -> None:
    """Any difference in the identity is another file."""
    cache = HashCache(filled(path))
    other = IDENTITY._replace(**{changed: getattr(IDENTITY, changed) - 1})
    assert cache.hashes("/a", other) is None
    assert cache.hashes("/b", IDENTITY) is None
    cache.close()


@pytest.mark.parametrize("stamp", ["mtime_ns", "ctime_ns"])
@pytest.mark.parametrize(
    ("age", "believed"), [(RACY_NS - 1, False), (RACY_NS, True), (RACY_NS + 1, True), (0, False), (-1, False)]
)
def test_racily_clean_entries_are_not_believed(path: str, stamp: str, age: int, believed: bool) -> None:
    """A file hashed within two seconds of its last change may have changed again under the same timestamp."""
    old = IDENTITY._replace(mtime_ns=0, ctime_ns=0)
    identity = old._replace(**{stamp: CALM - age})
    cache = HashCache(path)
    cache.remember("/a", identity, DIGESTS, CALM)
    assert (cache.hashes("/a", identity) is not None) is believed
    cache.close()


def test_newest_entry_wins(path: str) -> None:
    """A file hashed again replaces what was known, and a place forgotten stays so."""
    cache = HashCache(filled(path))
    cache.remember("/a", IDENTITY, DIGESTS._replace(blake3=None), CALM)
    cache.forget_stored("place")
    cache.forget_stored("never seen")
    assert cache.stored("place") is None
    cache.close()
    assert read(path) == (DIGESTS._replace(blake3=None), None)


def test_kinds_do_not_mix(path: str) -> None:
    """A path and a place of the same text are two entries."""
    cache = HashCache(path)
    cache.remember("x", IDENTITY, DIGESTS, CALM)
    assert cache.stored("x") is None
    cache.close()


@given(st.binary(min_size=1, max_size=30).map(os.fsdecode) | st.text())
def test_every_name_is_a_key(name: str) -> None:
    """Undecodable bytes, NULs and lone surrogates are names like others."""
    cache = HashCache("/dev/null/nowhere")  # kept in memory: this is about names
    cache.remember(name, IDENTITY, DIGESTS, CALM)
    cache.remember_stored(name, STORED)
    assert (cache.hashes(name, IDENTITY), cache.stored(name)) == (DIGESTS, STORED)
    cache.close()


def test_odd_names_survive_on_disk(path: str) -> None:
    """The same names, written and read again."""
    names = [os.fsdecode(b"/\xff\xfe"), "/\ud800", "/a\0b", "/é", ""]
    first, again = HashCache(path), HashCache(path)
    for size, name in enumerate(names):
        first.remember_stored(name, STORED._replace(size=size))
    first.close()
    assert [again.stored(name) for name in names] == [STORED._replace(size=size) for size in range(len(names))]
    again.close()


def test_is_lazy_and_private(path: str) -> None:
    """No file until something is asked; then one that only its owner may read."""
    before = os.umask(0)
    try:
        cache = HashCache(path)
        assert not os.path.exists(os.path.dirname(path))
        cache.hashes("/a", IDENTITY)
        cache.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_unused_cache_leaves_nothing(path: str) -> None:
    """Opening and closing is free."""
    HashCache(path).close()
    assert not os.path.exists(path)


def rows(path: str) -> int:
    """How many entries another process sees."""
    with sqlite3.connect(path) as database:
        count: int = database.execute("SELECT count(*) FROM entries").fetchone()[0]
    database.close()
    return count


def test_writes_are_batched(path: str) -> None:
    """A full batch is committed at once, what follows at the end."""
    cache = HashCache(path)
    for number in range(BATCH + 5):
        cache.remember_stored(str(number), STORED)
    assert rows(path) == BATCH
    cache.close()
    assert rows(path) == BATCH + 5


def test_writes_do_not_wait_for_ever(path: str) -> None:
    """A write older than a second is committed by the next call, even one that only reads."""
    cache = HashCache(path)
    cache.remember_stored("place", STORED)
    cache.stored("other")
    assert rows(path) == 0
    time.sleep(DELAY + 0.05)
    cache.stored("other")
    assert rows(path) == 1
    cache.close()


def test_killed_process_loses_only_what_it_kept_back(path: str) -> None:
    """A process that dies leaves a cache that works."""
    code = (
        "import os, sys; from jettyctl.files.cache import HashCache; from jettyctl.core.model import Stored\n"
        "cache = HashCache(sys.argv[1])\n"
        "for number in range(250): cache.remember_stored(str(number), Stored(number, 'e', 's', 'i'))\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == 9
    assert rows(path) == BATCH
    assert works(path)


def garbage(path: str) -> None:
    """No database at all."""
    Path(path).write_bytes(b"garbage " * 1000)


def truncated(path: str) -> None:
    """Half a database."""
    os.truncate(path, os.path.getsize(path) // 2)


def emptied(path: str) -> None:
    """A database of nothing."""
    os.truncate(path, 0)


def foreign(path: str) -> None:
    """The table of another version, with other columns."""
    os.unlink(path)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE entries (something TEXT)")
        database.execute("PRAGMA user_version = 99")
    database.close()


def holed(path: str) -> None:
    """A good head, and nothing but ones after it."""
    data = bytearray(Path(path).read_bytes())
    data[4096:] = b"\xff" * len(data[4096:])
    Path(path).write_bytes(data)


def with_stale_journal(path: str) -> None:
    """Garbage, with a rollback journal beside it that belongs to nothing."""
    garbage(path)
    Path(path + "-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0" * 600)


@pytest.mark.parametrize("break_it", [garbage, truncated, emptied, foreign, holed, with_stale_journal])
def test_broken_file_is_begun_anew(path: str, break_it: Callable[[str], None]) -> None:
    """Damage of the whole file is a miss, and the next entries are kept again."""
    break_it(filled(path))
    assert read(path) == (None, None)
    assert works(path)


def test_damage_during_use(path: str) -> None:
    """A file that breaks while it is open is begun anew by the same process."""
    cache = HashCache(filled(path))
    assert cache.hashes("/a", IDENTITY) == DIGESTS
    garbage(path)
    for _ in range(3):
        cache.hashes("/b", IDENTITY)
        cache.remember_stored("new", STORED)
    cache.close()
    assert works(path)


@pytest.mark.parametrize("position", range(64))
def test_rot_is_a_miss_never_a_wrong_hash(path: str, position: int) -> None:
    """Whichever byte of the rows flips, what comes back is right or nothing."""
    data = bytearray(Path(filled(path)).read_bytes())
    used = [index for index in range(4096, len(data)) if data[index]]
    for index in used[position :: 64 * 4]:
        rotten = bytearray(data)
        rotten[index] ^= 1 << position % 8
        Path(path).write_bytes(rotten)
        digests, stored = read(path)
        assert digests in (None, DIGESTS)
        assert stored in (None, STORED)


@pytest.mark.parametrize("column", ["value", "crc"])
@pytest.mark.parametrize("content", ["NULL", "'text'", "17", "x'00ff'", "CAST(x'ff' AS TEXT)"])
def test_row_of_other_content_is_a_miss(path: str, column: str, content: str) -> None:
    """A row of the wrong type is a miss like any other."""
    with sqlite3.connect(filled(path)) as database:
        database.execute(f"UPDATE entries SET {column} = {content}")
    database.close()
    assert read(path) == (None, None)


def test_place_that_cannot_be(tmp_path: Path) -> None:
    """A directory that is a file, a file that is a directory and a name with a NUL: all misses, no error."""
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "file" / "db", tmp_path / "directory", tmp_path / "a\0b", tmp_path / ("n" * 300)):
        filled(str(path))
        assert read(str(path)) == (None, None)
    assert (tmp_path / "directory").is_dir()


def test_locked_file_is_a_miss_and_stays(path: str) -> None:
    """Another process that holds the file costs entries and a short wait, not the file."""
    filled(path)
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    assert read(path) == (None, None)
    filled(path)
    assert time.monotonic() - started < 3
    other.rollback()
    other.close()
    assert read(path) == (DIGESTS, STORED)


def test_two_processes_at_once(path: str) -> None:
    """Two caches on one file do not hold each other up: neither keeps a transaction open."""
    one, two = HashCache(path), HashCache(path)
    for number in range(3 * BATCH):
        one.remember_stored(f"one {number}", STORED)
        two.remember_stored(f"two {number}", STORED)
    one.close()
    two.close()
    assert rows(path) == 6 * BATCH


def test_threads(path: str) -> None:
    """Many threads share one cache; each finds what it put."""
    cache = HashCache(path)
    wrong: list[str] = []

    def work(name: str) -> None:
        for number in range(100):
            key = f"{name} {number}"
            cache.remember(key, IDENTITY._replace(size=number), DIGESTS, CALM)
            if cache.hashes(key, IDENTITY._replace(size=number)) != DIGESTS:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.close()
    assert wrong == []
    assert rows(path) == 800


def test_closed_cache_is_empty(path: str) -> None:
    """After close nothing is kept and nothing fails."""
    cache = HashCache(filled(path))
    cache.close()
    cache.close()
    cache.remember("/a", IDENTITY, DIGESTS, CALM)
    assert (cache.hashes("/a", IDENTITY), cache.stored("place")) == (None, None)


def test_neighbours_are_read_together(path: str) -> None:
    """Entries asked for in order, in reverse and at random are all right, also those that are missing in between."""
    cache = HashCache(path)
    for number in range(0, 1000, 2):
        cache.remember_stored(f"place-{number:04}", STORED._replace(size=number))
    cache.close()
    cache = HashCache(path)
    numbers = list(range(1000))
    for order in (numbers, numbers[::-1], random.Random(1).sample(numbers, 1000)):
        found = {number: cache.stored(f"place-{number:04}") for number in order}
        assert all((found[number] == STORED._replace(size=number)) is (number % 2 == 0) for number in numbers)
    cache.close()


def test_what_another_process_writes_is_seen_soon(path: str) -> None:
    """An entry that was read with its neighbours is believed for a second, not for the whole run."""
    one, other = HashCache(path), HashCache(path)
    assert one.stored("place") is None
    other.remember_stored("place", STORED)
    other.close()
    deadline = time.monotonic() + 10 * FRESH
    while one.stored("place") != STORED:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    one.close()

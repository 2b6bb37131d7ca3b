"""The tests are tested: bugs are planted into a copy of the package, one at a time, and the tests named beside each turn red.

The first twelve are those that uploaders are known for; the others are of the kind that a quick change makes. A patch that
does not fit any more is an error: it is to be planted anew where the code has gone. `python -m tests.faults.planted` shows
each by itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.faults.figures import Figure
from tests.support.running import ROOT
from tests.support.servers import bare_environment

AT_ONCE = 2
DEADLINE = 180.0  # seconds
COPIED = ("jettyctl", "tests", "pyproject.toml", "README.md")


@dataclass(frozen=True, slots=True)
class Bug:
    """`old` stands once in `path`, and becomes `new`. `tests` are arguments of pytest."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


BUGS = (
    Bug(
        "a 301 is taken for success",
        "jettyctl/storage/s3/wire.py",
        "    if 200 <= reply.status < 300:\n        return reply\n",
        "    if 200 <= reply.status < 400:\n        return reply\n",
        ("tests/unit/test_s3_wire.py", "tests/unit/test_s3_http.py::test_redirects_are_not_followed"),
    ),
    Bug(
        "the body of Complete is not looked at",
        "jettyctl/storage/s3/client.py",
        'root = wire.root_of(wire.must(reply, "completing", upload.key), "CompleteMultipartUploadResult")\n'
        '        return ObjectInfo(size, wire.text_of(root, "ETag", "").strip(\'"\'))',
        'wire.must(reply, "completing", upload.key)\n        return ObjectInfo(size, "")',
        ("tests/faults/test_cells.py",),
    ),
    Bug(
        "the last part is left out",
        "jettyctl/storage/s3/client.py",
        "wire.complete_body(receipts)",
        "wire.complete_body(receipts[:-1] or receipts)",
        ("tests/contract/test_store_uploads.py::test_parts_in_any_order[moto]",),
    ),
    Bug(
        "conditions are not sent",
        "jettyctl/storage/s3/client.py",
        'object_headers(options) + ([("if-none-match", "*")] if if_absent else [])',
        "object_headers(options)",
        ("tests/contract/test_store.py::test_if_absent[moto]",),
    ),
    Bug(
        "requests are logged as they are sent",
        "jettyctl/net/http.py",
        "        silence = self._patience.idle if timeout is None else timeout\n",
        "        silence = self._patience.idle if timeout is None else timeout\n"
        '        __import__("sys").stderr.write(f"{method} {url} {headers}\\n")\n',
        ("tests/faults/test_canaries.py::test_no_secret_is_left_behind",),
    ),
    Bug(
        "a part is recorded before its reply",
        "jettyctl/engine/transfer.py",
        "        try:\n            receipt = await self._shared.carry(self._carry, attempt)\n",
        "        early = Receipt(attempt.chunk.number, attempt.chunk.length, '', 0)\n"
        "        self._recorder.completed(early)\n"
        "        try:\n            receipt = await self._shared.carry(self._carry, attempt)\n",
        ("tests/e2e/test_crash_gaps.py::test_between_a_part_and_its_receipt",),
    ),
    Bug(
        "Complete is repeated blindly",
        "jettyctl/engine/complete.py",
        "        ours = find_finished(job, session, digests.crc64)\n        if ours is None:",
        "        ours = None\n        if ours is None:",
        ("tests/faults/test_cells.py",),
    ),
    Bug(
        "a file is known by its time and size alone",
        "jettyctl/core/model.py",
        "    mtime_ns: int\n    ctime_ns: int\n",
        "    mtime_ns: int\n    ctime_ns: int\n\n"
        "    def __eq__(self, other):\n        return self[:4] == other[:4]\n\n"
        "    def __ne__(self, other):\n        return self[:4] != other[:4]\n",
        ("tests/faults/test_cells.py",),
    ),
    Bug(
        "the checksums of the journal's rows are not looked at",
        "jettyctl/journal/sqlite.py",
        "    if crc != _crc(*key, record):\n",
        "    if crc is None:\n",
        ("tests/unit/test_journal_damage.py",),
    ),
    Bug(
        "a resume cuts parts by today's options",
        "jettyctl/engine/sessions.py",
        "opened = None if why else _go_on(shared, job, session)",
        "object.__setattr__(session, 'chunk_size', strategy.chunk_size)\n"
        "                opened = None if why else _go_on(shared, job, session)",
        ("tests/faults/test_cells.py",),
    ),
    Bug(
        "a redirect is followed with all headers",
        "jettyctl/net/http.py",
        "            return Reply(exchange.status, exchange.headers, b\"\".join(_limited(exchange.body())))\n",
        '            if exchange.status // 100 == 3 and "location" in exchange.headers:\n'
        '                return self.request(method, exchange.headers["location"], headers)\n'
        "            return Reply(exchange.status, exchange.headers, b\"\".join(_limited(exchange.body())))\n",
        ("tests/unit/test_s3_http.py::test_redirects_are_not_followed",),
    ),
    Bug(
        "a clone needs no proof of ownership",
        "jettyctl/server/control/clones.py",
        '"failed proof": not proven,',
        '"failed proof": False,',
        ("tests/server/test_clones.py::test_every_refusal_is_alike",),
    ),
    Bug(
        "what is sent is not compared with what was hashed",
        "jettyctl/files/body.py",
        "            if left == 0 and crc != self.crc64:\n",
        "            if left < 0:\n",
        ("tests/unit/test_body_and_hashing.py",),
    ),
    Bug(
        "names are printed as they are",
        "jettyctl/core/names.py",
        "    if text.isascii() and text.isprintable():\n",
        "    if text:\n",
        ("tests/faults/test_names.py::test_no_name_steers_a_terminal",),
    ),
    Bug(
        "bytes of a name that are no text are dropped from its key",
        "jettyctl/core/names.py",
        'lambda match: f"%{ord(match[0]) - 0xDC00:02X}"',
        '""',
        ("tests/faults/test_names.py::test_hostile_names_round_trip",),
    ),
)


class Unplantable(Exception):
    """The code is not what a patch was made for."""


@contextmanager
def copied() -> Iterator[str]:
    """A copy of the package and its tests."""
    directory = tempfile.mkdtemp(prefix="jettyctl-planted-")
    try:
        for name in COPIED:
            source, target = os.path.join(ROOT, name), os.path.join(directory, name)
            if os.path.isdir(source):
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def plant(bug: Bug, directory: str) -> None:
    """Patch the copy. Raises Unplantable."""
    path = os.path.join(directory, bug.path)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if text.count(bug.old) != 1:
        raise Unplantable(f"{bug.name}: the patch fits {text.count(bug.old)} places of {bug.path}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(bug.old, bug.new))


def tested(directory: str, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests of the copy, by which all its processes import the copy: pytest's exit status, and what it said."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", "", "-p", "no:cacheprovider", "--tb=line", *tests]
    env = {**bare_environment(), "PYTHONPATH": directory, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=DEADLINE)
    return done.returncode, done.stdout + done.stderr


def problem(bug: Bug) -> str:
    """Why a bug counts as not caught; empty if its tests turn red, by failures and not by errors."""
    with copied() as directory:
        plant(bug, directory)
        status, said = tested(directory, bug.tests)
    if status == 1 and re.search(r"^FAILED ", said, re.MULTILINE) and not re.search(r"^ERROR ", said, re.MULTILINE):
        return ""
    return f"{bug.name}: pytest ended with {status}: {said.strip()[-300:]}"


def sound() -> str:
    """Why the tests fail that find the bugs, without one; empty if they do not."""
    with copied() as directory:
        place = subprocess.run(
            [sys.executable, "-c", "import jettyctl; print(jettyctl.__file__)"],
            cwd=directory, env={**bare_environment(), "PYTHONPATH": directory}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        if not os.path.realpath(place.strip()).startswith(os.path.realpath(directory)):
            return f"not the copy is imported, but {place}"
        status, said = tested(directory, list(dict.fromkeys(test for bug in BUGS for test in bug.tests)))
    return "" if status == 0 else f"without a bug, pytest ended with {status}: {said.strip()[-500:]}"


def figures() -> list[Figure]:
    """The rows of the report."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        without, problems = pool.submit(sound), [found for found in pool.map(problem, BUGS) if found]
    got = f"{len(BUGS) - len(problems)} of {len(BUGS)}"
    notes = (*problems, *filter(None, (without.result(),)))
    return [Figure("Planted bugs caught", f"{len(BUGS)} of {len(BUGS)}", got, not notes, notes)]


def main() -> int:
    """Plant the bugs that are named by their numbers, or all, and show each."""
    chosen = [BUGS[int(number) - 1] for number in sys.argv[1:]] or BUGS
    missed = 0
    for bug in chosen:
        found = problem(bug)
        missed += bool(found)
        print(f"{'MISSED' if found else 'caught'}  {bug.name}{': ' if found else ''}{found}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

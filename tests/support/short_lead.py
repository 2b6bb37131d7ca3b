"""jettyctl whose leaders are ahead by two chunks of the least size at most: `python -m tests.support.short_lead upload …`.

What takes files of gigabytes otherwise happens with small ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from jettyctl import __main__
from jettyctl.engine import upload
from jettyctl.files.hashing import Leader

LEAD = 10 << 20  # bytes


def main() -> None:
    """Run jettyctl. With `--bug` as the first argument, the second file that it takes up is one too many for it."""
    defaults = Leader.__init__.__kwdefaults__
    assert defaults
    defaults["lead"] = LEAD
    sys.argv[0] = "jettyctl"
    if sys.argv[1] == "--bug":
        del sys.argv[1]
        setattr(upload, "check_key", _fail_at("second"))  # noqa: B010 - mypy would have its name and signature the same
    __main__.entry()


def _fail_at(name: str) -> Callable[[str, int], str]:
    def check_key(key: str, _most: int) -> str:
        if key.endswith(name):
            raise RuntimeError("a bug")
        return key

    return check_key


if __name__ == "__main__":
    main()

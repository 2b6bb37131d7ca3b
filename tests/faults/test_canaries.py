"""A share of the search for secrets, and a test of the search."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.faults.canaries import SECRETS, Search, searched


@pytest.mark.timeout(120)
def test_no_secret_is_left_behind() -> None:
    """Runs that are refused, told nonsense or interrupted, as loud as they get, leave no secret and no signature anywhere."""
    search = searched(["error-500", "expired", "moved-307", "portal"], ("part", "complete", "put"), processes=False)
    assert search.found == []
    assert search.runs >= 24


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_secret_in_processes() -> None:
    """Neither do wrong credentials, passwords in addresses, or a crash; arguments have no secret in them."""
    assert searched(["error-500"], ("put",)).found == []


@pytest.mark.parametrize("secret", SECRETS)
def test_the_search_finds_what_is_there(tmp_path: Path, secret: str) -> None:
    """A secret in a file is found: as it is, in an address, or in base64; a signature is found as well."""
    for content in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode(), "x&X-Amz-Signature=0123456789ab"):
        (tmp_path / "journal.sqlite-wal").write_text(f"before {content} after")
        search = Search()
        search.below("a run", str(tmp_path))
        assert search.found

"""The service against its own description: schemathesis makes requests of every kind, good and bad.

It fails on any 5xx, and on a status, content type or body that /openapi.json does not name.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.plane import PlaneProcess, new_key
from tests.support.servers import program

UNSOUND = (
    "ignored_auth,"  # another key in its place: the limit of bad keys is tested elsewhere
    "positive_data_acceptance"  # a session that is not there is a 404 however well it is asked for
)
CONTRACT = {f"/api/jetty/{name}" for name in ("optimal-edges", "check-duplicate", "cache-chunk", "track-upload")}


def schemathesis(plane: PlaneProcess, directory: Path, *options: str) -> str:
    """Run it with a good key of an admin; its report if it found something."""
    command = program("schemathesis")
    assert command
    key = new_key(plane.settings.database_url, user="usr_fuzz", scopes=("read", "write", "admin"))[1]
    done = subprocess.run(
        [
            command, "run", f"{plane.url}/openapi.json", "--header", f"Authorization: Bearer {key}", "--exclude-checks", UNSOUND,
            "--seed", "7", "--no-color", "--warnings", "off", "--generation-database", "none", "--no-shrink", *options,
        ],
        cwd=directory, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_everything_answers_as_described(plane: PlaneProcess, tmp_path: Path) -> None:
    """No endpoint gives a 5xx or an answer that the description does not name, whatever is asked."""
    report = schemathesis(plane, tmp_path, "--phases", "examples,coverage,fuzzing", "--max-examples", "200")
    assert not report, report


def test_what_the_description_says(client: httpx.Client) -> None:
    """Every operation but those for monitors needs a key, names its failures in the one shape, and has a sentence."""
    described: dict[str, Any] = client.get("/openapi.json").json()
    assert set(described["paths"]) >= CONTRACT
    failure = {"$ref": "#/components/schemas/Failure"}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert "422" not in operation["responses"], (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert response["content"]["application/json"]["schema"] == failure, (method, path, status)
            if path.startswith("/api/jetty/") and "/blobs/" not in path:
                assert operation["security"] == [{"key": []}], (method, path)
                assert {"400", "401", "403", "429", "500", "503"} <= set(operation["responses"]), (method, path)

"""docs/api.md is run: each request of its examples, in order, and each answer compared with what is written there.

In an answer `…` stands for anything, a word of NAMES for a text that is kept under that name, and everything else for
itself. In a request such a word is what was kept.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import jettyctl
from jettyctl.server.control.settings import LIMITS
from jettyctl.server.control.strict import FAILURES
from tests.support.databases import Backend
from tests.support.plane import PlaneProcess, new_key, plane_settings

PAGE = (Path(jettyctl.__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = ("ADMIN", "SESSION", "FILE", "BROKEN", "TOKEN", "ETAG", "HELLO", "NONCE", "SEED", "PROOF", "COPY")
NAME = re.compile(rf"(?<![\w-])(?:{'|'.join(NAMES)})(?![\w-])")
ANY = "\0any"
CONTENT = b"hello, jetty"
BLAKE3 = "8dfe728bc2ed2a4cbeb03090e2c6802081c543417653ea3e3cb338e13b3ad184"
USUAL = {"400", "401", "403", "408", "413", "421", "429", "500", "503"}  # of every endpoint; the page says so once
BACKGROUND_SECONDS = 20.0  # that the service may take for what it does after an answer

Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Example:
    """A request and its answer, as they are written."""

    line: int
    method: str
    target: str
    headers: Mapping[str, str]
    body: str
    status: str
    answer_headers: Mapping[str, str]
    answer: str

    def __str__(self) -> str:
        return f"docs/api.md:{self.line}: {self.method} {self.target}"


def examples() -> Iterator[Example]:
    """All of them, in order."""
    for block in re.finditer(r"^```http\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        request, _, reply = block[1].partition("HTTP/1.1 ")
        method_line, headers, body = _message(request)
        status, answer_headers, answer = _message(reply)
        method, _, target = method_line.partition(" ")
        line = PAGE.count("\n", 0, block.start()) + 2
        yield Example(line, method, target, headers, body, status, answer_headers, answer)


def _message(text: str) -> tuple[str, dict[str, str], str]:
    """First line, headers, body."""
    head, _, body = text.strip("\n").partition("\n\n")
    first, *rest = head.splitlines()
    return first, dict(line.split(": ", 1) for line in rest), body.strip("\n")


def loads(text: str) -> Any:  # noqa: ANN401 - JSON is anything
    """JSON in which `…` may stand for a value."""
    return json.loads(re.sub(r'"(?:\\.|[^"\\])*"|…', lambda found: json.dumps(ANY) if found[0] == "…" else found[0], text))


def fill(text: str, known: Values) -> str:
    """The text with what earlier answers gave."""
    return NAME.sub(lambda found: known[found[0]], text)


def differences(written: Any, found: Any, known: Values, where: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON
    """Where an answer is not what is written; names that are new are kept in `known`."""
    if isinstance(written, dict) and isinstance(found, dict):
        if written.keys() != found.keys():
            yield f"{where}: {sorted(written.keys() ^ found.keys())} only in one of the two"
        for name in written.keys() & found.keys():
            yield from differences(written[name], found[name], known, f"{where}.{name}")
    elif isinstance(written, list) and isinstance(found, list):
        more = written[-1:] == [ANY]
        if not (len(written) - 1 <= len(found) if more else len(written) == len(found)):
            yield f"{where}: {len(found)} items"
        for index, pair in enumerate(zip(written[: len(written) - more], found, strict=False)):
            yield from differences(*pair, known, f"{where}[{index}]")
    elif not same(written, found, known):
        yield f"{where}: {found!r} is not {written!r}"


def same(written: object, found: object, known: Values) -> bool:
    """Whether a value is the written one; 1 is neither 1.0 nor true."""
    if written == ANY:
        return True
    if isinstance(written, str) and isinstance(found, str):
        return matches(written, found, known)
    return type(written) is type(found) and written == found


def matches(written: str, found: str, known: Values) -> bool:
    """Whether a text is the written one."""
    pattern = "".join(_pattern(piece, known) for piece in re.split(rf"({NAME.pattern}|…)", written))
    match = re.fullmatch(pattern, found, re.DOTALL)
    if match:
        known.update(match.groupdict())
    return match is not None


def _pattern(piece: str, known: Values) -> str:
    if piece == "…":
        return ".*"
    if NAME.fullmatch(piece) and piece not in known:
        return f"(?P<{piece}>.+)"
    return re.escape(known.get(piece, piece))


@pytest.fixture(scope="module")
def documented(shared_backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaneProcess]:
    """A service as it comes, with its usual limits."""
    directory = tmp_path_factory.mktemp("documented")
    settings = plane_settings(shared_backend, directory, public_url="https://jetty.example", limits=LIMITS)
    with PlaneProcess(settings, directory) as process:
        yield process


@pytest.fixture(scope="module")
def described(documented: PlaneProcess) -> dict[str, Any]:
    """What the service says of itself."""
    with documented.client() as client:
        answer: dict[str, Any] = client.get("/openapi.json").json()
    return answer


def test_the_examples_are_what_happens(documented: PlaneProcess, tmp_path: Path) -> None:
    """Every request of the page, sent in order by one user, gets the answer that is written under it."""
    url = documented.settings.database_url
    known = {
        "key": new_key(url, user="usr_abc")[1],
        "ADMIN": new_key(url, user="usr_admin", scopes=("admin",))[1],
    }
    with documented.client() as client:
        shown = list(examples())
        assert len(shown) > 30
        for example in shown:
            if "SEED" in known and "PROOF" not in known:
                known["PROOF"] = proof_of(known, tmp_path)
            assert not told(client, example, known), example


def told(client: httpx.Client, example: Example, known: Values) -> list[str]:
    """What differs. A GET is repeated for a while: some of what it tells of is done after the answer before."""
    deadline = time.monotonic() + BACKGROUND_SECONDS
    while True:
        tried = dict(known)
        found = compare(send(client, example, known), example, tried)
        if not found:
            known.update(tried)
            return []
        if example.method != "GET" or not example.status.startswith("200") or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def send(client: httpx.Client, example: Example, known: Values) -> httpx.Response:
    """The request, as the page says that it is sent."""
    headers = {"Authorization": f"Bearer {known['key']}"}
    if example.body.startswith("{"):
        headers["Content-Type"] = "application/json"
    headers |= {name: fill(value, known) for name, value in example.headers.items()}
    return client.request(example.method, fill(example.target, known), headers=headers, content=fill(example.body, known))


def compare(reply: httpx.Response, example: Example, known: Values) -> list[str]:
    """What differs between an answer and the written one."""
    found = []
    if (status := f"{reply.status_code} {reply.reason_phrase}") != example.status:
        found.append(f"{status} is not {example.status}: {reply.text}")
    for name, value in example.answer_headers.items():
        if not matches(value, reply.headers.get(name, ""), known):
            found.append(f"{name}: {reply.headers.get(name)} is not {value}")
    if example.answer.startswith("{"):
        return [*found, *differences(loads(example.answer), reply.json(), known)]
    return found if example.answer in (reply.text, "") else [*found, f"{reply.text!r} is not {example.answer!r}"]


def proof_of(known: Values, directory: Path) -> str:
    """What the Python of the page computes."""
    path = directory / "hello.txt"
    path.write_bytes(CONTENT)
    code = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(code) == 1
    with path.open("rb") as file:
        values: dict[str, Any] = {
            "os": os, "file": file.fileno(), "size": len(CONTENT), "seed": known["SEED"], "nonce": known["NONCE"],
            "user_id": "usr_abc", "whole": BLAKE3,
        }  # fmt: skip
        exec(code[0], values)
    assert f'"blake3:{values["sample"].hexdigest()}"' in PAGE
    proof: str = values["proof"]
    return proof


def sections() -> dict[tuple[str, str], str]:
    """What stands below each heading that names an endpoint, up to the next heading."""
    found = {}
    for heading, text in re.findall(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL):
        method, _, path = heading.partition(" ")
        found[method.lower(), path] = text
    return found


def operations(described: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The operations of the description, by method and path."""
    return {(method, path): one for path, methods in described["paths"].items() for method, one in methods.items()}


def fields_of(schema: dict[str, Any], described: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """The fields of an object, or of each of several, and whether each is required."""
    if "$ref" in schema:
        schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for other in schema.get("oneOf", ()):
        yield from fields_of(other, described)
    for name in schema.get("properties", ()):
        yield name, name in schema.get("required", ())


def test_every_route_is_on_the_page(described: dict[str, Any]) -> None:
    """The page has a section for each route, and no other."""
    assert set(sections()) == set(operations(described))


def test_every_field_is_on_the_page(described: dict[str, Any]) -> None:
    """The table of a section has the fields of the request's body, as required as they are, and no other."""
    for where, operation in operations(described).items():
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        wanted = {(name, required) for name, required in fields_of(schema, described) if name != "action"}
        rows = re.findall(r"^\|(?: `\w+` \|| \|)? ((?:`\w+`(?:, )?)+) \|([^|]*)\|", sections()[where], re.MULTILINE)
        written = {(name, "required" in kind) for names, kind in rows for name in re.findall(r"\w+", names)}
        assert written - {("action", False)} == wanted, where


def test_every_parameter_is_on_the_page(described: dict[str, Any]) -> None:
    """A section names the parameters of its route."""
    for where, operation in operations(described).items():
        for parameter in operation.get("parameters", ()):
            name = parameter["name"]
            assert f"`{name}`" in sections()[where] or f"{{{name}}}" in where[1], (where, name)


def test_every_answer_is_on_the_page(described: dict[str, Any]) -> None:
    """A section names every field of its answers, and no status that the service does not know for it."""
    for where, operation in operations(described).items():
        text, answers = sections()[where], operation["responses"]
        prose = re.sub(r"```.*?```|`.*?`|\d+ ms", "", text, flags=re.DOTALL)
        assert {*re.findall(r"\b[45]\d\d\b", prose)} <= {*answers}, where
        for answer in (answers[status] for status in ("200", "201") if status in answers):
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            for name, _ in fields_of(schema, described):
                assert f'"{name}"' in text or f"`{name}`" in text, (where, name)
        if where[1].startswith("/api/"):
            assert {*answers} >= USUAL, where


def test_scopes_and_limits_are_on_the_page(described: dict[str, Any]) -> None:
    """Each section below /api/jetty names scope and bucket, and the table of limits is what the service does."""
    for where, text in sections().items():
        if where[1].startswith("/api/jetty/") and "/blobs/" not in where[1]:
            assert re.search(r"[Ss]cope:?\s(`(read|write|admin)`|any)", text), where
            bucket = re.search(r"bucket\s`([\w-]+)`", text)
            assert bucket, where
            assert bucket[1] in LIMITS, where
    table = PAGE.partition("| bucket |")[2].partition("\n\n")[0]
    assert {name: int(limit) for name, limit in re.findall(r"^\| `([\w-]+)` \| (\d+) \|$", table, re.MULTILINE)} == LIMITS


def test_every_failure_is_on_the_page() -> None:
    """The table of failures has each status that the service answers, and no other."""
    table = PAGE.partition("| status | `error` |")[2].partition("\n\n")[0]
    statuses = {int(status) for status in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert statuses == {*FAILURES, 405}

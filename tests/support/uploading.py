"""Uploads through a control plane as a foreign client sends them: JSON and plain PUTs, with none of jettyctl's own code."""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
from awscrt import checksums
from blake3 import blake3

MIB = 1 << 20
API = "/api/jetty"


def crc64(content: bytes) -> str:
    """CRC64NVME in hex."""
    return f"{checksums.crc64nvme(content):016x}"


def sha256(content: bytes) -> str:
    """A file hash."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(slots=True)
class Sender:
    """One upload of `content` to `key`."""

    client: httpx.Client
    content: bytes
    key: str
    chunk_size: int = 5 * MIB
    holder: str = "holder-1"
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    fence: int = 0
    completed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return max(1, -(-len(self.content) // self.chunk_size))

    def chunk(self, number: int) -> bytes:
        """The bytes of a part."""
        return self.content[(number - 1) * self.chunk_size : number * self.chunk_size]

    def begin(self, **changes: object) -> httpx.Response:
        """POST uploads; the fence is kept."""
        body = {
            "sessionId": self.session_id,
            "key": self.key,
            "fileName": self.key.rpartition("/")[2],
            "fileSize": len(self.content),
            "chunkSize": self.chunk_size,
            "holder": self.holder,
            "host": "test",
            **changes,
        }
        reply = self.client.post(f"{API}/uploads", json=body)
        self.fence = reply.json().get("fence", self.fence)
        return reply

    def claim(self, number: int) -> dict[str, Any]:
        """What is said of a part before it is sent."""
        content = self.chunk(number)
        md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
        sha = hashlib.sha256(content).hexdigest()
        return {"number": number, "length": len(content), "crc64": crc64(content), "md5": md5, "sha256": sha}

    def parts(self, *, completed: Iterable[dict[str, Any]] = (), wanted: Iterable[int] = (), **changes: object) -> httpx.Response:
        """POST parts."""
        body = {
            "fence": self.fence,
            "completed": [*completed],
            "wanted": [self.claim(number) for number in wanted],
            **changes,
        }
        return self.client.post(f"{API}/uploads/{self.session_id}/parts", json=body)

    def sign(self, *numbers: int) -> list[dict[str, Any]]:
        """Requests for parts."""
        signed: list[dict[str, Any]] = self.parts(wanted=numbers).raise_for_status().json()["parts"]
        return signed

    def send(self, *numbers: int) -> None:
        """Sign and put parts; their receipts are kept."""
        for part in self.sign(*numbers):
            self.completed.append(self.receipt(part["number"], put(part, self.chunk(part["number"]))))

    def receipt(self, number: int, reply: httpx.Response) -> dict[str, Any]:
        """What is told of a part that was sent."""
        reply.raise_for_status()
        content = self.chunk(number)
        etag = reply.headers["etag"].strip('"')
        return {"number": number, "etag": etag, "crc64": crc64(content), "length": len(content), "edgeId": ""}

    def finish(self) -> dict[str, Any]:
        """The body of a finalize."""
        content = self.content
        return {
            "fence": self.fence,
            "fileHash": sha256(content),
            "crc64": crc64(content),
            "size": len(content),
            "completed": self.completed[:100],
        }

    def finalize(self, **changes: object) -> httpx.Response:
        """POST finalize."""
        return self.client.post(f"{API}/uploads/{self.session_id}/finalize", json={**self.finish(), **changes})

    def upload(self, **changes: object) -> dict[str, Any]:
        """All of it; what finalize answers."""
        self.begin(**changes).raise_for_status()
        self.send(*range(1, self.count + 1))
        answer: dict[str, Any] = self.finalize().raise_for_status().json()
        return answer


def put(part: dict[str, Any], content: bytes, **changes: Any) -> httpx.Response:  # noqa: ANN401 - of httpx
    """Send a signed request as it is, but for `changes` (method, url, headers)."""
    headers = {**part["headers"], **changes.pop("headers", {})}
    request = {"method": part["method"], "url": part["url"], "content": content, "headers": headers, **changes}
    return httpx.request(**request, timeout=30, trust_env=False)


def verified(client: httpx.Client, key: str, seconds: float = 20.0) -> dict[str, Any]:
    """The object, once the service has read it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.get(f"{API}/object", params={"key": key}).raise_for_status().json()
        if found["verified"]:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{key} was not verified within {seconds} s")


def blake3_of(content: bytes) -> str:
    """BLAKE3 in hex."""
    return blake3(content).hexdigest()

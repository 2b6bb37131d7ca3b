"""A plain reverse proxy works as an edge: examples/nginx-edge.conf, with the names of this test's servers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bodies import noise
from tests.support.edge_process import part_target, presigned_part, send
from tests.support.running import ROOT
from tests.support.servers import Server, client, fetch, free_port, stop, wait_for_port

NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
PART = 5 << 20


@pytest.fixture
def nginx(rclone: Server, tmp_path: Path) -> Iterator[int]:
    """nginx with the example's configuration, plain HTTP to rclone; its port."""
    port = free_port()
    text = Path(ROOT, "examples", "nginx-edge.conf").read_text()
    text = "\n".join(line for line in text.splitlines() if "proxy_ssl" not in line)
    for old, new in {
        "s3.example.com:443": f"127.0.0.1:{rclone.port}",
        "s3.example.com": "127.0.0.1",
        "https://origin": "http://origin",
        "listen 53777": f"listen 127.0.0.1:{port}",
        "/run/nginx-edge.pid": str(tmp_path / "pid"),
        "access_log /dev/stdout edge;": f"access_log {tmp_path}/access edge; {temporary_paths(tmp_path)}",
    }.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "nginx.conf"
    path.write_text(text)
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-c", path, "-p", tmp_path, "-e", "stderr", "-g", "daemon off;"])
    assert wait_for_port(port, lambda: process.poll() is None)
    yield port
    stop(process)


def temporary_paths(directory: Path) -> str:
    """Where nginx may write without being root."""
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{name}_temp_path {directory}/{name};" for name in names)


def test_an_upload_goes_through(nginx: int, rclone: Server, tmp_path: Path) -> None:
    """Parts presigned for the store arrive through nginx: rclone verifies the signature, the Host in it included."""
    content = noise(PART + 12_345)
    host = rclone.endpoint.removeprefix("http://")
    with client(rclone) as s3:
        where = {"Bucket": rclone.bucket, "Key": "through nginx"}
        upload_id = s3.create_multipart_upload(**where)["UploadId"]
        parts = []
        for number, piece in enumerate((content[:PART], content[PART:]), 1):
            target = presigned_part(rclone, where["Key"], upload_id, number)
            status, headers, _ = send(nginx, "PUT", target, piece, {"Host": host})
            assert status == 200
            parts.append({"PartNumber": number, "ETag": headers["etag"]})
        s3.complete_multipart_upload(**where, UploadId=upload_id, MultipartUpload={"Parts": parts})
    assert fetch(rclone, where["Key"]) == content
    log = (tmp_path / "access").read_text()
    assert log.count(" PUT /bucket/through nginx ") == 2
    assert "Signature" not in log


def test_only_parts_pass(nginx: int, rclone: Server) -> None:
    """Other methods, hosts and requests are refused; /health answers."""
    here = {"Host": rclone.endpoint.removeprefix("http://")}
    good = part_target()
    assert send(nginx, "GET", "/health")[0] == 200
    assert send(nginx, "GET", "/health", None, here)[0] == 200
    assert send(nginx, "PUT", good, b"x", {"Host": "evil.example"})[0] == 403
    assert send(nginx, "GET", good, None, here)[0] == 405
    assert send(nginx, "DELETE", "/bucket/key", None, here)[0] == 405
    assert send(nginx, "PUT", "/bucket/key", b"x", here)[0] == 403
    assert send(nginx, "PUT", "/bucket/key?partNumber=1&uploadId=u", b"x", here)[0] == 403
    assert send(nginx, "PUT", good.replace("=1&", "=x&"), b"x", here)[0] == 403
    assert send(nginx, "PUT", f"{good}&partNumber=2", b"x", here)[0] == 400
    assert send(nginx, "PUT", good, b"x", {**here, "x-amz-copy-source": "/b/k"})[0] == 403

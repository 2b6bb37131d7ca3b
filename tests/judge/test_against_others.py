"""The judge and the servers of the field, asked the same: it answers as they do where they are right, and refuses what they
let pass. What each of them lets pass is written in the rows, so that a server that becomes stricter shows here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.judge import JudgeThread
from tests.support.servers import Server, client

pytestmark = pytest.mark.slow  # of a server that only tests use, and that seldom changes

MIB = 1 << 20
BIG = bytes(5 * MIB)

Said = tuple[int, str] | None
Script = Callable[["Caller"], Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """A client with a key of its own."""

    s3: Any
    key: str

    def __call__(self, operation: str, **arguments: object) -> Any:  # noqa: ANN401 - botocore's
        return getattr(self.s3, operation)(Bucket="bucket", **{"Key": self.key, **arguments})

    def begin(self) -> str:
        return str(self("create_multipart_upload")["UploadId"])

    def part(self, upload: str, number: int, body: bytes, **more: object) -> dict[str, Any]:
        tag = self("upload_part", UploadId=upload, PartNumber=number, Body=body, **more)["ETag"]
        return {"PartNumber": number, "ETag": tag}

    def complete(self, upload: str, *parts: dict[str, Any], **more: object) -> Any:  # noqa: ANN401 - botocore's
        return self("complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": list(parts)}, **more)


def outcome(script: Script, caller: Caller) -> tuple[int, str]:
    """Status and code of the last call: 0 and "" for success."""
    try:
        script(caller)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return 0, ""


def empty_object(call: Caller) -> None:
    call("put_object", Body=b"")
    assert call("head_object")["ContentLength"] == 0


def whole_upload(call: Caller) -> None:
    upload = call.begin()
    call.complete(upload, call.part(upload, 1, BIG), call.part(upload, 2, b"end"))
    found = call("head_object")
    etag = hashlib.md5(hashlib.md5(BIG).digest() + hashlib.md5(b"end").digest()).hexdigest()
    assert (found["ContentLength"], call("get_object")["Body"].read() == BIG + b"end") == (5 * MIB + 3, True)
    assert found["ETag"].strip('"') in (f"{etag}-2", hashlib.md5(BIG + b"end").hexdigest())  # the latter is rclone's


def parts_are_listed(call: Caller) -> None:
    upload = call.begin()
    for number in (1, 2, 5):
        call.part(upload, number, b"x" * number)
    first = call("list_parts", UploadId=upload, MaxParts=2)
    assert [item["PartNumber"] for item in first["Parts"]] == [1, 2]
    assert first["IsTruncated"]
    rest = call("list_parts", UploadId=upload, PartNumberMarker=first["NextPartNumberMarker"])
    assert [(item["PartNumber"], item["Size"]) for item in rest["Parts"]] == [(5, 5)]
    assert not rest.get("IsTruncated")  # which rclone leaves out


def metadata_is_kept(call: Caller) -> None:
    call("put_object", Body=b"x", Metadata={"name": "value"}, ContentType="text/x-own")
    found = call("head_object")
    assert {name.lower(): value for name, value in found["Metadata"].items()} == {"name": "value"}
    assert found["ContentType"] == "text/x-own"


def delete_twice(call: Caller) -> None:
    call("put_object", Body=b"x")
    call("delete_object")
    call("delete_object")


def range_is_read(call: Caller) -> None:
    call("put_object", Body=b"0123456789")
    assert call("get_object", Range="bytes=2-4")["Body"].read() == b"234"


def copied(call: Caller) -> None:
    call("put_object", Body=b"source", Metadata={"a": "1"})
    call("copy_object", Key=call.key + "-2", CopySource={"Bucket": "bucket", "Key": call.key})
    assert call("get_object", Key=call.key + "-2")["Body"].read() == b"source"


def nothing_there(call: Caller) -> None:
    call("get_object")


def no_such_upload(call: Caller) -> None:
    call.part("0123456789abcdef", 1, b"x")


def completed_twice(call: Caller) -> None:
    upload = call.begin()
    part = call.part(upload, 1, b"x")
    call.complete(upload, part)
    call.complete(upload, part)


def part_after_abort(call: Caller) -> None:
    upload = call.begin()
    call("abort_multipart_upload", UploadId=upload)
    call.part(upload, 1, b"x")


def small_part(call: Caller) -> None:
    upload = call.begin()
    call.complete(upload, call.part(upload, 1, b"small"), call.part(upload, 2, b"end"))


def wrong_etag(call: Caller) -> None:
    upload = call.begin()
    call.complete(upload, {**call.part(upload, 1, b"x"), "ETag": '"' + "0" * 32 + '"'})


def wrong_order(call: Caller) -> None:
    upload = call.begin()
    first, second = call.part(upload, 1, BIG), call.part(upload, 2, BIG)
    call.complete(upload, second, first)


def wrong_md5(call: Caller) -> None:
    call("put_object", Body=b"x", ContentMD5=base64.b64encode(hashlib.md5(b"y").digest()).decode())


def wrong_crc64(call: Caller) -> None:
    upload = call.begin()
    call.part(upload, 1, b"x", ChecksumCRC64NVME=base64.b64encode(bytes(8)).decode())


def wrong_sha256(call: Caller) -> None:
    call("put_object", Body=b"x", ChecksumSHA256=base64.b64encode(bytes(32)).decode())


def put_unless_there(call: Caller) -> None:
    call("put_object", Body=b"x")
    call("put_object", Body=b"y", IfNoneMatch="*")


def complete_unless_there(call: Caller) -> None:
    call("put_object", Body=b"x")
    upload = call.begin()
    call.complete(upload, call.part(upload, 1, b"y"), IfNoneMatch="*")


def wrong_object_size(call: Caller) -> None:
    upload = call.begin()
    call.complete(upload, call.part(upload, 1, b"y"), MpuObjectSize=2)


OK = (0, "")
# What the judge answers, and how moto and rclone differ: None where they answer the same.
CALLS: list[tuple[Script, Said, Said, Said]] = [
    (empty_object, OK, None, None),
    (whole_upload, OK, None, None),
    (parts_are_listed, OK, None, None),
    (metadata_is_kept, OK, None, None),
    (delete_twice, OK, None, None),
    (range_is_read, OK, None, None),
    (copied, OK, None, None),
    (nothing_there, (404, "NoSuchKey"), None, None),
    (no_such_upload, (404, "NoSuchUpload"), (500, "500"), None),
    (completed_twice, (404, "NoSuchUpload"), OK, None),
    (part_after_abort, (404, "NoSuchUpload"), (500, "500"), None),
    (small_part, (400, "EntityTooSmall"), None, OK),
    (wrong_etag, (400, "InvalidPart"), None, None),
    (wrong_order, (400, "InvalidPartOrder"), OK, None),
    (wrong_md5, (400, "BadDigest"), OK, None),
    (wrong_crc64, (400, "BadDigest"), OK, OK),
    (wrong_sha256, (400, "BadDigest"), OK, OK),
    (put_unless_there, (412, "PreconditionFailed"), None, OK),
    (complete_unless_there, (412, "PreconditionFailed"), None, OK),
    (wrong_object_size, (400, "InvalidRequest"), OK, OK),
]


@pytest.fixture(scope="module")
def clients(moto: Server, rclone: Server) -> Iterator[dict[str, Any]]:
    """All three, each with one client."""
    with JudgeThread(keep=64 * MIB) as judge, client(judge) as mine, client(moto) as first, client(rclone) as second:
        yield {"judge": mine, "moto": first, "rclone": second}


@pytest.mark.parametrize(("script", "expected", "moto_says", "rclone_says"), CALLS, ids=[row[0].__name__ for row in CALLS])
def test_same_call(clients: dict[str, Any], script: Script, expected: Said, moto_says: Said, rclone_says: Said) -> None:
    """Status and code of the judge are S3's; the others agree, or let pass what the row says."""
    wanted = {"judge": expected, "moto": moto_says or expected, "rclone": rclone_says or expected}
    found = {name: outcome(script, Caller(s3, script.__name__)) for name, s3 in clients.items()}
    assert found == wanted

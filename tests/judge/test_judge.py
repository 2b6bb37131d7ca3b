"""What the judge refuses of its own, and that faults come when they are to come, and no other time."""

from __future__ import annotations

import base64
import hashlib
import random
import threading
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from awscrt import checksums
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.judge import KINDS, Cell, JudgeServer, JudgeThread, Kind, Storm
from tests.support.judge.hashes import joined_crc64
from tests.support.servers import client

pytestmark = pytest.mark.slow  # of a server that only tests use, and that seldom changes

MIB = 1 << 20
S3 = Any  # botocore's client, which has no type
Strict = Callable[..., tuple[JudgeThread, Any]]


def sent(s3: S3, *sizes: int, key: str = "key", listed: tuple[int, ...] = (), **more: Any) -> str:  # noqa: ANN401 - botocore's arguments
    """Upload parts of these sizes and complete those that are `listed`; the refusal, or ""."""
    try:
        upload = s3.create_multipart_upload(Bucket="bucket", Key=key)["UploadId"]
        parts = {}
        for number, size in enumerate(sizes, 1):
            reply = s3.upload_part(Bucket="bucket", Key=key, UploadId=upload, PartNumber=number, Body=bytes(size))
            parts[number] = {"PartNumber": number, "ETag": reply["ETag"]}
        chosen = [parts[number] for number in listed or parts]
        done = {"Bucket": "bucket", "Key": key, "UploadId": upload, "MultipartUpload": {"Parts": chosen}, **more}
        s3.complete_multipart_upload(**done)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_crc64_of_parts_joins() -> None:
    """The CRC is the published one, and those of pieces join to that of the whole, also of 50 GB."""
    assert checksums.crc64nvme(b"123456789") == 0xAE8B14860A799888
    data = random.Random(1).randbytes(100_003)
    for cuts in ((0, 100_003), (1, 50_000), (7, 99_999)):
        pieces = [data[: cuts[0]], data[cuts[0] : cuts[1]], data[cuts[1] :]]
        assert joined_crc64((checksums.crc64nvme(piece), len(piece)) for piece in pieces) == checksums.crc64nvme(data)
    part = checksums.crc64nvme(bytes(5 * MIB))
    whole = 0
    for _ in range(10_000):
        whole = checksums.combine_crc64nvme(whole, part, 5 * MIB)
    assert joined_crc64([(part, 5 * MIB)] * 10_000) == whole


def test_profiles(strict: Strict) -> None:
    """Each vendor's limits are kept: equal parts and expiry, the number of parts, what is verified, what is conditional."""
    _, aws = strict()
    _, r2 = strict(profile="r2")
    _, thousand = strict(profile="thousand")
    _, ceph = strict(profile="ceph")
    assert sent(aws, 6 * MIB, 5 * MIB, 7 * MIB) == ""
    assert sent(r2, 6 * MIB, 5 * MIB, 1) == "InvalidPart"
    assert sent(r2, 5 * MIB, 6 * MIB) == "InvalidPart"
    assert sent(r2, 5 * MIB, 5 * MIB, 1) == ""
    assert sent(ceph, 1, IfNoneMatch="*") == ""
    assert sent(ceph, 1, IfNoneMatch="*") == ""
    upload = thousand.create_multipart_upload(Bucket="bucket", Key="key")["UploadId"]
    with pytest.raises(ClientError, match="between 1 and 1000"):
        thousand.upload_part(Bucket="bucket", Key="key", UploadId=upload, PartNumber=1001, Body=b"")


@pytest.mark.parametrize(("profile", "gone"), [("r2", True), ("aws", False)])
def test_unfinished_upload_expires(strict: Strict, profile: str, gone: bool) -> None:
    """R2 forgets an upload after seven days; AWS does not."""
    judge, s3 = strict(profile=profile)
    upload = s3.create_multipart_upload(Bucket="bucket", Key="key")["UploadId"]
    call = {"Bucket": "bucket", "Key": "key", "UploadId": upload}
    judge.shelf.uploads[upload].at -= 7 * 86_400 - 60
    s3.list_parts(**call)
    judge.shelf.uploads[upload].at -= 61
    if not gone:
        s3.list_parts(**call)
        return
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.list_parts(**call)


def test_what_is_said_of_the_whole_object(s3: S3) -> None:
    """Size and CRC of the whole object are compared with the parts that are listed; a short list alone passes, as at AWS."""
    crc = base64.b64encode(checksums.crc64nvme(bytes(5 * MIB + 1)).to_bytes(8, "big")).decode()
    right: dict[str, Any] = {"ChecksumCRC64NVME": crc, "ChecksumType": "FULL_OBJECT", "MpuObjectSize": 5 * MIB + 1}
    assert sent(s3, 5 * MIB, 1, **right) == ""
    found = s3.head_object(Bucket="bucket", Key="key", ChecksumMode="ENABLED")
    assert (found["ChecksumCRC64NVME"], found["ChecksumType"]) == (crc, "FULL_OBJECT")
    assert sent(s3, 5 * MIB, 1, **{**right, "ChecksumCRC64NVME": base64.b64encode(bytes(8)).decode()}) == "BadDigest"
    assert sent(s3, 5 * MIB, 1, listed=(1,), MpuObjectSize=5 * MIB + 1) == "InvalidRequest"
    assert sent(s3, 5 * MIB, 1, listed=(1,)) == ""


def test_if_match(s3: S3) -> None:
    """A write that names the version which it replaces is refused when that is not there."""
    tag = s3.put_object(Bucket="bucket", Key="key", Body=b"1")["ETag"]
    assert sent(s3, 1, IfMatch='"0"') == "PreconditionFailed"
    assert sent(s3, 1, IfMatch=tag) == ""
    assert sent(s3, 1, key="other", IfMatch=tag) == "NoSuchKey"


def test_part_copy(s3: S3) -> None:
    """Parts are copied by range, if the source is the one that was named."""
    data = random.Random(2).randbytes(11 * MIB)
    tag = s3.put_object(Bucket="bucket", Key="source", Body=data)["ETag"]
    upload = s3.create_multipart_upload(Bucket="bucket", Key="key")["UploadId"]
    base = {"Bucket": "bucket", "Key": "key", "UploadId": upload, "CopySource": {"Bucket": "bucket", "Key": "source"}}
    parts = []
    for number, span in ((1, f"bytes=0-{6 * MIB - 1}"), (2, f"bytes={6 * MIB}-{11 * MIB - 1}")):
        made = s3.upload_part_copy(**base, PartNumber=number, CopySourceRange=span, CopySourceIfMatch=tag)
        parts.append({"PartNumber": number, "ETag": made["CopyPartResult"]["ETag"]})
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.upload_part_copy(**base, PartNumber=3, CopySourceIfMatch='"0"')
    s3.complete_multipart_upload(Bucket="bucket", Key="key", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket="bucket", Key="key")["Body"].read() == data


def test_pages_of_1001_parts_and_uploads(judge: JudgeThread, s3: S3) -> None:
    """No listing has more than a thousand items, and all pages together have each item once."""
    upload = s3.create_multipart_upload(Bucket="bucket", Key="key")["UploadId"]
    s3.upload_part(Bucket="bucket", Key="key", UploadId=upload, PartNumber=1, Body=b"x")
    held = judge.shelf.uploads[upload]
    held.parts.update(dict.fromkeys(range(1, 1002), held.parts[1]))
    first = s3.list_parts(Bucket="bucket", Key="key", UploadId=upload)
    assert (len(first["Parts"]), first["IsTruncated"]) == (1000, True)
    for number in range(1001):
        judge.shelf.begin(f"many/{number % 3}", {}, number)
    found: list[str] = []
    markers: dict[str, str] = {}
    while True:
        page = s3.list_multipart_uploads(Bucket="bucket", Prefix="many/", **markers)
        found += [item["UploadId"] for item in page.get("Uploads", [])]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert (len(found), len(set(found))) == (1001, 1001)


def test_schedule_depends_on_its_arguments_only() -> None:
    """The same seed has the same faults in whatever order it is asked; another seed has others; the rate is kept."""
    places = list(product(("put", "part", "complete", "head"), ("a", "b"), range(1, 26), range(1, 6)))
    storm = Storm(7, 0.2, list(KINDS))
    before = {place: storm.decide(*place) for place in places}
    random.Random(3).shuffle(places)
    assert {place: Storm(7, 0.2, list(KINDS)).decide(*place) for place in places} == before
    assert {place: Storm(8, 0.2, list(KINDS)).decide(*place) for place in places} != before
    assert 0.15 < sum(strike is not None for strike in before.values()) / len(before) < 0.25
    assert {strike.kind.name for strike in before.values() if strike} >= {"refuse", "flip-reply", "lost-reply"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if not kind.slow and kind.befalls("put")], ids=lambda k: k.name)
def test_each_fault_strikes_once_and_shows(strict: Strict, kind: Kind) -> None:
    """The first put is struck, and its caller or the log can tell; the second is not."""
    judge, s3 = strict(schedule=Cell(1, kind.name, "put", "key"))
    body = random.Random(4).randbytes(200_000)
    failed, tag = False, ""
    try:
        tag = s3.put_object(Bucket="bucket", Key="key", Body=body).get("ETag", "")
    except (ClientError, BotoCoreError, ValueError):
        failed = True
    assert judge.log.hits == {(kind.name, "put"): 1}
    right = f'"{hashlib.md5(body).hexdigest()}"'
    silent = kind.name in ("delay", "duplicate")
    assert silent == (judge.log.entries[0].delivered and not failed and tag == right)
    for _ in range(20):  # nobody may be listening for a moment
        try:
            assert s3.put_object(Bucket="bucket", Key="key", Body=body)["ETag"] == right
            break
        except BotoCoreError:
            time.sleep(0.1)
    assert judge.shelf.objects["key"].holds(body)
    assert not judge.shelf.objects["key"].holds(body[:-1] + b"x")


def test_log_tells_what_was_sent_again(strict: Strict) -> None:
    """A part counts as sent again only if its whole true reply was on its way before."""
    judge, s3 = strict(schedule=Cell(1, "late-500", "part", "key"))
    upload = s3.create_multipart_upload(Bucket="bucket", Key="key")["UploadId"]
    call = {"Bucket": "bucket", "Key": "key", "UploadId": upload, "PartNumber": 1, "Body": b"x"}
    s3.upload_part(**call)  # botocore tries once more by itself
    assert [entry.applied for entry in judge.log.of("part")] == [True, True]
    assert list(judge.log.sent_again("key")) == []
    s3.upload_part(**call)
    assert [entry.attempt for entry in judge.log.sent_again("key")] == [3]


def test_log_forgives_who_listed_the_parts_meanwhile(strict: Strict) -> None:
    """Who lists the parts while one is in flight, as the heir of a dead process does, cannot know that it arrives."""
    judge, s3 = strict(schedule=Cell(1, "delay", "part", "key"))
    upload = s3.create_multipart_upload(Bucket="bucket", Key="key")["UploadId"]
    call = {"Bucket": "bucket", "Key": "key", "UploadId": upload, "PartNumber": 1, "Body": b"x"}
    dying = threading.Thread(target=lambda: s3.upload_part(**call))
    dying.start()
    while not list(judge.log.of("part")):
        time.sleep(0.01)
    assert "Parts" not in s3.list_parts(Bucket="bucket", Key="key", UploadId=upload)
    dying.join()
    s3.upload_part(**call)
    assert list(judge.log.sent_again("key")) == []


def test_as_a_process() -> None:
    """`python -m tests.support.judge` serves the same."""
    with JudgeServer("--keep", "100") as server, client(server) as s3:
        s3.put_object(Bucket="bucket", Key="key", Body=b"body")
        assert s3.get_object(Bucket="bucket", Key="key")["Body"].read() == b"body"

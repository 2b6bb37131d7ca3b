"""The operations on multipart uploads, with the rules of parts that servers in the field do not always check."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from itertools import pairwise

from tests.support.judge.hashes import Hashes, joined_crc64
from tests.support.judge.operations import Bucket, described, source_of, span_of
from tests.support.judge.replies import Asked, Refusal, Reply, Request, document, element, iso, named, quoted
from tests.support.judge.shelf import Part, Stored, Unfinished, joined_etag

PAGE = 1000


def create(bucket: Bucket, request: Request) -> Reply:
    """CreateMultipartUpload."""
    asked = request.asked
    upload = bucket.shelf.begin(asked.key, described(asked.headers), bucket.now())
    content = element("Bucket", asked.bucket) + element("Key", asked.key) + element("UploadId", upload.id)
    return document("InitiateMultipartUploadResult", content)


def upload_of(bucket: Bucket, asked: Asked) -> Unfinished:
    """The upload that a request is about."""
    return bucket.shelf.upload(asked.asks("uploadId"), asked.key, bucket.now(), bucket.profile.expiry)


def part(bucket: Bucket, request: Request) -> Reply:
    """UploadPart."""
    upload = upload_of(bucket, request.asked)
    made = Part.of(_number(bucket, request.asked), request.body, bucket.now())
    if made.size > bucket.profile.max_part:
        raise Refusal(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
    upload.parts[made.number] = made
    headers = {"ETag": quoted(made.etag)}
    if "crc64nvme" in bucket.profile.verifies and "x-amz-checksum-crc64nvme" in request.asked.headers:
        headers["x-amz-checksum-crc64nvme"] = base64.b64encode(made.crc64.to_bytes(8, "big")).decode()
    return Reply(200, headers=headers)


def part_copy(bucket: Bucket, request: Request) -> Reply:
    """UploadPartCopy. Without the bytes, only of exactly the bytes of one part."""
    upload = upload_of(bucket, request.asked)
    number = _number(bucket, request.asked)
    _, source = source_of(bucket, request.asked)
    span = request.asked.headers.get("x-amz-copy-source-range")
    first, last = span_of(span, source.size) if span else (0, source.size - 1)
    made = _copied(source, number, first, last, bucket.now())
    upload.parts[number] = made
    return document("CopyPartResult", element("LastModified", iso(made.at)) + element("ETag", quoted(made.etag)))


def _copied(source: Stored, number: int, first: int, last: int, now: float) -> Part:
    content = source.content
    if content is not None:
        return Part.of(number, Hashes.of(content[first : last + 1]), now)
    offset = 0
    for piece in source.parts:
        if (offset, offset + piece.size - 1) == (first, last):
            return Part(number, piece.size, piece.etag, piece.sha256, piece.crc64, now)
        offset += piece.size
    raise Refusal(501, "NotImplemented", "Only hashes of this object were kept, and none of this range.")


def _number(bucket: Bucket, asked: Asked) -> int:
    text = asked.asks("partNumber") or ""
    if not text.isdecimal() or not 1 <= int(text) <= bucket.profile.max_parts:
        limit = bucket.profile.max_parts
        raise Refusal(400, "InvalidArgument", f"Part number must be an integer between 1 and {limit}, inclusive")
    return int(text)


def complete(bucket: Bucket, request: Request) -> Reply:
    """CompleteMultipartUpload."""
    asked = request.asked
    upload = upload_of(bucket, asked)
    parts = _listed(upload, request.body.content or b"")
    _sizes(bucket, parts)
    _whole(bucket, asked, parts)
    bucket.condition(asked)
    made = Stored(parts, joined_etag(parts), upload.described, bucket.now())
    bucket.shelf.objects[asked.key] = made
    del bucket.shelf.uploads[upload.id]
    content = element("Bucket", asked.bucket) + element("Key", asked.key) + element("ETag", quoted(made.etag))
    return document("CompleteMultipartUploadResult", content)


def listed(content: bytes) -> list[tuple[int, str]]:
    """Number and ETag of the parts in a request to complete. Raises Refusal."""
    try:
        root = ET.fromstring(content)
        found = [(int(_text(item, "PartNumber")), _text(item, "ETag").strip('"')) for item in root if _local(item) == "Part"]
    except (ET.ParseError, ValueError):
        found = []
    if not found:
        raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed.")
    return found


def _listed(upload: Unfinished, content: bytes) -> tuple[Part, ...]:
    wanted = listed(content)
    if any(first[0] >= second[0] for first, second in pairwise(wanted)):
        raise Refusal(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
    for number, etag in wanted:
        if number not in upload.parts or upload.parts[number].etag != etag:
            raise Refusal(400, "InvalidPart", f"Part {number} could not be found, or its entity tag did not match.")
    return tuple(upload.parts[number] for number, _ in wanted)


def _sizes(bucket: Bucket, parts: tuple[Part, ...]) -> None:
    if any(piece.size < bucket.profile.min_part for piece in parts[:-1]):
        raise Refusal(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
    sizes = {piece.size for piece in parts[:-1]}
    if bucket.profile.equal_parts and (len(sizes) > 1 or (sizes and parts[-1].size > max(sizes))):
        raise Refusal(400, "InvalidPart", "All non-trailing parts must have the same length.")


def _whole(bucket: Bucket, asked: Asked, parts: tuple[Part, ...]) -> None:
    """What is said of the whole object."""
    size = asked.headers.get("x-amz-mp-object-size")
    if size is not None and bucket.profile.object_size and size != str(sum(piece.size for piece in parts)):
        raise Refusal(400, "InvalidRequest", "The provided x-amz-mp-object-size does not match the size of the parts.")
    given = asked.headers.get("x-amz-checksum-crc64nvme")
    if given is None or "crc64nvme" not in bucket.profile.verifies:
        return
    whole = joined_crc64((piece.crc64, piece.size) for piece in parts)
    if given != base64.b64encode(whole.to_bytes(8, "big")).decode():
        raise Refusal(400, "BadDigest", "The CRC64NVME you specified did not match the calculated checksum.")


def abort(bucket: Bucket, request: Request) -> Reply:
    """AbortMultipartUpload."""
    del bucket.shelf.uploads[upload_of(bucket, request.asked).id]
    return Reply(204)


def list_parts(bucket: Bucket, request: Request) -> Reply:
    """ListParts, a page of it."""
    asked = request.asked
    upload = upload_of(bucket, asked)
    after, most = _limit(asked, "part-number-marker", 0), _limit(asked, "max-parts", PAGE)
    numbers = sorted(number for number in upload.parts if number > after)
    page = numbers[: min(most, PAGE)]
    content = element("Bucket", asked.bucket) + element("Key", asked.key) + element("UploadId", upload.id)
    content += element("PartNumberMarker", after) + element("MaxParts", most)
    content += element("NextPartNumberMarker", page[-1] if page else 0)
    content += element("IsTruncated", str(len(page) < len(numbers)).lower())
    return document("ListPartsResult", content + "".join(_item(bucket, upload.parts[number]) for number in page))


def _item(bucket: Bucket, piece: Part) -> str:
    content = element("PartNumber", piece.number) + element("LastModified", iso(piece.at))
    content += element("ETag", quoted(piece.etag)) + element("Size", piece.size)
    if "crc64nvme" in bucket.profile.verifies:
        content += element("ChecksumCRC64NVME", base64.b64encode(piece.crc64.to_bytes(8, "big")).decode())
    return f"<Part>{content}</Part>"


def list_uploads(bucket: Bucket, request: Request) -> Reply:
    """ListMultipartUploads, a page of it, in order of key and then of age."""
    asked = request.asked
    prefix, most = asked.asks("prefix") or "", min(_limit(asked, "max-uploads", PAGE), PAGE)
    marker, id_marker = asked.asks("key-marker") or "", asked.asks("upload-id-marker") or ""
    url = asked.asks("encoding-type") == "url"
    found = [upload for upload in _in_order(bucket.shelf.uploads.values()) if _is_asked(bucket, upload, prefix)]
    ids = [upload.id for upload in found if upload.key == marker]
    passed = set(ids[: ids.index(id_marker) + 1]) if id_marker in ids else set() if id_marker else set(ids)
    left = [upload for upload in found if upload.key > marker or (upload.key == marker and upload.id not in passed)]
    page = left[:most]
    content = element("Bucket", asked.bucket) + element("Prefix", named(prefix, url=url)) + element("MaxUploads", most)
    content += element("IsTruncated", str(len(page) < len(left)).lower()) + (element("EncodingType", "url") if url else "")
    if page and len(page) < len(left):
        content += element("NextKeyMarker", named(page[-1].key, url=url)) + element("NextUploadIdMarker", page[-1].id)
    for upload in page:
        item = element("Key", named(upload.key, url=url)) + element("UploadId", upload.id)
        content += f"<Upload>{item}{element('Initiated', iso(upload.at))}</Upload>"
    return document("ListMultipartUploadsResult", content)


def _is_asked(bucket: Bucket, upload: Unfinished, prefix: str) -> bool:
    return upload.key == prefix if bucket.profile.exact_listing else upload.key.startswith(prefix)


def _in_order(uploads: Iterable[Unfinished]) -> list[Unfinished]:
    return sorted(uploads, key=lambda upload: (upload.key, upload.at))


def _limit(asked: Asked, name: str, default: int) -> int:
    text = asked.asks(name)
    if text is None or text == "":
        return default
    if not text.isdecimal():
        raise Refusal(400, "InvalidArgument", f"{name} must be an integer")
    return int(text)


def _text(item: ET.Element, tag: str) -> str:
    return next((child.text or "" for child in item if _local(child) == tag), "")


def _local(item: ET.Element) -> str:
    return item.tag.rpartition("}")[2]

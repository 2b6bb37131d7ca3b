"""Who may ask: signatures made by botocore, which knows nothing of the verifier, and what happens when a bit of them changes."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any

import botocore.session
import httpx
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.support.judge import JudgeThread
from tests.support.judge.signature import Key
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY, client

MD5 = base64.b64encode(hashlib.md5(b"body").digest()).decode()
pytestmark = pytest.mark.slow  # of a server that only tests use, and that seldom changes

S3 = Any  # botocore's client, which has no type
NAMES = [
    "plain",
    "a b",
    "a+b",
    "ümlaut",
    "per%20cent",
    "a&b=c",
    "tilde~",
    "star*",
    "(paren)'s",
    "a//b",
    "日本/語",
    "new\nline",
    "q?x#y",
]


def signed(judge: JudgeThread, method: str, target: str, body: bytes = b"", **headers: str) -> dict[str, Any]:
    """The arguments of a request, signed by botocore. `_` in the names of headers stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, judge.endpoint + target, data=body, headers=named)
    S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION).add_auth(request)
    return {"method": method, "url": judge.endpoint + target, "content": body, "headers": dict(request.headers)}


def presigned(judge: JudgeThread, method: str, target: str, seconds: int = 60) -> str:
    """A URL, signed by botocore."""
    request = AWSRequest(method, judge.endpoint + target)
    S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION, expires=seconds).add_auth(request)
    return str(request.url)


def code(reply: httpx.Response) -> str:
    """S3's word for a refusal."""
    return reply.text.partition("<Code>")[2].partition("</Code>")[0]


def later(stamp: str) -> str:
    """Another second of the same ten."""
    return f"{stamp[:-2]}{(int(stamp[-2]) + 1) % 10}Z"


def ask(request: dict[str, Any]) -> httpx.Response:
    return httpx.request(**request, trust_env=False)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_botocore_signs(s3: S3, name: str) -> None:
    """Keys with whatever characters verify as botocore signs them, in the path and in a query."""
    s3.put_object(Bucket="bucket", Key=name, Body=b"x", Metadata={"two": "a  b"}, ContentType="text/plain")
    assert s3.get_object(Bucket="bucket", Key=name)["Body"].read() == b"x"
    upload = s3.create_multipart_upload(Bucket="bucket", Key=name)["UploadId"]
    found = s3.list_multipart_uploads(Bucket="bucket", Prefix=name)["Uploads"]
    assert [(item["Key"], item["UploadId"]) for item in found] == [(name, upload)]


def test_every_part_of_a_signature_counts(judge: JudgeThread) -> None:
    """A change of method, path, query, any signed header, or the signature is refused; without one it is not."""
    good = signed(judge, "PUT", "/bucket/key?partNumber=1&uploadId=x", b"body", content_md5=MD5)
    assert code(ask(good)) == "NoSuchUpload"
    for change in (
        {"method": "POST"},
        {"url": good["url"].replace("key", "kez")},
        {"url": good["url"].replace("=1", "=2")},
        {"url": good["url"] + "&more="},
        {"headers": {**good["headers"], "Content-MD5": "AAAA"}},
        {"headers": {**good["headers"], "X-Amz-Content-SHA256": "0" * 64}},
        {"headers": {**good["headers"], "X-Amz-Date": later(good["headers"]["X-Amz-Date"])}},
        {"headers": {**good["headers"], "Authorization": good["headers"]["Authorization"][:-4] + "0000"}},
    ):
        refused = ask({**good, **change})
        assert (refused.status_code, code(refused)) == (403, "SignatureDoesNotMatch"), change


def test_who_is_not_known(judge: JudgeThread) -> None:
    """Anonymous requests, unknown keys, other regions and headers that nobody signed are refused, each in S3's words."""
    good = signed(judge, "GET", "/bucket/key")
    headers = good["headers"]
    other = {**headers, "Authorization": headers["Authorization"].replace(ACCESS_KEY, "AKIANOBODY")}
    region = {**headers, "Authorization": headers["Authorization"].replace(REGION, "mars-1")}
    bare = {name: value for name, value in headers.items() if name != "X-Amz-Content-SHA256"}
    assert code(ask({**good, "headers": {}})) == "AccessDenied"
    assert code(ask({**good, "headers": other})) == "InvalidAccessKeyId"
    assert code(ask({**good, "headers": region})) == "AuthorizationHeaderMalformed"
    assert code(ask({**good, "headers": {**headers, "x-amz-meta-extra": "1"}})) == "AccessDenied"
    assert code(ask({**good, "headers": bare})) in ("InvalidRequest", "SignatureDoesNotMatch")
    assert code(ask(good)) == "NoSuchKey"


def test_clock(strict: Callable[..., tuple[JudgeThread, Any]]) -> None:
    """Signatures of more than a quarter of an hour ago, or ahead, are refused, and the server says what time it is."""
    shift = [0.0]

    def clock() -> float:
        return time.time() + shift[0]

    judge, _ = strict(clock=clock)
    good = signed(judge, "GET", "/bucket/key")
    link = presigned(judge, "GET", "/bucket/key", 60)
    for seconds, expected in ((0, "NoSuchKey"), (890, "NoSuchKey"), (-890, "NoSuchKey"), (910, "skewed"), (-910, "skewed")):
        shift[0] = seconds
        reply = ask(good)
        assert code(reply) == ("RequestTimeTooSkewed" if expected == "skewed" else expected), seconds
        assert "Date" in reply.headers
    for seconds, expected in ((0, "NoSuchKey"), (50, "NoSuchKey"), (70, "AccessDenied"), (-910, "AccessDenied")):
        shift[0] = seconds
        assert code(httpx.get(link, trust_env=False)) == expected, seconds


def test_presigned(judge: JudgeThread) -> None:
    """A presigned URL is for exactly its method, path and query, and for as long as it says."""
    link = presigned(judge, "PUT", "/bucket/a%20key")
    assert httpx.put(link, content=b"x", trust_env=False).status_code == 200
    for changed in (link.replace("a%20key", "b"), link + "&partNumber=1", link.replace("Expires=60", "Expires=600")):
        refused = httpx.put(changed, content=b"x", trust_env=False)
        assert (refused.status_code, code(refused)) == (403, "SignatureDoesNotMatch")
    assert code(httpx.get(link, trust_env=False)) == "SignatureDoesNotMatch"
    assert code(httpx.put(link.replace("Expires=60", "Expires=700000"), content=b"x", trust_env=False)).startswith(
        "Authorization"
    )
    assert code(httpx.put(link, content=b"x", headers={"x-amz-acl": "public-read"}, trust_env=False)) == "AccessDenied"


def test_session_token(strict: Callable[..., tuple[JudgeThread, Any]]) -> None:
    """Keys with a token need exactly that token."""
    judge, _ = strict(keys={ACCESS_KEY: Key(SECRET_KEY, "the-token")})
    with client(judge) as without, pytest.raises(ClientError, match="InvalidToken"):
        without.list_multipart_uploads(Bucket="bucket")
    session = botocore.session.Session()
    found = session.create_client(
        "s3",
        endpoint_url=judge.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        aws_session_token="the-token",
    )
    assert found.list_multipart_uploads(Bucket="bucket")["ResponseMetadata"]["HTTPStatusCode"] == 200
    found.close()


def test_body_is_what_was_signed(judge: JudgeThread) -> None:
    """A body that is not the one whose hash was signed is refused, and nothing is stored."""
    good = signed(judge, "PUT", "/bucket/key", b"body", x_amz_content_sha256=hashlib.sha256(b"body").hexdigest())
    assert code(ask({**good, "content": b"BODY"})) == "XAmzContentSHA256Mismatch"
    assert not judge.shelf.objects
    assert ask(good).status_code == 200

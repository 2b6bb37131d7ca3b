"""SigV4 by the AWS runtime, at send time: a request that waited or is tried again is signed anew."""

from __future__ import annotations

import datetime
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from jettyctl.errors import AccessError
from jettyctl.net.http import Headers
from jettyctl.storage.s3.credentials import CredentialSource, Keys
from jettyctl.storage.s3.wire import http_date

if TYPE_CHECKING:  # imported with the first signature: it takes as long as the first connection, which is opened meanwhile
    from awscrt import auth
    from awscrt import http as crt_http

UNSIGNED = "UNSIGNED-PAYLOAD"
ADDED = ("X-Amz-Date", "X-Amz-Security-Token", "x-amz-content-sha256", "Authorization")  # what a signature brings
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Means(NamedTuple):
    """What one request is signed with. By the time of its answer others may be current: another request was answered first."""

    region: str
    keys: Keys | None  # None: it stays anonymous


class Signer:
    """Adds the headers that prove who asks. With no credential source, requests stay anonymous."""

    def __init__(self, source: CredentialSource | None, region: str) -> None:
        self._source = source
        self.region = region
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._provider: auth.AwsCredentialsProvider | None = None
        self._offset = datetime.timedelta()

    def means(self) -> Means:
        """What to sign a request with now. Raises AccessError if there are no credentials."""
        return Means(self.region, self._source.keys() if self._source else None)

    def sign(self, method: str, path: str, headers: Headers, payload_sha256: str, means: Means) -> Headers:
        """The headers of a request (its `host` among them) with date, payload hash and signature added.

        `path` is the target with its query, percent-encoded. Raises AccessError for credentials that cannot sign.
        """
        if means.keys is None:
            return headers
        signed = self._signed(method, path, headers, payload_sha256, means).headers
        return headers + [(name, value) for name in ADDED if (value := signed.get(name))]

    def presign(self, method: str, path: str, headers: Headers, payload_sha256: str, seconds: int, means: Means) -> str:
        """The target of a request that may be sent by somebody else, with exactly these headers, for so long."""
        if means.keys is None:
            return path
        signed: str = self._signed(method, path, headers, payload_sha256, means, seconds).path
        return signed

    def _signed(
        self, method: str, path: str, headers: Headers, payload: str, means: Means, presigned: int | None = None
    ) -> crt_http.HttpRequest:
        from awscrt import auth
        from awscrt import http as crt_http

        types, header_types = auth.AwsSignatureType, auth.AwsSignedBodyHeaderType
        config = auth.AwsSigningConfig(
            algorithm=auth.AwsSigningAlgorithm.V4,
            signature_type=types.HTTP_REQUEST_QUERY_PARAMS if presigned else types.HTTP_REQUEST_HEADERS,
            credentials_provider=self._provider_of(means.keys),
            region=means.region,
            service="s3",
            date=datetime.datetime.now(datetime.UTC) + self._offset,
            use_double_uri_encode=False,
            should_normalize_uri_path=False,
            signed_body_value=payload,
            signed_body_header_type=header_types.NONE if presigned else header_types.X_AMZ_CONTENT_SHA_256,
            expiration_in_seconds=presigned,
        )
        request = crt_http.HttpRequest(method, path, crt_http.HttpHeaders(headers))
        try:
            return auth.aws_sign_request(request, config).result(timeout=30)
        except Exception as error:  # noqa: BLE001 - the runtime raises bare exceptions of its own numbering
            raise AccessError(f"the request could not be signed: {error}", hint="Check the credentials.") from None

    def refresh(self, expired: Keys | None) -> bool:
        """Ask for new credentials where the store called these expired. False: there are no others."""
        if self._source is None:
            return False
        with self._lock:  # of many requests whose keys expired together, one asks
            return self._source.keys() != expired or self._source.keys(refresh=True) != expired

    def correct_clock(self, date_header: str) -> bool:
        """Take the server's clock for ours. False: the header is no date."""
        server = http_date(date_header)
        if server is None:
            return False
        self._offset = datetime.timedelta(seconds=server - time.time())
        return True

    def _provider_of(self, keys: Keys | None) -> auth.AwsCredentialsProvider:
        from awscrt import auth

        assert keys is not None
        with self._lock:
            if keys != self._keys or self._provider is None:
                self._keys = keys
                self._provider = auth.AwsCredentialsProvider.new_static(keys.access_key, keys.secret_key, keys.token)
            return self._provider

"""A control plane as a store: sessions, leases and signed addresses from it, the bytes straight to where these lead.

The client holds no storage credentials. An upload's id is its session's id, on every machine. A signed address is used
at once, and asked for anew when it ran out or was refused; nothing is sent there but the headers that came with it.
"""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from jettyctl.control import api, records, service
from jettyctl.control.api import AlreadyCompleted, ControlApi, NotThere
from jettyctl.control.keys import key_for
from jettyctl.control.lease import Keeper, Work
from jettyctl.control.service import Service
from jettyctl.core.model import SESSION_METADATA, Limits, ObjectInfo, ObjectOptions, Receipt, Upload, url_path
from jettyctl.core.names import printable
from jettyctl.errors import CorruptedInTransit, JettyError, ServerFault, StoreError, UploadGone, UsageError
from jettyctl.net.http import HttpClient, Reply
from jettyctl.storage.base import Body, SignedRequest

MINTS = 3  # signed addresses for one try of one part: the first, and two more when one is refused
Json = dict[str, Any]


class ControlStore:
    """Keeps the promises of `storage.base.Store`.

    `holder` tells control planes which of several machines asks. `take_over` takes sessions that another machine holds;
    `if_absent` says of all uploads, when they begin, that they must not replace an object.
    """

    def __init__(
        self,
        control: ControlApi,
        *,
        holder: str,
        take_over: bool = False,
        if_absent: bool = False,
        verify: bool = True,
        ca_file: str | None = None,
    ) -> None:
        self.control = control
        self._holder = {"holder": holder, "host": os.uname().nodename[:255]}
        self._take_over = take_over
        self._if_absent = if_absent
        self._verify = verify
        self._ca_file = ca_file
        self._clients: dict[str, HttpClient] = {}
        self._service: Service | None = None
        self._lock = threading.Lock()
        self._keeper = Keeper()

    @property
    def service(self) -> Service:
        """What the control plane says of itself: one call, at first use."""
        with self._lock:
            if self._service is None:
                self._service = service.ask(self.control)
            return self._service

    @property
    def limits(self) -> Limits:
        return self.service.limits

    @property
    def checksum(self) -> str:
        return self.service.checksum

    def head(self, key: str) -> ObjectInfo | None:
        try:
            answer = self.control.get("/object", key=key)
        except NotThere:
            return None
        return records.object_in(answer)

    def put(self, key: str, body: Body, options: ObjectOptions, *, if_absent: bool = False) -> ObjectInfo:
        session_id = options.metadata[SESSION_METADATA]
        upload = Upload(key, session_id, 0.0)
        sha256 = body.digest("sha256").hex()
        try:
            with suppress(UploadGone):  # perhaps an earlier try made the object, and its reply was lost: completing it tells
                self._begin(key, options, body.length, max(self.limits.min_part, body.length), sha256, if_absent)
                self.put_part(upload, 1, body)
            return self.complete(upload, (), size=body.length, crc64=body.crc64, sha256=sha256)
        finally:
            self.leave(session_id)

    def expect(self, key: str, requests: int) -> None:
        """There is nothing to wait for."""

    def round_trip(self) -> float | None:
        """Not known."""
        return None

    def farther_than(self, seconds: float) -> bool:
        """Not known, and not asked: the service looks before it begins."""
        return False

    def create(self, key: str, options: ObjectOptions, size: int | None, chunk_size: int) -> str:
        if not size:  # a stream; an empty file is not sent in parts
            raise UsageError(
                "a control plane must know the length of what is sent", hint="Write standard input to a file, and upload that."
            )
        return self._begin(key, options, size, chunk_size, None, self._if_absent)

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        work = self._work(upload)
        wanted = self._wanted(number, body)
        for left in reversed(range(MINTS)):
            signed = work.minting.sign(wanted)
            reply = self._http(signed.url).request(signed.method, signed.url, [*signed.headers.items()], body.slices())
            if not left or not _refused(signed, reply):
                break
        return self.accepted(signed, reply, upload, number, body, "")

    def sign_part(self, upload: Upload, number: int, body: Body) -> SignedRequest:
        """The request for one part, to be sent by an edge."""
        return self._work(upload).minting.sign(self._wanted(number, body))

    def accepted(self, signed: SignedRequest, reply: Reply, upload: Upload, number: int, body: Body, edge_id: str) -> Receipt:
        """The receipt in the answer to a signed request, told to the control plane with the next call. Raises the error in it."""
        minting = self._work(upload).minting
        try:
            receipt = self._receipt(signed, reply, upload, number, body)
        except UploadGone:
            minting.renew()  # the store does not say why: this raises it if another machine has taken over and ended it,
            self.list_parts(upload)  # and this if it is just ending it
            raise
        minting.received(records.receipt_json(receipt, edge_id))
        return receipt

    def list_parts(self, upload: Upload) -> list[Receipt]:
        work = self._work(upload)
        try:
            return self.stored_parts(upload.upload_id)
        except AlreadyCompleted as error:
            raise work.judged(error) from None

    def stored_parts(self, session_id: str) -> list[Receipt]:
        """The parts of a session, also of one that another machine works on. Raises UploadGone."""
        try:
            answer = self.control.get(f"/uploads/{url_path(session_id)}/parts")
        except NotThere as error:
            raise UploadGone(error.message) from None
        return [records.part_in(part) for part in api.listed(answer, "parts")]

    def complete(
        self,
        upload: Upload,
        receipts: Sequence[Receipt],
        *,
        size: int,
        crc64: int | None,
        sha256: str | None = None,
        if_absent: bool = False,
    ) -> ObjectInfo:
        assert crc64 is not None, "the engine hashes every file to its end"
        assert sha256 is not None, "the engine hashes every file to its end"
        work = self._work(upload)
        body = {
            "fence": work.fence,
            "fileHash": f"sha256:{sha256}",
            "crc64": f"{crc64:016x}",
            "size": size,
            "completed": work.minting.rest(),
        }
        try:
            answer = self.control.post(f"{work.path}/finalize", body, patience=api.FINALIZE_PATIENCE)
        except AlreadyCompleted as error:
            raise work.judged(error) from None
        self._keeper.drop(upload.upload_id)
        metadata = MappingProxyType({SESSION_METADATA: upload.upload_id})
        return ObjectInfo(api.whole(answer, "size"), api.text(answer, "etag"), api.crc_in(answer, "crc64"), metadata=metadata)

    def abort(self, upload: Upload) -> None:
        """As promised, unless another machine works on it: raises SessionBusy."""
        try:
            self._work(upload)
            self.give_up(upload.upload_id)
        except UploadGone:
            self._keeper.drop(upload.upload_id)

    def give_up(self, session_id: str) -> None:
        """End a session and remove its parts, whoever works on it. Idempotent."""
        self._keeper.drop(session_id)
        try:
            self.control.delete(f"/uploads/{url_path(session_id)}")
        except (NotThere, UploadGone):
            return

    def list_uploads(self, key: str) -> list[Upload]:
        answer = self.control.get("/sessions", status="in_progress", limit="1000")
        return [
            Upload(key, api.text(session, "sessionId"), api.number(session, "startedAt"))
            for session in api.listed(answer, "sessions")
            if session.get("key") == key
        ]

    def read(self, key: str) -> Iterator[bytes]:
        with self.control.download("/object/content", key=key) as (reply, pieces):
            if reply.status < 300:
                yield from pieces
                return
            url = self._checked(reply.headers.get("location", ""))
        with self._http(url).download(url, [("accept-encoding", "identity"), ("user-agent", "jettyctl")]) as (reply, pieces):
            if reply.status >= 300:
                raise self._refusal(reply, f"reading {printable(key)}")
            yield from pieces

    def copy(self, source_key: str, key: str, options: ObjectOptions, size: int, *, if_absent: bool = False) -> ObjectInfo:
        raise StoreError("a control plane copies nothing by name", hint="Upload the file: what is known there is not sent again.")

    def delete(self, key: str) -> None:
        try:
            found = self.control.get("/object", key=key)
        except NotThere:
            return
        self.control.delete(f"/files/{url_path(api.text(found, 'fileId'))}")

    def take(self, session_id: str) -> api.Json:
        """Become the holder of a session; what the control plane says of it. Raises SessionBusy, UploadGone."""
        body = {**self._holder, "takeOver": self._take_over}
        try:
            answer = self.control.post(f"/sessions/{url_path(session_id)}/lease", body)
        except NotThere as error:
            raise UploadGone(error.message) from None
        self._keeper.add(session_id, self._new_work(session_id, answer))
        return api.mapping(answer, "session")

    def leave(self, session_id: str) -> None:
        """Let the lease of a session run out, unless something is asked of it again."""
        if work := self._keeper.get(session_id):
            work.left = True

    def cancel(self, thread: int) -> None:
        self.control.http.cancel(thread)
        for client in list(self._clients.values()):
            client.cancel(thread)

    def interrupt(self) -> None:
        self.control.http.interrupt()
        for client in list(self._clients.values()):
            client.interrupt()

    def close(self) -> None:
        for work in self._keeper.close():
            work.tell_rest()
        self.control.close()
        for client in self._clients.values():
            client.close()

    def _begin(
        self, key: str, options: ObjectOptions, size: int, chunk_size: int, sha256: str | None, if_absent: bool
    ) -> str:
        session_id = options.metadata[SESSION_METADATA]
        body = {
            "sessionId": session_id,
            "fileSize": size,
            "chunkSize": chunk_size,
            **({"fileHash": f"sha256:{sha256}"} if sha256 else {}),
            **records.described(key, options, if_absent=if_absent),
            **self._holder,
        }
        answer = self.control.post("/uploads", body)
        self._keeper.add(session_id, self._new_work(session_id, answer))
        return session_id

    def _work(self, upload: Upload) -> Work:
        """The session under lease, which is taken now if this process does not have it yet."""
        if self._keeper.get(upload.upload_id) is None:
            self.take(upload.upload_id)
        work = self._keeper.get(upload.upload_id)
        assert work is not None
        work.left = False
        return work

    def _new_work(self, session_id: str, answer: api.Json) -> Work:
        return Work(self.control, session_id, answer, self._signed)

    def _wanted(self, number: int, body: Body) -> Json:
        wanted: Json = {"number": number, "length": body.length, "crc64": f"{body.crc64:016x}"}
        checksum = self.checksum
        if checksum == "md5":
            wanted["md5"] = base64.b64encode(body.digest("md5")).decode()
        elif checksum == "sha256":
            wanted["sha256"] = body.digest("sha256").hex()
        return wanted

    def _signed(self, part: api.Json, asked: Json) -> SignedRequest:
        headers = api.mapping(part, "headers")
        fits = api.whole(part, "number") == asked["number"] and api.text(part, "method") == "PUT"
        if not fits or not all(name.isascii() and api.encodable(value) for name, value in headers.items()):
            raise ServerFault("the control plane signed another request than it was asked for")
        sent = {name.lower(): value for name, value in headers.items()} | {"content-length": str(asked["length"])}
        url = self._checked(api.text(part, "url"))
        return SignedRequest("PUT", url, MappingProxyType(sent), api.number(part, "expiresAt"))

    def _checked(self, url: str) -> str:
        """An address that bytes may go to or come from: the way there is as safe as that to the control plane itself."""
        plain = url.startswith("http://") and self.control.origin.startswith("http://")  # which is this machine only
        if not plain and not url.startswith("https://"):
            raise StoreError(
                "the control plane sends the bytes by an address without TLS",
                hint="Tell its operator: the store's endpoint must be https.",
            )
        if not api.is_address(url):
            raise ServerFault("the control plane sends the bytes to an address that is none")
        return url

    def _http(self, url: str) -> HttpClient:
        """The client for an address: that of the control plane itself, or one without its key."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin == self.control.origin:
            return self.control.http
        with self._lock:
            if origin not in self._clients:
                self._clients[origin] = HttpClient(origin, verify=self._verify, ca_file=self._ca_file)
            return self._clients[origin]

    def _receipt(self, signed: SignedRequest, reply: Reply, upload: Upload, number: int, body: Body) -> Receipt:
        what = f"part {number} of {printable(upload.key)}"
        if not 200 <= reply.status < 300:
            raise self._refusal(reply, what)
        etag = reply.headers.get("etag", "").strip('"')
        if not etag:
            raise ServerFault(f"{what}: the reply has no ETag", hint="Something in between answered for the store.")
        if self.checksum == "etag" and etag != body.digest("md5").hex():
            raise CorruptedInTransit(f"{what}: the store's MD5 is not that of the bytes sent")
        return Receipt(number, body.length, etag, body.crc64)

    def _refusal(self, reply: Reply, what: str) -> JettyError:
        """The error in an answer to a signed request: of the service itself, by whatever name, or of an S3 server."""
        if self.service.kind == "local":
            return api.error_of(reply)
        from jettyctl.storage.s3 import wire  # what goes well needs no XML

        return wire.error_of(reply, what)


def client_of(origin: str, *, verify: bool = True, ca_file: str | None = None) -> ControlApi:
    """The control plane at an origin, with the key that is kept for it. Raises AccessError if there is none."""
    return ControlApi(origin, key_for(origin), verify=verify, ca_file=ca_file)


def holder_of(path: str) -> str:
    """The name of this data directory on this machine, unlike all others: kept in a file that the first call makes.

    Within it the journal lets one process at a time work on a session, so the next one may go on with a killed one's lease.
    """
    try:
        with open(path, encoding="ascii") as file:
            kept = file.read(64).strip()
    except (OSError, ValueError):
        kept = ""
    if len(kept) != 32 or not kept.isalnum():
        kept = os.urandom(16).hex()
        temporary = f"{path}.{kept[:8]}.tmp"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w", encoding="ascii") as file:
                file.write(kept)
            os.replace(temporary, path)
        except OSError:
            return kept  # for this process only: the next one has to wait until its leases run out
    return f"{kept}@{os.uname().nodename}"[:128]


def _refused(signed: SignedRequest, reply: Reply) -> bool:
    """Whether another signature may help. What has expired is a 403 at most stores, a 400 at some."""
    return reply.status == 403 or (reply.status == 400 and time.time() >= signed.expires_at)

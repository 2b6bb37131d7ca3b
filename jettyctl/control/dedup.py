"""Asking a control plane for a clone: by a sample, then by a hash and a proof that the bytes are here."""

from __future__ import annotations

from jettyctl.control import api
from jettyctl.control.api import NotThere
from jettyctl.control.records import described
from jettyctl.control.store import ControlStore
from jettyctl.core.model import ObjectInfo, ObjectOptions
from jettyctl.errors import ServerFault
from jettyctl.storage.dedup import Challenge


class ControlDedup:
    """Keeps the promises of `storage.dedup.Dedup`."""

    def __init__(self, store: ControlStore) -> None:
        self._store = store
        self._control = store.control

    @property
    def smallest(self) -> int:
        return self._store.service.smallest

    def may_be_known(self, size: int, sample: str) -> bool:
        return self._control.post("/fingerprint", {"size": size, "sample": sample}).get("mayBeKnown") is True

    def challenge(self, size: int, blake3: str) -> Challenge:
        answer = self._control.post("/clones/challenge", {"size": size, "blake3": blake3})
        try:
            seed = bytes.fromhex(api.text(answer, "seed"))
        except ValueError:
            raise ServerFault("the control plane's challenge makes no sense") from None
        return Challenge(api.text(answer, "nonce"), seed, self._store.service.user_id)

    def clone(
        self, challenge: Challenge, proven: str, key: str, options: ObjectOptions, *, if_absent: bool
    ) -> ObjectInfo | None:
        body = {"nonce": challenge.nonce, "proof": proven, **described(key, options, if_absent=if_absent)}
        try:
            answer = self._control.post("/clones", body, patience=api.FINALIZE_PATIENCE)
        except NotThere:
            return None
        algorithm, _, sha256 = api.text(answer, "fileHash").partition(":")
        return ObjectInfo(
            size=api.whole(answer, "size"),
            etag=api.text(answer, "etag"),
            crc64=api.crc_in(answer, "crc64"),
            sha256=sha256 if algorithm == "sha256" else None,
        )

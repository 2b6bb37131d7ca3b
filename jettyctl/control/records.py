"""Objects and parts as JSON: what is told to a control plane, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jettyctl.control import api
from jettyctl.core.model import SESSION_METADATA, ObjectInfo, ObjectOptions, Receipt
from jettyctl.errors import UsageError

Json = dict[str, Any]


def described(key: str, options: ObjectOptions, *, if_absent: bool) -> Json:
    """What is said of an object that is to be made. Raises UsageError for what only the operator decides."""
    refused = [name for name in ("acl", "sse", "sse_kms_key_id") if getattr(options, name) is not None]
    if refused:
        raise UsageError(
            f"--{refused[0].replace('_', '-')} cannot be chosen for uploads through a control plane: its operator decides it",
            hint="Leave the option out.",
        )
    said = {"contentType": options.content_type, "cacheControl": options.cache_control, "storageClass": options.storage_class}
    return {
        "key": key,
        "fileName": key.rsplit("/", 1)[-1] or key,
        "metadata": {name.lower(): value for name, value in options.metadata.items() if name != SESSION_METADATA},
        "ifExists": "fail" if if_absent else "overwrite",
        **{name: value for name, value in said.items() if value is not None},
    }


def object_in(answer: api.Json) -> ObjectInfo:
    """An object as the control plane describes it. Raises ServerFault."""
    metadata: Mapping[str, object] = api.mapping(answer, "metadata")
    known = {name: value for name, value in metadata.items() if isinstance(value, str)}
    sha256 = answer.get("sha256")
    return ObjectInfo(
        size=api.whole(answer, "size"),
        etag=api.text(answer, "etag"),
        crc64=api.crc_in(answer, "crc64"),
        sha256=sha256 if isinstance(sha256, str) else None,
        metadata=MappingProxyType(known),
    )


def part_in(part: api.Json) -> Receipt:
    """A part that the store has. Raises ServerFault."""
    return Receipt(api.whole(part, "number"), api.whole(part, "size"), api.text(part, "etag"), api.crc_in(part, "crc64"))


def receipt_json(receipt: Receipt, edge_id: str) -> Json:
    """A part that was sent, as the control plane is told of it."""
    crc = f"{receipt.crc64:016x}" if receipt.crc64 is not None else ""
    return {"number": receipt.number, "etag": receipt.etag, "crc64": crc, "length": receipt.size, "edgeId": edge_id}

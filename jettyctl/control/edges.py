"""The edges of a control plane: asked for, and as a route for parts that it signs."""

from __future__ import annotations

from jettyctl.control import api
from jettyctl.control.store import ControlStore
from jettyctl.core.edge_rules import checked
from jettyctl.core.model import Receipt, Upload
from jettyctl.core.scoring import Edge
from jettyctl.edges.base import EdgeChoice
from jettyctl.errors import UsageError
from jettyctl.files.crc import to_base64
from jettyctl.net.http import HttpClient, Patience
from jettyctl.storage.base import Body
from jettyctl.storage.limit import LimitedBody, RateLimit

EDGE_IDLE = 10.0  # seconds; what an edge does not take in time, another route does


def fresh_edges(store: ControlStore, size: int, choice: EdgeChoice) -> list[Edge]:
    """The edges that answered the control plane's monitor a moment ago, best first. Raises JettyError.

    None for an embedded store, which no edge reaches, and for one where nothing would notice a broken edge.
    """
    if store.service.kind != "s3" or store.checksum == "none":
        return []
    body: dict[str, object] = {
        "userId": store.service.user_id,
        "fileSize": size,
        "fileHash": "unknown",  # it is hashed on the way
        "priority": choice.priority,
        **({"budget": choice.budget} if choice.budget is not None else {}),
        **({"userLocation": {"lat": choice.location.lat, "lng": choice.location.lng}} if choice.location else {}),
    }
    answer = store.control.post("/optimal-edges", body)
    return [edge for told in api.listed(answer, "edges") if told.get("fresh") is True and (edge := _edge(told))]


def _edge(told: api.Json) -> Edge | None:
    """An edge as it was named, if its address is one that edges may have."""
    try:
        return checked(Edge(api.text(told, "id"), api.text(told, "url")))
    except UsageError:
        return None


class ControlEdgeRoute:
    """Keeps the promises of `storage.base.Route`: the request that the control plane signed, sent to the edge's address."""

    def __init__(self, edge: Edge, store: ControlStore, *, limit: RateLimit | None, ca_file: str | None) -> None:
        self.id = edge.id
        self._address = edge.url.rstrip("/")
        self._store = store
        self._limit = limit
        self._http = HttpClient(edge.url, ca_file=ca_file, patience=Patience(idle=EDGE_IDLE))

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        signed = self._store.sign_part(upload, number, body)
        digest = [("content-digest", f"crc64nvme=:{to_base64(body.crc64)}:"), ("accept-encoding", "identity")]
        sent = LimitedBody(body, self._limit) if self._limit else body
        reply = self._http.request("PUT", self._address + signed.target, [*signed.headers.items(), *digest], sent.slices())
        return self._store.accepted(signed, reply, upload, number, body, self.id)

    def cancel(self, thread: int) -> None:
        self._http.cancel(thread)

    def interrupt(self) -> None:
        self._http.interrupt()

    def close(self) -> None:
        self._http.close()

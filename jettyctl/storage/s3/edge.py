"""An edge as a route: the signed part request of an S3 store, sent to the edge's address instead of the store's."""

from __future__ import annotations

from jettyctl.core.model import Receipt, Upload
from jettyctl.net.http import HttpClient, Patience
from jettyctl.storage.base import Body
from jettyctl.storage.limit import LimitedBody, RateLimit
from jettyctl.storage.s3.client import S3Store

EDGE_IDLE = 10.0  # seconds; what an edge does not take in time, another route does


class EdgeRoute:
    """Keeps the promises of `storage.base.Route`. `limit` is the rate limit of the whole run."""

    def __init__(self, edge_id: str, url: str, store: S3Store, *, limit: RateLimit | None, ca_file: str | None) -> None:
        self.id = edge_id
        self._address = url.rstrip("/")
        self._store = store
        self._limit = limit
        self._http = HttpClient(url, ca_file=ca_file, patience=Patience(idle=EDGE_IDLE))

    def put_part(self, upload: Upload, number: int, body: Body) -> Receipt:
        sent = LimitedBody(body, self._limit) if self._limit else body
        return self._store.put_part_by(self._http, self._address, upload, number, sent)

    def cancel(self, thread: int) -> None:
        self._http.cancel(thread)

    def interrupt(self) -> None:
        self._http.interrupt()

    def close(self) -> None:
        self._http.close()

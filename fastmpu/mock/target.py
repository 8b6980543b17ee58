"""What a target answers: objects and uploads, from its own store (protocol 1.3, 4, 5)."""

from __future__ import annotations

import random

from fastmpu.mock import target_objects, target_uploads
from fastmpu.mock.answers import Answer, Dropped, Refusal, quoted
from fastmpu.mock.archives import member
from fastmpu.mock.buckets import Bucket, Buckets
from fastmpu.mock.cluster_map import ClusterMap
from fastmpu.mock.heads import Request
from fastmpu.mock.messages import parse_message
from fastmpu.mock.names import bck_of, check_object_name
from fastmpu.mock.routing import Resource, daemon_resource, dispatch, object_in_path
from fastmpu.mock.server import Exchange
from fastmpu.mock.signing import Signer
from fastmpu.mock.store import Store
from fastmpu.mock.uploads import Uploads

__all__ = ["TargetNode"]

_NOT_OURS = ("append_type", "append_handle", "archregx", "etl_name", "etl_pipeline", "object_to")


class TargetNode:
    """One target: a store, its unfinished uploads, and the routes to them."""

    def __init__(
        self,
        id_: str,
        store: Store,
        buckets: Buckets,
        cluster_map: ClusterMap,
        generator: random.Random,
        *,
        signer: Signer | None = None,
        mediated: bool = False,
    ) -> None:
        """`mediated`: nobody comes here but by the proxy, as with tokens or signed redirects (protocol 1.3)."""
        self.id = id_
        self.label = f"t[{id_}]"
        self.store = store
        self.uploads = Uploads(store, self.label, generator)
        self._buckets = buckets
        self._map = cluster_map
        self._signer = signer
        self._mediated = mediated
        self._resources = {
            "objects": Resource(
                {
                    "GET": self._get,
                    "HEAD": self._head,
                    "PUT": self._put,
                    "POST": self._post,
                    "DELETE": self._delete,
                    "PATCH": self._patch,
                },
                "DELETE, GET, HEAD, POST, PUT",
            ),
            "daemon": daemon_resource(cluster_map),
            "health": Resource({"GET": lambda exchange, rest: Answer()}, "GET"),
        }

    def handle(self, exchange: Exchange) -> Answer:
        return dispatch(exchange, self._resources)

    def _get(self, exchange: Exchange, rest: str) -> Answer:
        bucket, name = self._object(exchange, rest)
        if path := exchange.request.query.value("archpath"):
            return self._get_archived(bucket, name, path)
        return target_objects.get(self.store, bucket, name, exchange.request, self.label)

    def _get_archived(self, bucket: Bucket, name: str, path: str) -> Answer:
        """One file out of a shard."""
        found = self.store.find(bucket.bck, name)
        if found is None:
            raise Refusal(404, f"{self.label}: {bucket.bck}/{name} does not exist", "ErrNotFound")
        try:
            data = member(name, self.store.read(found, 0, found.size).read(), path)
        except LookupError as error:
            raise Dropped from error
        if data is None:
            raise Refusal(404, f'"{path}" not found in archive "{bucket.bck}/{name}"', "ErrNotFound")
        return Answer(200, [("Content-Type", "application/octet-stream")], data)

    def _head(self, exchange: Exchange, rest: str) -> Answer:
        bucket, name = self._object(exchange, rest)
        return target_objects.head(self.store, bucket, name, exchange.request, self.label)

    def _put(self, exchange: Exchange, rest: str) -> Answer:
        bucket, name = self._object(exchange, rest, marked=True)
        if exchange.request.query.value("uploadId"):
            return target_uploads.put_part(self.uploads, bucket.bck, name, exchange)
        return target_objects.put(self.store, bucket, name, exchange)

    def _delete(self, exchange: Exchange, rest: str) -> Answer:
        body = exchange.body.read_all()
        action = parse_message(body, self.label).action if body else ""
        bucket, name = self._object(exchange, rest, marked=True)
        if action == "mpt-abort":
            return target_uploads.abort(self.uploads, bucket.bck, name, exchange)
        return target_objects.delete(self.store, bucket, name)

    def _post(self, exchange: Exchange, rest: str) -> Answer:
        message = parse_message(exchange.body.read_all(), self.label)
        # A missing bucket is a 400 here, and a 404 everywhere else (protocol 2).
        bucket, name = self._object(exchange, rest, marked=True, missing=400)
        if message.action == "mpt-upload":
            return target_uploads.create(self.uploads, bucket, name)
        if message.action == "mpt-complete":
            return target_uploads.complete(self.uploads, bucket.bck, name, exchange, message, self.label)
        raise Refusal(400, f"invalid action {quoted(message.action)}")

    def _patch(self, exchange: Exchange, rest: str) -> Answer:
        bucket, name = self._object(exchange, rest, marked=True)
        message = parse_message(exchange.body.read_all(), self.label)
        return target_objects.set_custom(self.store, bucket, name, exchange.request, message, self.label)

    def _check_marker(self, request: Request, *, marked: bool) -> None:
        """Writes must come with a redirect's marker, whatever is in it, unless redirects are signed."""
        if request.query.raw_value("pid") and request.query.raw_value("utm"):
            if self._signer is not None:
                self._signer.check(request, self._map.proxy.id, self._map.version)
        elif self._mediated:
            raise Refusal(403, "direct target access denied")
        elif marked:
            raise Refusal(400, f"{self.label}: {request.method}(obj) is expected to be redirected")

    def _object(self, exchange: Exchange, rest: str, *, marked: bool = False, missing: int = 404) -> tuple[Bucket, str]:
        """The object a request is about, if the proxy has sent the client here or need not have.

        Whether the name can be stored is asked in AIStore's order: first of all for PUT, never for POST.
        """
        request = exchange.request
        bucket_name, name = object_in_path(exchange, rest)
        bck = bck_of(bucket_name, request.query)
        if request.method == "PUT":
            check_object_name(name)
        self._check_marker(request, marked=marked)
        if request.method not in ("PUT", "POST"):
            check_object_name(name, to_read=request.method == "HEAD")
        bucket = self._buckets.find(bck, missing=missing)
        for parameter in _NOT_OURS:
            if request.query.raw_value(parameter):
                raise Refusal(501, f"this is a mock of AIStore: it does not know '{parameter}'")
        if marked and not self.store.quirks.any_target_accepts:
            owner = self._map.owner(bucket.bck.uname(name))
            if owner.id != self.id:
                raise Refusal(400, f"{self.label}: {bucket.bck}/{name} is misplaced, its owner is {owner.label}")
        return bucket, name

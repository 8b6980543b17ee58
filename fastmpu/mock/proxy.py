"""What the proxy answers: buckets and lists by itself, objects by sending the client to their owner (protocol 1, 3)."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import partial

from fastmpu.mock import s3
from fastmpu.mock.answers import Answer, Headers, Refusal, json_answer, quoted
from fastmpu.mock.auth import Tokens
from fastmpu.mock.buckets import Bucket, Buckets
from fastmpu.mock.cluster_map import ClusterMap, new_id
from fastmpu.mock.listing import Shelf, list_objects
from fastmpu.mock.messages import Message, parse_message
from fastmpu.mock.names import Bck, bck_of, check_bucket_name, check_object_name
from fastmpu.mock.quirks import Quirks
from fastmpu.mock.redirects import redirect
from fastmpu.mock.routing import Resource, daemon_resource, dispatch, object_in_path
from fastmpu.mock.server import Exchange
from fastmpu.mock.signing import Signer

__all__ = ["ProxyNode"]

_UPLOAD_ACTIONS = {"mpt-upload", "mpt-complete", "mpt-abort"}
_LIMITED = ("GET", "PUT", "DELETE")  # what a bucket's rate limit counts
_PERMISSIONS = {
    "GET": "GET",
    "HEAD": "HEAD-OBJECT",
    "PUT": "PUT",
    "POST": "PUT",
    "DELETE": "DELETE-OBJECT",
    "PATCH": "UPDATE-OBJECT",
}


class ProxyNode:
    """The one proxy: it knows the map and the buckets, and keeps no bytes."""

    def __init__(
        self,
        cluster_map: ClusterMap,
        buckets: Buckets,
        shelves: Callable[[], list[Shelf]],
        quirks: Quirks,
        generator: random.Random,
        tokens: Tokens | None = None,
        signer: Signer | None = None,
    ) -> None:
        self.label = cluster_map.proxy.label
        self._tokens = tokens
        self._signer = signer
        self._map = cluster_map
        self._buckets = buckets
        self._shelves = shelves
        self._quirks = quirks
        self._generator = generator
        self._started = time.monotonic_ns()
        to_owner = dict.fromkeys(("GET", "HEAD", "PUT", "DELETE", "PATCH"), self._to_owner)
        self._resources = {
            "objects": Resource({**to_owner, "POST": self._post_object}, "DELETE, GET, HEAD, POST, PUT"),
            "buckets": Resource(
                {
                    "GET": self._get_bucket,
                    "HEAD": self._head_bucket,
                    "POST": self._post_bucket,
                    "PATCH": self._patch_bucket,
                    "DELETE": self._delete_bucket,
                },
                "DELETE, GET, HEAD, PATCH, POST",
            ),
            "daemon": daemon_resource(cluster_map, lambda exchange: self._allow(exchange, "SHOW-CLUSTER")),
            "health": Resource({"GET": self._health}, "GET"),
        }

    def handle(self, exchange: Exchange) -> Answer:
        if exchange.request.path.startswith(s3.ROOT):
            return s3.answer_s3(exchange, partial(self._listable, exchange), self._shelves())
        return dispatch(exchange, self._resources)

    def _allow(self, exchange: Exchange, permission: str, bck: Bck | None = None) -> None:
        if self._tokens is not None:
            self._tokens.check(exchange.request, permission, bck)

    # -- objects

    def _to_owner(self, exchange: Exchange, rest: str) -> Answer:
        request = exchange.request
        bucket_name, name = object_in_path(exchange, rest)
        bck = bck_of(bucket_name, request.query)
        self._allow(exchange, _PERMISSIONS[request.method], bck)
        bucket = self._find(bck)
        if request.method != "HEAD":
            check_object_name(name)
        if request.method in _LIMITED:
            bucket.take_token(request.method)
        return self._redirect(exchange, bucket, name)

    def _post_object(self, exchange: Exchange, rest: str) -> Answer:
        """The message is read first; whether the name can be stored, nobody asks (protocol 1.6)."""
        bucket_name, name = object_in_path(exchange, rest)
        bck = bck_of(bucket_name, exchange.request.query)
        self._allow(exchange, _PERMISSIONS["POST"], bck)
        message = self._message(exchange)
        if message.action not in _UPLOAD_ACTIONS:
            check_bucket_name("")  # what AIStore says, as it looks for a bucket in the message (protocol 10)
        return self._redirect(exchange, self._find(bck), name)

    def _redirect(self, exchange: Exchange, bucket: Bucket, name: str) -> Answer:
        try:
            owner = self._map.owner(bucket.bck.uname(name))
        except LookupError as error:
            raise Refusal(503, f"{self.label}: {error}") from error
        return redirect(
            exchange.request,
            self._map.proxy,
            owner,
            raw=self._quirks.raw_location,
            signer=self._signer,
            map_version=self._map.version,
        )

    # -- buckets

    def _get_bucket(self, exchange: Exchange, rest: str) -> Answer:
        request = exchange.request
        body = exchange.body.read_all()
        if body or request.header("content-type").startswith("application/json"):
            message = parse_message(body, self.label)
        else:
            message = Message("list", "", {})
        if message.action != "list":
            raise Refusal(400, f"invalid action {quoted(message.action)}")
        name = rest.strip("/")
        if not name:
            self._allow(exchange, "LIST-BUCKETS")
            return self._list_buckets(exchange)
        bck = bck_of(name, request.query)
        self._allow(exchange, "LIST-OBJECTS", bck)
        bucket = self._find(bck)
        if message.value is None:
            raise Refusal(400, f'bad list-buckets request: "{name}" vs "" ({bck}, actm[list])')
        msgpack = "application/msgpack" in request.header("accept")
        uuid = new_id(self._generator, 9)
        return list_objects(
            self._shelves(), self._map, bucket.bck, message.value, node=self.label, uuid=uuid, msgpack=msgpack
        )

    def _list_buckets(self, exchange: Exchange) -> Answer:
        query = exchange.request.query
        asked = bck_of("", query)
        found = [
            {
                "name": bck.name,
                "provider": bck.provider,
                "namespace": {"uuid": bck.uuid, "name": bck.namespace},
            }
            for bck in self._buckets.all()
            if bck.provider == asked.provider and (not query.value("namespace") or bck.scope == asked.scope)
        ]
        return json_answer(found or None)

    def _head_bucket(self, exchange: Exchange, rest: str) -> Answer:
        bucket = self._find(self._bck(exchange, rest, "HEAD-BUCKET"))
        return Answer(200, [("Ais-Bucket-Props", json.dumps(bucket.props, separators=(",", ":")))])

    def _post_bucket(self, exchange: Exchange, rest: str) -> Answer:
        message = self._message(exchange)
        self._refuse_unless(message, "create-bck")
        self._buckets.create(self._bck(exchange, rest, "CREATE-BUCKET"), message.value, self.label)
        return Answer()

    def _patch_bucket(self, exchange: Exchange, rest: str) -> Answer:
        message = self._message(exchange)
        self._refuse_unless(message, "set-bprops")
        self._buckets.set_props(self._bck(exchange, rest, "PATCH"), message.value, self.label)
        return Answer()

    def _delete_bucket(self, exchange: Exchange, rest: str) -> Answer:
        message = self._message(exchange)
        self._refuse_unless(message, "destroy-bck")
        bck = self._bck(exchange, rest, "DESTROY-BUCKET")
        self._buckets.destroy(bck, self.label)
        for shelf in self._shelves():
            shelf.store.drop_bucket(bck)
        return Answer()

    # -- the rest

    def _health(self, exchange: Exchange, rest: str) -> Answer:
        uptime = str(time.monotonic_ns() - self._started)
        headers: Headers = [("Ais-Cluster-Uptime", uptime), ("Ais-Node-Uptime", uptime)]
        return Answer(200, headers)

    def _bck(self, exchange: Exchange, rest: str, permission: str) -> Bck:
        """The bucket that a request is about, if the client may do that to it."""
        bck = bck_of(rest.strip("/"), exchange.request.query)
        self._allow(exchange, permission, bck)
        return bck

    def _listable(self, exchange: Exchange, bck: Bck) -> Bucket:
        self._allow(exchange, "LIST-OBJECTS", bck)
        return self._find(bck)

    def _find(self, bck: Bck) -> Bucket:
        return self._buckets.find(bck, proxy=self.label)

    def _message(self, exchange: Exchange) -> Message:
        return parse_message(exchange.body.read_all(), self.label)

    @staticmethod
    def _refuse_unless(message: Message, action: str) -> None:
        if message.action != action:
            raise Refusal(400, f"invalid action {quoted(message.action)}")

"""From a request's path to the function that answers it; what every node has in common (protocol 1.1, 2, 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastmpu.mock.answers import Answer, Refusal, json_answer
from fastmpu.mock.cluster_map import ClusterMap
from fastmpu.mock.server import Exchange

__all__ = ["Resource", "daemon_resource", "dispatch", "object_in_path"]

_ROOT = "/v1/"

Route = Callable[[Exchange, str], Answer]
"""Takes the exchange and what follows the resource's name in the path, its slash included."""


@dataclass(frozen=True)
class Resource:
    """What may be done to `/v1/<name>`, and what a 405 says about it."""

    methods: Mapping[str, Route]
    allow: str


def dispatch(exchange: Exchange, resources: Mapping[str, Resource]) -> Answer:
    """Let the right function answer."""
    request = exchange.request
    if request.header("ais-caller-id"):
        raise Refusal(403, "unexpected intra-cluster header on pub")
    name, slash, rest = request.path.removeprefix(_ROOT).partition("/")
    resource = resources.get(name) if request.path.startswith(_ROOT) else None
    if resource is None:
        raise Refusal(400, f"invalid request URI: '{request.method} {request.path}' from {exchange.peer}")
    if request.method == "OPTIONS":
        return Answer(200, [("Allow", resource.allow)])
    if request.method not in resource.methods:
        headers = [("Allow", resource.allow), ("Content-Type", "text/plain; charset=utf-8")]
        return Answer(405, [*headers, ("X-Content-Type-Options", "nosniff")], b"Method Not Allowed\n")
    return resource.methods[request.method](exchange, slash + rest)


def object_in_path(exchange: Exchange, rest: str) -> tuple[str, str]:
    """The bucket and the object that a path names; empty segments belong to the object."""
    bucket, _, name = rest[1:].partition("/")
    if not name:
        path = exchange.request.path[1:]
        raise Refusal(400, f"URL '{path}' is too short: expected 4 items, got {3 if bucket else 2}")
    return bucket, name


def daemon_resource(cluster_map: ClusterMap, allow: Callable[[Exchange], None] | None = None) -> Resource:
    """`/v1/daemon`: every node knows the map. The proxy asks `allow` who may see it."""

    def get(exchange: Exchange, rest: str) -> Answer:
        if allow is not None:
            allow(exchange)
        what = exchange.request.query.value("what")
        if what != "smap":
            raise Refusal(400, f"invalid '/v1/daemon' request: unrecognized 'what={what}' query")
        return json_answer(cluster_map.as_json())

    return Resource({"GET": get}, "DELETE, GET, PATCH, POST, PUT")
